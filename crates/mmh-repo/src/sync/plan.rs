//! Which refs are to move, and why others do not.

use mmh_core::SnapshotId;
use mmh_core::name::{RefKind, RefName, Target};
use mmh_core::object::RefChange;
use mmh_store::RefsView;
use serde::Serialize;

use super::SyncOptions;
use super::past::Past;
use crate::error::{Error, Result};

/// What became of a ref there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum What {
    /// It is new there.
    Created,
    /// It moved forward.
    Moved,
    /// It moved, and what it had is named by it no longer; `mmh undo` there brings it back.
    Forced,
    /// It was removed.
    Removed,
    /// Both sides have the same.
    Same,
    /// The other side has all of this and more.
    Ahead,
    /// Each side has what the other lacks: nothing was changed.
    Diverged,
    /// It reaches something that is damaged here: nothing was changed.
    Damaged,
}

/// A ref and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RefReport {
    /// Its full name.
    pub name: String,
    /// What became of it.
    pub what: What,
    /// What it named there before.
    pub old: Option<String>,
    /// What it is to name there.
    pub new: Option<String>,
}

/// A ref that is to name something there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wish {
    pub name: RefName,
    /// What it is to name, by its id here.
    pub tip: Option<SnapshotId>,
    /// What it names there now.
    pub old: Option<SnapshotId>,
    /// What it is to name, by its id there; `None` if it is to be removed.
    pub new: Option<SnapshotId>,
    pub what: What,
}

impl Wish {
    /// Whether everything it reaches is needed there.
    pub(super) fn moves(&self) -> bool {
        matches!(self.what, What::Created | What::Moved | What::Forced)
    }

    /// Whether both sides have signatures of one snapshot, and not the same.
    pub(super) fn is_of_two_signers(&self) -> bool {
        self.what == What::Diverged && self.name.kind == RefKind::Signature
    }

    pub(super) fn damaged(self) -> Self {
        Self {
            what: What::Damaged,
            ..self
        }
    }

    pub(super) fn change(&self) -> Option<RefChange> {
        (self.moves() || self.what == What::Removed).then(|| RefChange {
            r#ref: self.name.clone(),
            old: self.old,
            new: self.new,
        })
    }

    pub(super) fn report(&self) -> RefReport {
        let text = |id: Option<SnapshotId>| id.map(|id| id.to_string());
        RefReport {
            name: self.name.to_string(),
            what: self.what,
            old: text(self.old),
            new: text(self.new),
        }
    }
}

/// Whether a ref was asked for by this target.
fn fits(target: &Target, name: &RefName) -> bool {
    name.repo == target.repo && target.rev.as_deref().is_none_or(|rev| rev == name.rev())
}

/// The refs that were asked for.
pub(super) fn wishes(
    here: &RefsView,
    there: &RefsView,
    options: &SyncOptions,
) -> Result<Vec<Wish>> {
    if let Some(target) = options.names.iter().find(|target| target.path.is_some()) {
        return Err(Error::Invalid(format!(
            "`{target}` is part of a name: whole names, branches and tags are sent"
        )));
    }
    let all = options.names.is_empty();
    // What a door remembers is this repository's own.
    let goes = |name: &RefName| name.kind != RefKind::Note;
    let asked = |name: &RefName| goes(name) && (all || options.names.iter().any(|t| fits(t, name)));
    for target in &options.names {
        let mut both = here.refs.keys().chain(there.refs.keys());
        if !both.any(|name| fits(target, name)) {
            return Err(Error::not_found("name", &target.to_string()));
        }
    }
    // What belongs to a snapshot is named by its id, and goes where it goes.
    let tips = here.refs.iter().filter(|(name, _)| asked(name));
    let tips: Vec<(RefName, String)> = tips
        .map(|(name, id)| (name.clone(), id.to_string()))
        .collect();
    let belongs = |name: &RefName| {
        let owner = |(owner, id): &(RefName, String)| owner.repo == name.repo && id == name.rev();
        !all && tips.iter().any(owner)
    };
    let wish = |name: &RefName, new| Wish {
        name: name.clone(),
        tip: new,
        old: there.refs.get(name).copied(),
        new,
        what: What::Same,
    };
    if !options.at.is_empty() {
        let at = options.at.iter();
        return Ok(at.map(|(name, id)| wish(name, Some(*id))).collect());
    }
    let here_refs = here.refs.iter();
    let mut found: Vec<Wish> = here_refs
        .filter(|(name, _)| asked(name) || belongs(name))
        .map(|(name, id)| wish(name, Some(*id)))
        .collect();
    if options.prune {
        let gone = there.refs.keys();
        let gone = gone.filter(|name| asked(name) && !here.refs.contains_key(*name));
        found.extend(gone.map(|name| wish(name, None)));
    }
    Ok(found)
}

/// Decides for each ref what is to become of it.
pub(super) fn judge(
    mut wishes: Vec<Wish>,
    past: &mut Past<'_>,
    options: &SyncOptions,
) -> Result<Vec<Wish>> {
    for wish in &mut wishes {
        wish.what = match (wish.old, wish.new) {
            (_, None) => What::Removed,
            (None, Some(_)) => What::Created,
            (Some(old), Some(new)) if old == new => What::Same,
            (Some(old), Some(new)) if wish.name.kind == RefKind::Branch => {
                if past.is_ancestor(old, new)? {
                    What::Moved
                } else if options.force {
                    What::Forced
                } else if past.is_ancestor(new, old)? {
                    What::Ahead
                } else {
                    What::Diverged
                }
            }
            _ if options.force => What::Forced,
            _ => What::Diverged,
        };
    }
    Ok(wishes)
}

#[cfg(test)]
mod tests {
    use mmh_core::ErrorKind;

    use super::*;

    fn view(refs: &[(&str, &str)]) -> RefsView {
        let parsed = |(name, id): &(&str, &str)| {
            let id = SnapshotId::of(id.as_bytes());
            (format!("models/{name}").parse().unwrap(), id)
        };
        RefsView {
            refs: refs.iter().map(parsed).collect(),
            ..RefsView::default()
        }
    }

    fn asked(names: &[&str], prune: bool) -> SyncOptions {
        SyncOptions {
            names: names.iter().map(|name| name.parse().unwrap()).collect(),
            prune,
            ..SyncOptions::default()
        }
    }

    /// Names of wishes; those that are to go with a `-` before.
    fn found(here: &RefsView, there: &RefsView, options: &SyncOptions) -> Vec<String> {
        let wishes = wishes(here, there, options).unwrap();
        let text = |wish: &Wish| {
            let sign = if wish.new.is_none() { "-" } else { "" };
            format!("{sign}{}", wish.name.to_string().replace("models/", ""))
        };
        wishes.iter().map(text).collect()
    }

    #[test]
    fn what_was_asked_for_is_wished_for() {
        let here = view(&[
            ("a@heads/main", "1"),
            ("a@tags/v1", "2"),
            ("b@heads/main", "3"),
        ]);
        let there = view(&[
            ("a@heads/main", "4"),
            ("a@heads/old", "5"),
            ("c@tags/v1", "6"),
        ]);
        let all = ["a@heads/main", "a@tags/v1", "b@heads/main"];
        assert_eq!(found(&here, &there, &asked(&[], false)), all);
        let notes = view(&[("a@notes/xet", "7")]);
        for names in [&[][..], &["a"]] {
            assert_eq!(found(&notes, &there, &asked(names, false)), [""; 0]);
        }
        assert_eq!(found(&view(&[]), &notes, &asked(&[], true)), [""; 0]);
        let both = [&all[..], &["-a@heads/old", "-c@tags/v1"]].concat();
        assert_eq!(found(&here, &there, &asked(&[], true)), both);
        assert_eq!(found(&here, &there, &asked(&["a"], false)), all[..2]);
        assert_eq!(found(&here, &there, &asked(&["a@v1"], true)), all[1..2]);
        assert_eq!(found(&here, &there, &asked(&["c"], false)), [""; 0]);
        assert_eq!(found(&here, &there, &asked(&["c"], true)), ["-c@tags/v1"]);
        for (name, kind) in [
            ("d", ErrorKind::NotFound),
            ("a@none", ErrorKind::NotFound),
            ("a:file", ErrorKind::Invalid),
        ] {
            let error = wishes(&here, &there, &asked(&[name], false)).unwrap_err();
            assert_eq!(error.kind(), kind, "{name}");
        }
    }

    #[test]
    fn an_explicit_wish_is_the_only_one() {
        let here = view(&[("a@heads/main", "1")]);
        let id = SnapshotId::of(b"old");
        let name: RefName = "models/b@heads/main".parse().unwrap();
        let options = SyncOptions {
            at: vec![(name.clone(), id)],
            ..SyncOptions::default()
        };
        let wishes = wishes(&here, &RefsView::default(), &options).unwrap();
        assert_eq!(wishes.len(), 1);
        assert_eq!((&wishes[0].name, wishes[0].tip), (&name, Some(id)));
    }

    #[test]
    fn only_what_moves_changes_a_ref() {
        let (old, new) = (SnapshotId::of(b"old"), SnapshotId::of(b"new"));
        for (what, changes) in [
            (What::Created, true),
            (What::Moved, true),
            (What::Forced, true),
            (What::Removed, true),
            (What::Same, false),
            (What::Ahead, false),
            (What::Diverged, false),
            (What::Damaged, false),
        ] {
            let wish = Wish {
                name: "models/a@heads/main".parse().unwrap(),
                tip: Some(new),
                old: Some(old),
                new: Some(new),
                what,
            };
            assert_eq!(wish.change().is_some(), changes, "{what:?}");
            assert_eq!(wish.moves(), changes && what != What::Removed, "{what:?}");
            assert_eq!(wish.clone().damaged().change(), None);
            let report = wish.report();
            assert_eq!(
                (report.old, report.new),
                (Some(old.to_string()), Some(new.to_string()))
            );
        }
    }
}
