//! Where xorbs and chunks are that a client refers to or asks for: among what was sent for the name,
//! in its records, and in those of other names that the client may read. No others are looked at, so
//! that nobody builds on what they could not read.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use mmh_core::name::{RefName, RepoName};
use mmh_core::{ByteRange, FileId, SnapshotId};
use mmh_repo::{Repository, Result};
use mmh_xet::{Leaf, Segment, XetHash};

use super::records::{DOOR, Kind, Records};
use crate::hub::Hub;
use crate::hub::fail::{Fail, Outcome};
use crate::hub::uploads::Open;
use crate::token::Caller;

/// Most hashes that are remembered of all names together: 128 MiB. Names beyond are not looked into
/// for others.
const KEYS_MAX: usize = 1 << 24;

/// Which names may know a hash: the first eight bytes of every hash that each name's records have.
#[derive(Debug, Default)]
pub(crate) struct Index {
    names: Mutex<HashMap<RepoName, Indexed>>,
}

#[derive(Debug)]
struct Indexed {
    note: SnapshotId,
    /// In order.
    keys: Arc<[u64]>,
}

fn key(hash: &XetHash) -> u64 {
    let (first, _) = hash.as_bytes().as_chunks::<8>();
    first.first().copied().map_or(0, u64::from_le_bytes)
}

impl Index {
    /// Names, of those that `may` says, whose records may have the hash.
    ///
    /// # Errors
    /// Those of reading.
    fn names_with(
        &self,
        repo: &Repository,
        may: &dyn Fn(&RepoName) -> bool,
        hash: &XetHash,
    ) -> Result<Vec<RepoName>> {
        let refs = repo.refs()?;
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let note_of = |name: &RepoName| {
            let note = RefName::note(name.clone(), DOOR).ok()?;
            refs.refs.get(&note).copied()
        };
        names.retain(|name, indexed| note_of(name) == Some(indexed.note));
        let mut left = KEYS_MAX;
        left = left.saturating_sub(names.values().map(|indexed| indexed.keys.len()).sum());
        let notes = refs.refs.keys().filter(|name| name.is_note(DOOR));
        let mut found = Vec::new();
        for RefName { repo: name, .. } in notes {
            if !may(name) {
                continue;
            }
            if !names.contains_key(name)
                && let Some(indexed) = index(repo, name)?
                && indexed.keys.len() <= left
            {
                left -= indexed.keys.len();
                names.insert(name.clone(), indexed);
            }
            let keys = names.get(name).map(|indexed| &indexed.keys);
            if keys.is_some_and(|keys| keys.binary_search(&key(hash)).is_ok()) {
                found.push(name.clone());
            }
        }
        Ok(found)
    }
}

fn index(repo: &Repository, name: &RepoName) -> Result<Option<Indexed>> {
    let Some(records) = Records::of(repo, name)? else {
        return Ok(None);
    };
    let mut keys = Vec::new();
    for kind in [Kind::Shared, Kind::Xorbs, Kind::Parts] {
        for listed in repo.note_list(records.note(), kind.folder())? {
            let last = listed.path.rsplit('/').next().unwrap_or_default();
            keys.extend(last.parse::<XetHash>().iter().map(key));
        }
    }
    keys.sort_unstable();
    keys.dedup();
    Ok(Some(Indexed {
        note: records.note().id,
        keys: keys.into(),
    }))
}

/// A xorb that can be read.
#[derive(Debug)]
pub(crate) enum Source {
    /// It was sent, and no commit wanted all of it yet.
    Sent(Open),
    /// It is in files.
    Stored(Stored),
}

/// A xorb whose chunks are in files.
#[derive(Debug)]
pub(crate) struct Stored {
    /// Those that are not known have no length.
    leaves: Vec<Leaf>,
    places: Vec<Place>,
}

/// Where chunks of a xorb lie: bytes of a file.
#[derive(Debug, Clone)]
struct Place {
    chunks: Range<u32>,
    file: FileId,
    at: u64,
}

impl Stored {
    fn of(records: &Records<'_>, xorb: &XetHash) -> Result<Option<Self>> {
        if let Some(run) = records.run(xorb)? {
            let n_chunks = u32::try_from(run.leaves.len()).unwrap_or(u32::MAX);
            let place = Place {
                chunks: 0..n_chunks,
                file: run.file,
                at: run.at,
            };
            return Ok(Some(Self {
                leaves: run.leaves,
                places: vec![place],
            }));
        }
        let Some(parts) = records.parts(xorb)? else {
            return Ok(None);
        };
        let (mut leaves, mut places) = (Vec::new(), Vec::new());
        let mut last = None;
        for part in parts {
            let read = match last.take() {
                Some((hash, run)) if hash == part.xorb => Some(run),
                _ => records.run(&part.xorb)?,
            };
            let (first, n) = (part.first as usize, part.n as usize);
            let Some(run) = read.filter(|run| first + n <= run.leaves.len()) else {
                continue;
            };
            leaves.resize(part.at as usize, Leaf::default());
            leaves.extend_from_slice(&run.leaves[first..first + n]);
            let before: u64 = run.leaves.iter().take(first).map(|leaf| leaf.1).sum();
            places.push(Place {
                chunks: part.at..part.at + part.n,
                file: run.file,
                at: run.at + before,
            });
            last = Some((part.xorb, run));
        }
        Ok(Some(Self { leaves, places }))
    }

    /// The bytes of files that chunks of it are.
    fn ranges(&self, chunks: &Range<u32>) -> Vec<(FileId, ByteRange)> {
        let len = |part: Range<u32>| -> u64 {
            let part = self.leaves.get(part.start as usize..part.end as usize);
            part.unwrap_or_default().iter().map(|leaf| leaf.1).sum()
        };
        let mut ranges = Vec::new();
        for place in &self.places {
            let from = place.chunks.start.max(chunks.start);
            let upto = place.chunks.end.min(chunks.end);
            if from < upto {
                let start = place.at + len(place.chunks.start..from);
                let end = start + len(from..upto);
                ranges.push((place.file, ByteRange { start, end }));
            }
        }
        ranges
    }
}

impl Source {
    /// Its chunks; those that are not known have no length.
    pub(crate) fn leaves(&self) -> &[Leaf] {
        match self {
            Self::Sent(open) => open.leaves(),
            Self::Stored(stored) => &stored.leaves,
        }
    }

    /// Whether not all of it may be known.
    pub(crate) fn is_part(&self) -> bool {
        matches!(self, Self::Stored(_))
    }

    /// Whether all of these chunks are known.
    pub(crate) fn has(&self, chunks: &Range<u32>) -> bool {
        let run = self
            .leaves()
            .get(chunks.start as usize..chunks.end as usize);
        run.is_some_and(|run| run.iter().all(|leaf| leaf.1 > 0))
    }

    /// Reads the bytes of a segment that is known to be there.
    pub(crate) fn copy(
        &mut self,
        repo: &Repository,
        segment: &Segment,
        take: &mut (dyn FnMut(&[u8]) -> Outcome<()> + Send),
    ) -> Outcome<()> {
        let stored = match self {
            Self::Sent(open) => return open.copy(segment, take),
            Self::Stored(stored) => stored,
        };
        for (file, range) in stored.ranges(&segment.chunks) {
            let reader = repo.open_file(file)?;
            let mut failed = None;
            let done = repo.read_range(&reader, range, &mut |piece| {
                take(&piece).map_err(|fail| {
                    let text = fail.text.clone();
                    failed = Some(fail);
                    mmh_repo::Error::Invalid(text)
                })
            });
            match failed {
                Some(fail) => return Err(fail),
                None => done?,
            }
        }
        Ok(())
    }
}

impl Hub {
    /// Whether a caller may have files of a name, private or gated as it is.
    pub(crate) fn may_have(&self, caller: &Caller, name: &RepoName) -> Outcome<()> {
        self.sees(caller, name)?;
        self.gets(caller, name)
    }

    /// Names but `own` whose files the caller may have and whose records may have the hash.
    fn others(
        &self,
        (caller, own): (&Caller, &RepoName),
        hash: &XetHash,
    ) -> Outcome<Vec<RepoName>> {
        let may = |name: &RepoName| name != own && self.may_have(caller, name).is_ok();
        Ok(self.index.names_with(&self.repo, &may, hash)?)
    }

    /// A xorb that has these chunks; `None` if the caller knows more than there is.
    pub(crate) fn source(
        &self,
        (caller, name): (&Caller, &RepoName),
        segment: &Segment,
    ) -> Outcome<Option<Source>> {
        let Segment { xorb, chunks, .. } = segment;
        if let Some(open) = self.uploads.xorbs(name).open(xorb)? {
            return Ok(Some(Source::Sent(open)));
        }
        let stored = |name: &RepoName| -> Outcome<Option<Source>> {
            let stored = match Records::of(&self.repo, name)? {
                Some(records) => Stored::of(&records, xorb)?,
                None => None,
            };
            Ok(stored.map(Source::Stored))
        };
        let mut found = stored(name)?;
        if found.as_ref().is_some_and(|source| source.has(chunks)) {
            return Ok(found);
        }
        for other in self.others((caller, name), xorb)? {
            let theirs = stored(&other)?;
            if theirs.as_ref().is_some_and(|source| source.has(chunks)) {
                return Ok(theirs);
            }
            found = found.or(theirs);
        }
        Ok(found)
    }

    /// The xorb of a file, and the name whose it is, that a chunk is in which may be asked for.
    pub(crate) fn shared(
        &self,
        (caller, name): (&Caller, &RepoName),
        chunk: &XetHash,
    ) -> Outcome<Option<(RepoName, XetHash)>> {
        let look = |name: &RepoName| -> Outcome<Option<(RepoName, XetHash)>> {
            let Some(records) = Records::of(&self.repo, name)? else {
                return Ok(None);
            };
            let xorb = records.shared(chunk)?;
            Ok(xorb.map(|xorb| (name.clone(), xorb)))
        };
        if let Some(found) = look(name)? {
            return Ok(Some(found));
        }
        for other in self.others((caller, name), chunk)? {
            if let Some(found) = look(&other)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

/// Nobody here knows what is asked for.
pub(crate) fn unknown(what: &str) -> Fail {
    Fail::new(
        axum::http::StatusCode::NOT_FOUND,
        format!("{what} is not known"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_found_in_their_files() {
        let leaf = |n: u64| (XetHash::of_chunk(&n.to_le_bytes()), n);
        let (one, two) = (FileId::of(b"1"), FileId::of(b"2"));
        let place = |chunks, file, at| Place { chunks, file, at };
        let stored = Stored {
            leaves: vec![leaf(5), leaf(6), Leaf::default(), leaf(7), leaf(8)],
            places: vec![place(0..2, one, 100), place(3..5, two, 50)],
        };
        let range = |file, start, end| (file, ByteRange { start, end });
        assert_eq!(stored.ranges(&(0..2)), [range(one, 100, 111)]);
        assert_eq!(stored.ranges(&(1..2)), [range(one, 105, 111)]);
        let both = [range(one, 105, 111), range(two, 50, 57)];
        assert_eq!(stored.ranges(&(1..4)), both);
        let source = Source::Stored(stored);
        let known = [(0..2, true), (3..5, true), (1..3, false), (4..6, false)];
        for (chunks, has) in known {
            assert_eq!(source.has(&chunks), has, "{chunks:?}");
        }
    }
}
