//! Making shards whole again, and empty stores part of a stripe in the place of lost ones.
//!
//! A replacement takes three steps. A note of a new epoch seats the new store, on all that are
//! left: who still writes under the old one learns of it before it acknowledges anything, and
//! nobody writes under the new one yet. Then every shard that the new store should have is made.
//! Then a note of one more epoch says that it has them. Broken off anywhere and begun again, it
//! goes on.

use bytes::Bytes;
use futures::future::BoxFuture;
use mmh_core::ErrorKind;
use mmh_core::ports::{Cancel, Progress};

use super::members::{find, place_of, too_few, write_note};
use super::note::StripeNote;
use super::read::Fault;
use super::{Away, Member, Stripe, is_of_log};
use crate::backend::Backend;
use crate::entropy::Entropy;
use crate::error::{Error, Result};
use crate::scrub::Pace;

/// Bytes of a shard that are read at once.
const WINDOW: u64 = 4 << 20;

/// A shard that was damaged or missing and is whole again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealedShard {
    /// The object.
    pub object: String,
    /// The store.
    pub store: String,
    /// Why it could not be written, if it could not.
    pub unwritten: Option<String>,
}

/// What was found of the shards of a stripe.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ShardReport {
    /// Objects whose shards were read.
    pub objects: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Shards that were made again.
    pub healed: Vec<HealedShard>,
    /// Objects of which too little is left.
    pub beyond: Vec<String>,
    /// Stores that are not there, or do not belong to the stripe.
    pub away: Vec<Away>,
}

impl ShardReport {
    /// Whether every shard is whole now and every store is there.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        let written = self.healed.iter().all(|shard| shard.unwritten.is_none());
        written && self.beyond.is_empty() && self.away.is_empty()
    }
}

/// A store that took the place of another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replaced {
    /// Where the lost store was.
    pub lost: String,
    /// Where the new one is.
    pub place: String,
}

impl Stripe {
    /// Reads every shard of an object on the stores that are there, and makes those again that
    /// are damaged or missing.
    pub(crate) async fn tend(
        &self,
        name: &str,
        (pace, cancel): (&mut Pace, &Cancel),
        report: &mut ShardReport,
    ) -> Result<()> {
        let engine = |e| Error::engine(name)(e);
        report.objects += 1;
        let found = match self.find(name).await {
            Ok(Some(found)) => found,
            Ok(None) => return Ok(()),
            Err(error) => {
                let error = engine(error);
                return match error.kind() {
                    ErrorKind::Corrupt => {
                        report.beyond.push(name.to_owned());
                        Ok(())
                    }
                    _ => Err(error),
                };
            }
        };
        let layout = self.layout(name, found.meta.size);
        let mut flawed = Vec::new();
        for number in 0..self.n() {
            match self
                .examine(name, number, layout.len, (pace, cancel))
                .await?
            {
                Ok(read) => report.bytes += read,
                Err(Fault::Lost) => {}
                Err(Fault::Engine(error)) => return Err(engine(error)),
                Err(Fault::Missing | Fault::Bad(_)) => flawed.push(number),
            }
        }
        let keep = self.judge(name, &mut flawed).await;
        // What was deleted meanwhile is not brought back.
        if flawed.is_empty() || self.find(name).await.map_err(engine)?.is_none() {
            return Ok(());
        }
        for number in flawed {
            let made = self
                .make_again(name, layout.len, number, keep.as_ref())
                .await;
            let unwritten = match made.map_err(engine) {
                Ok(()) => {
                    self.met_damage().remove(&(name.to_owned(), number));
                    None
                }
                Err(error) if error.kind() == ErrorKind::Corrupt => {
                    report.beyond.push(name.to_owned());
                    return Ok(());
                }
                Err(error) => Some(error.to_string()),
            };
            report.healed.push(HealedShard {
                object: name.to_owned(),
                store: self.members[number].place.clone(),
                unwritten,
            });
        }
        Ok(())
    }

    /// Writes one shard: of these bytes, or of what the others give.
    async fn make_again(
        &self,
        name: &str,
        len: u64,
        number: usize,
        keep: Option<&Bytes>,
    ) -> object_store::Result<()> {
        if let Some(bytes) = keep {
            let origin = super::write::in_memory(bytes);
            return self
                .spread(name, bytes.len() as u64, &[number], &origin)
                .await;
        }
        let origin = |start: u64, n: u64| {
            let read = self.read(name, len, start..start + n);
            Box::pin(read) as BoxFuture<'_, _>
        };
        self.spread(name, len, &[number], &origin).await
    }

    /// Reads all of a shard; returns how many bytes that were.
    async fn examine(
        &self,
        name: &str,
        number: usize,
        len: u64,
        (pace, cancel): (&mut Pace, &Cancel),
    ) -> Result<std::result::Result<u64, Fault>> {
        match self.start(number, name).await {
            Ok(found) if found.meta.size == len => {}
            Ok(_) => return Ok(Err(Fault::Bad("it has another length".to_owned()))),
            Err(fault) => return Ok(Err(fault)),
        }
        let layout = self.layout(name, len);
        let (all, mut at) = (layout.payload_len(number), 0);
        while at < all {
            cancel.check()?;
            let end = (at + WINDOW).min(all);
            if let Err(fault) = self.payload(number, name, &layout, at..end).await {
                return Ok(Err(fault));
            }
            pace.wait(end - at).await;
            at = end;
        }
        Ok(Ok(all))
    }

    /// Compares short copies, each of which is whole by itself. Of the log the one that more
    /// stores have is kept: what was acknowledged is on all but those that are older. Of the rest
    /// the home's is. The others are flawed; what they should be is returned.
    async fn judge(&self, name: &str, flawed: &mut Vec<usize>) -> Option<Bytes> {
        if super::is_coded(name) {
            return None;
        }
        let mut copies: Vec<(usize, Bytes)> = Vec::new();
        for number in self.order(name) {
            if flawed.contains(&number) {
                continue;
            }
            if let Ok(found) = self.start(number, name).await {
                copies.push((number, found.bytes?));
            }
        }
        let votes = |bytes: &Bytes| match is_of_log(name) {
            true => copies.iter().filter(|(_, copy)| copy == bytes).count(),
            false => 0,
        };
        // Of equally many the first in order is kept, which is the home's if it has one.
        let most = copies.iter().map(|(_, bytes)| votes(bytes)).max()?;
        let (_, keep) = copies.iter().find(|(_, bytes)| votes(bytes) == most)?;
        let others = copies.iter().filter(|(_, copy)| copy != keep);
        flawed.extend(others.map(|(number, _)| *number));
        Some(keep.clone())
    }

    /// The names of all objects with their lengths in bytes.
    pub(crate) async fn objects(&self) -> Result<Vec<(String, u64)>> {
        let metas = self.list_all("mmh", None).await;
        let metas = metas.map_err(Error::engine(crate::names::SHARDS))?;
        let named = metas
            .into_iter()
            .map(|meta| (meta.location.to_string(), meta.size));
        Ok(named.collect())
    }

    /// Makes sure that an object, which somebody else may have published a moment ago or in part,
    /// is on all stores.
    pub(crate) async fn complete(&self, name: &str) -> Result<()> {
        if !super::is_coded(name) {
            return self.settle(name).await.map_err(Error::engine(name));
        }
        let heads = (0..self.n()).map(|number| self.start(number, name));
        let heads = futures::future::join_all(heads).await;
        if heads.iter().all(std::result::Result::is_ok) {
            return Ok(());
        }
        self.check_writable().map_err(Error::engine(name))?;
        let (mut report, mut pace) = (ShardReport::default(), Pace::new(None));
        self.tend(name, (&mut pace, &Cancel::default()), &mut report)
            .await?;
        let unwritten = report.healed.into_iter().find_map(|shard| shard.unwritten);
        match unwritten {
            None => Ok(()),
            Some(reason) => Err(Error::WriterFailed { reason }),
        }
    }
}

/// Puts empty stores that were named in the place of lost ones, and makes what they should hold.
/// Does nothing if no store is lost or none is empty. The place is opened anew afterwards.
pub(crate) async fn replace_lost(
    backend: &Backend,
    entropy: &dyn Entropy,
    (progress, cancel): (&dyn Progress, &Cancel),
) -> Result<(Vec<Replaced>, ShardReport)> {
    let Some(mut stripe) = find(backend).await? else {
        return Ok((Vec::new(), ShardReport::default()));
    };
    let whole = |(number, _): &(usize, &Backend)| !stripe.note.stores[*number].filling;
    if stripe.present().filter(whole).count() < stripe.note.data as usize {
        return Err(too_few(&stripe));
    }
    let replaced = seat_spares(&mut stripe, entropy).await?;
    let filling = |note: &StripeNote, number: usize| note.stores[number].filling;
    let to_fill: Vec<usize> = (0..stripe.n())
        .filter(|number| filling(&stripe.note, *number))
        .filter(|number| stripe.members[*number].backend.is_ok())
        .collect();
    let mut report = ShardReport::default();
    let there = stripe
        .members
        .iter()
        .filter(|member| member.backend.is_ok());
    if to_fill.is_empty() && there.clone().all(|member| member.told) {
        return Ok((replaced, report));
    }
    let objects = match to_fill.is_empty() {
        // Only what a repair that was broken off did not tell every store.
        true => Vec::new(),
        false => stripe.objects().await?,
    };
    progress.begin("filling", Some(objects.iter().map(|(_, len)| len).sum()));
    let mut pace = Pace::new(None);
    for (name, len) in objects {
        cancel.check()?;
        progress.item(&name);
        stripe.tend(&name, (&mut pace, cancel), &mut report).await?;
        progress.advance(len);
    }
    progress.end();
    if let Some(why) = report
        .healed
        .iter()
        .find_map(|shard| shard.unwritten.clone())
    {
        return Err(Error::WriterFailed { reason: why });
    }
    let mut note = StripeNote {
        epoch: stripe.note.epoch + 1,
        ..stripe.note.clone()
    };
    for number in to_fill {
        note.stores[number].filling = false;
    }
    write_notes(&stripe.members, &note).await?;
    Ok((replaced, report))
}

/// Gives spare stores the seats of lost ones, under a new epoch.
async fn seat_spares(stripe: &mut Stripe, entropy: &dyn Entropy) -> Result<Vec<Replaced>> {
    let mut spares = std::mem::take(&mut stripe.spares);
    let lost: Vec<usize> = (0..stripe.n())
        .filter(|number| stripe.members[*number].backend.is_err())
        .collect();
    let (mut note, mut taken) = (stripe.note.clone(), Vec::new());
    let mut members = stripe.members.clone();
    // A store that lies where the lost one lay takes its seat; the others come in their order.
    let at = |place: &str, spares: &[Backend]| spares.iter().position(|s| place_of(s) == place);
    let seats = |same: bool| lost.iter().copied().map(move |number| (number, same));
    for (number, same) in seats(true).chain(seats(false)) {
        if members[number].backend.is_ok() || spares.is_empty() {
            continue;
        }
        let found = at(&note.stores[number].place, &spares);
        let Some(index) = found.or_else(|| (!same).then_some(0)) else {
            continue;
        };
        let spare = spares.remove(index);
        let seat = &mut note.stores[number];
        taken.push(Replaced {
            lost: seat.place.clone(),
            place: place_of(&spare),
        });
        (seat.id, seat.place, seat.filling) = (entropy.draw()?, place_of(&spare), true);
        members[number] = Member {
            place: place_of(&spare),
            backend: Ok(spare),
            told: true,
        };
    }
    if taken.is_empty() {
        return Ok(taken);
    }
    note.epoch += 1;
    if stripe.members[stripe.home()].backend.is_err() {
        let home = stripe
            .members
            .iter()
            .position(|member| member.backend.is_ok());
        note.home = u32::try_from(home.unwrap_or(0)).expect("a stripe has at most 32 stores");
    }
    // First on those that are left: the new ones are nothing without them.
    let left: Vec<Member> = members
        .iter()
        .zip(&stripe.members)
        .map(|(new, old)| match &old.backend {
            Ok(_) => new.clone(),
            Err(why) => Member {
                place: new.place.clone(),
                backend: Err(why.clone()),
                told: false,
            },
        })
        .collect();
    write_notes(&left, &note).await?;
    write_notes(&members, &note).await?;
    *stripe = Stripe::new(note, members, Vec::new(), Vec::new());
    Ok(taken)
}

/// Writes a note on every store that is there, in their order.
async fn write_notes(members: &[Member], note: &StripeNote) -> Result<()> {
    for (number, member) in members.iter().enumerate() {
        let Ok(backend) = &member.backend else {
            continue;
        };
        if !write_note(backend, &note.of_seat(number)).await? {
            let reason = "another repair has replaced a store at the same time; begin again";
            return Err(Error::StripeMixed {
                reason: reason.to_owned(),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_with_a_store_away_is_not_clean() {
        let clean = ShardReport::default();
        assert!(clean.is_clean());
        let healed = |unwritten: Option<&str>| ShardReport {
            healed: vec![HealedShard {
                object: "mmh/x".to_owned(),
                store: "a".to_owned(),
                unwritten: unwritten.map(str::to_owned),
            }],
            ..ShardReport::default()
        };
        assert!(healed(None).is_clean() && !healed(Some("read-only")).is_clean());
        let away = Away {
            place: "b".to_owned(),
            why: "gone".to_owned(),
        };
        let report = ShardReport {
            away: vec![away],
            ..ShardReport::default()
        };
        assert!(!report.is_clean());
    }
}
