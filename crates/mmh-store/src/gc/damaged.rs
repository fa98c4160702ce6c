//! Packs that a repair set aside: kept as long as a chunk that is needed may be in nothing else,
//! then deleted in two phases like any other. Nobody reads or relies on them, so that no fence is
//! needed; the time between the phases is for people.

use super::note::{TombNote, TombTag};
use super::run::Run;
use crate::error::Result;
use crate::names;

impl Run<'_> {
    /// Lays tombs on packs that were set aside, and deletes those with old ones. Called once every
    /// chunk that is needed was found elsewhere.
    pub(super) async fn tend_set_aside(&mut self) -> Result<()> {
        let backend = self.store.backend();
        for (name, len) in backend.list(names::DAMAGED).await? {
            self.cancel.check()?;
            let Some(pack) = names::parse_damaged(&name) else {
                continue;
            };
            let tomb = names::damaged_tomb(&pack);
            match self.laid_ms(&tomb).await? {
                None => self.lay(&tomb).await?,
                Some(laid_ms) if self.is_ripe(laid_ms) => {
                    backend.delete(&name).await?;
                    backend.delete(&tomb).await?;
                    self.report_mut().deleted_set_aside += 1;
                    self.report_mut().deleted_set_aside_bytes += len;
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// When a tomb was laid; of a damaged one nobody knows, so now.
    async fn laid_ms(&self, tomb: &str) -> Result<Option<u64>> {
        let backend = self.store.backend();
        if backend.len(tomb).await?.is_none() {
            return Ok(None);
        }
        let note = backend.read_note_if_whole::<TombNote>(tomb).await?;
        Ok(Some(note.map_or(self.now_ms, |note| note.time_ms)))
    }

    async fn lay(&self, tomb: &str) -> Result<()> {
        let note = TombNote {
            r#type: TombTag::Tag,
            time_ms: self.store.clock().now_ms(),
        };
        self.store.backend().write_note(tomb, &note).await
    }
}

#[cfg(test)]
mod tests {
    use mmh_core::PackId;

    use super::*;

    #[test]
    fn names_of_what_was_set_aside_are_those_of_no_others() {
        let pack = PackId::of(b"p");
        let (name, tomb) = (names::damaged(&pack), names::damaged_tomb(&pack));
        assert_eq!(names::parse_damaged(&name), Some(pack));
        assert_eq!(names::parse_tomb(&tomb), None, "its pack is gone already");
        assert_eq!(names::parse_damaged(&tomb), None);
        assert_eq!(names::parse_pack(&name), None);
    }
}
