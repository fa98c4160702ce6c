//! Files that came by other ways than this door have no records of Xet until somebody asks for them:
//! then they are read once, one after another, while whoever asked gets them by plain HTTP.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use lru::LruCache;
use mmh_core::name::RepoName;
use mmh_core::{ByteRange, FileId};
use mmh_repo::Error;

use super::keep::{Came, keep};
use super::records::DOOR;
use crate::hub::Hub;
use crate::hub::fail::Outcome;

/// Files that wait; more are passed over until they are asked for again.
const WAITING_MAX: usize = 1024;
/// Files that are remembered because they could not be cut.
const FAILED_MAX: NonZeroUsize = NonZeroUsize::new(1024).expect("it is not zero");

type Wanted = (RepoName, FileId, u64);

/// Files that are to be cut.
#[derive(Debug)]
pub(crate) struct Later {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    waiting: VecDeque<Wanted>,
    failed: LruCache<(RepoName, FileId), ()>,
    works: bool,
}

impl Default for Later {
    fn default() -> Self {
        let state = State {
            waiting: VecDeque::new(),
            failed: LruCache::new(FAILED_MAX),
            works: false,
        };
        let state = Mutex::new(state);
        Self { state }
    }
}

impl Later {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of a file; says whether somebody has to begin with the work.
    fn want(&self, wanted: Wanted) -> bool {
        let mut state = self.state();
        let known = state.failed.contains(&(wanted.0.clone(), wanted.1))
            || state.waiting.contains(&wanted)
            || state.waiting.len() == WAITING_MAX;
        if known {
            return false;
        }
        state.waiting.push_back(wanted);
        !std::mem::replace(&mut state.works, true)
    }

    /// The next file; without one the work ends. It stays in its place, so that nobody wants it again.
    fn next(&self) -> Option<Wanted> {
        let mut state = self.state();
        let next = state.waiting.front().cloned();
        state.works = next.is_some();
        next
    }

    fn done(&self, ok: bool) {
        let mut state = self.state();
        if let Some((name, file, _)) = state.waiting.pop_front()
            && !ok
        {
            state.failed.put((name, file), ());
        }
    }
}

/// Has a file cut, soon.
pub(crate) fn cut_later(hub: &Arc<Hub>, wanted: Wanted) {
    if wanted.2 > 0 && hub.gate.may_write() && hub.later.want(wanted) {
        let hub = Arc::downgrade(hub);
        tokio::task::spawn_blocking(move || work(&hub));
    }
}

/// Works until nothing waits or the hub is gone.
fn work(hub: &Weak<Hub>) {
    while let Some((name, file, size)) = hub.upgrade().and_then(|hub| hub.later.next()) {
        let cut = cut(hub, &name, (file, size));
        if let Some(hub) = hub.upgrade() {
            hub.later.done(cut.is_ok());
        }
    }
}

fn cut(hub: &Weak<Hub>, name: &RepoName, (file, size): (FileId, u64)) -> Outcome<()> {
    let gone = || Error::Invalid("the server stops".to_owned());
    let (repo, mut list) = {
        let hub = hub.upgrade().ok_or_else(gone)?;
        (Arc::clone(&hub.repo), hub.uploads.list()?)
    };
    // Before it is read: here nobody may write.
    repo.edit_note(name, DOOR, &|_| Ok(()))?;
    let reader = repo.open_file(file)?;
    repo.read_range(&reader, ByteRange::all(size), &mut |piece| {
        if hub.strong_count() == 0 {
            return Err(gone());
        }
        list.bytes(&piece).map_err(|fail| Error::Invalid(fail.text))
    })?;
    let list = list.finish()?;
    let came = Came {
        file,
        size,
        list: list.path().to_owned(),
    };
    let now_ms = hub.upgrade().ok_or_else(gone)?.uploads.now_ms();
    keep(&repo, name, &[came], &|_| None, now_ms)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_file_is_cut_once_and_failures_are_remembered() {
        let later = Later::default();
        let wanted = |n: u8| -> Wanted { ("a/b".parse().unwrap(), FileId::of(&[n]), 1) };
        assert!(later.want(wanted(1)), "somebody has to begin");
        assert!(!later.want(wanted(1)) && !later.want(wanted(2)));
        assert_eq!(later.next(), Some(wanted(1)));
        assert!(!later.want(wanted(1)), "it is being cut");
        later.done(false);
        assert_eq!(later.next(), Some(wanted(2)));
        later.done(true);
        assert_eq!(later.next(), None);
        assert!(!later.want(wanted(1)), "it failed");
        assert!(later.want(wanted(2)), "asked for again");
        for n in 0..WAITING_MAX {
            let name = format!("a/n{n}").parse().unwrap();
            later.want((name, FileId::of(b"x"), 1));
        }
        assert_eq!(later.state().waiting.len(), WAITING_MAX);
    }
}
