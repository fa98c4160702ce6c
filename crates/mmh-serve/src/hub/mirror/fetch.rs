//! Large files on their way from another hub: one download for all who ask, which goes on when they
//! leave. What came is handed on at once, but for the last byte, which waits until the digest of the
//! whole was compared: nobody gets all of a file that is another.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::http::StatusCode;
use bytes::{Bytes, BytesMut};
use futures::stream;
use mmh_core::ByteRange;
use mmh_core::ErrorKind;
use mmh_core::name::{RefKind, RefName, RepoName};
use mmh_core::tree::Node;
use mmh_repo::{Change, Onto};
use tokio::sync::watch;

use super::super::commits::hex;
use super::super::fail::{Fail, Outcome, of_io};
use super::super::settings::OWN;
use super::super::uploads::Arriving;
use super::{AUTHOR, FILES, Mirror, lost, odd, place_of};
use crate::hub::Hub;

/// Files that are downloaded at the same time; others wait for their turn.
pub(super) const AT_ONCE: usize = 4;
/// How often a download that broke off goes on where it was.
const TRIES: u32 = 5;
/// Bytes that are written, and read, at once.
const PIECE_LEN: usize = 1 << 20;

/// How far a file is.
#[derive(Debug, Clone)]
enum State {
    /// So many bytes came.
    Coming(u64),
    /// All came, and are what they should be.
    Whole,
    Failed(String),
}

/// A file that comes.
#[derive(Debug, Clone)]
pub(crate) struct Fetch {
    file: Arc<File>,
    len: u64,
    state: watch::Receiver<State>,
}

/// What comes now.
#[derive(Debug, Default)]
pub(crate) struct Fetches(Mutex<HashMap<(RepoName, [u8; 32]), Fetch>>);

impl Fetches {
    fn lock(&self) -> MutexGuard<'_, HashMap<(RepoName, [u8; 32]), Fetch>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a download needs.
#[derive(Debug)]
pub(crate) struct Task {
    name: RepoName,
    sha256: [u8; 32],
    /// Where the other hub has it.
    place: String,
    /// `None` if it had come before.
    arriving: Option<Arriving>,
    tell: watch::Sender<State>,
}

impl Hub {
    /// The download of a file, and what is to be done for it if it is a new one; `path` is one that
    /// it has at a commit of the other hub.
    pub(crate) fn fetch(
        &self,
        name: &RepoName,
        (commit, path): (&str, &str),
        (sha256, len): (&[u8; 32], u64),
    ) -> Outcome<(Fetch, Option<Task>)> {
        let mirror = self.mirror.as_ref();
        let mirror = mirror.ok_or_else(|| {
            let text = "this file did not come from the other hub, and there is none to ask now";
            Fail::new(StatusCode::SERVICE_UNAVAILABLE, text)
        })?;
        let key = (name.clone(), *sha256);
        let mut fetches = mirror.fetches.lock();
        if let Some(fetch) = fetches.get(&key) {
            return Ok((fetch.clone(), None));
        }
        // Before it was committed the server may have stopped.
        let before = self.uploads.find(name, sha256).filter(|(_, n)| *n == len);
        let (arriving, path_here) = match before {
            Some((path, _)) => (None, path),
            None => {
                let arriving = self.uploads.arrive(len)?;
                let path = arriving.path().to_owned();
                (Some(arriving), path)
            }
        };
        let file = File::open(path_here).map_err(of_io("read what came"))?;
        let state = if arriving.is_some() {
            State::Coming(0)
        } else {
            State::Whole
        };
        let (tell, state) = watch::channel(state);
        let fetch = Fetch {
            file: Arc::new(file),
            len,
            state,
        };
        fetches.insert(key, fetch.clone());
        let task = Task {
            name: name.clone(),
            sha256: *sha256,
            place: place_of(name, commit, path),
            arriving,
            tell,
        };
        Ok((fetch, Some(task)))
    }

    /// Does what is to be done for a download, whoever waits for it.
    pub(crate) fn run(self: &Arc<Self>, task: Task) {
        let hub = Arc::clone(self);
        tokio::spawn(async move {
            let key = (task.name.clone(), task.sha256);
            let tell = task.tell.clone();
            if let Err(fail) = hub.download(task).await {
                tell.send_replace(State::Failed(fail.text));
            }
            if let Some(mirror) = &hub.mirror {
                mirror.fetches.lock().remove(&key);
            }
        });
    }

    async fn download(self: &Arc<Self>, mut task: Task) -> Outcome<()> {
        if let (Some(mirror), Some(arriving)) = (&self.mirror, task.arriving.take()) {
            let busy = |_| Fail::new(StatusCode::SERVICE_UNAVAILABLE, "it is stopping");
            let _place = mirror.at_once.acquire().await.map_err(busy)?;
            let whole = self.receive(mirror, &task, arriving).await?;
            let (name, sha256) = (task.name.clone(), task.sha256);
            self.apart(move |hub| whole.finish(&hub.uploads, &name, &sha256))
                .await?;
        }
        task.tell.send_replace(State::Whole);
        self.apart(move |hub| {
            hub.keep(&task.name, &task.sha256)?;
            hub.complete(&task.name)?;
            hub.uploads.done(&task.name, &task.sha256);
            Ok(())
        })
        .await
    }

    /// Takes in all bytes of a file; goes on where it broke off.
    async fn receive(
        self: &Arc<Self>,
        mirror: &Mirror,
        task: &Task,
        mut arriving: Arriving,
    ) -> Outcome<Arriving> {
        let mut tried = 0;
        loop {
            let before = arriving.len();
            let failed = self.receive_once(mirror, task, &mut arriving).await.err();
            if arriving.is_whole() {
                return Ok(arriving);
            }
            // A download that goes on is one that works.
            tried = if arriving.len() > before {
                1
            } else {
                tried + 1
            };
            let fail = failed.unwrap_or_else(|| odd("a file broke off"));
            if tried >= TRIES
                || fail.status == StatusCode::NOT_FOUND
                || fail.status.is_client_error()
            {
                return Err(fail);
            }
            tokio::time::sleep(Duration::from_secs(u64::from(tried))).await;
        }
    }

    async fn receive_once(
        self: &Arc<Self>,
        mirror: &Mirror,
        task: &Task,
        arriving: &mut Arriving,
    ) -> Outcome<()> {
        let from = arriving.len();
        let mut answer = mirror.ask(&task.place, from).await?;
        if from > 0 && answer.status().as_u16() != 206 {
            return Err(Fail::invalid("the other hub sends no parts of files"));
        }
        let mut gathered = BytesMut::new();
        loop {
            let piece = answer.chunk().await;
            let ended = matches!(piece, Ok(None) | Err(_));
            if let Ok(Some(piece)) = &piece {
                gathered.extend_from_slice(piece);
            }
            if gathered.len() >= PIECE_LEN || ended && !gathered.is_empty() {
                let bytes = gathered.split().freeze();
                // Files of a server are written from its threads elsewhere too; pieces are small.
                tokio::task::block_in_place(|| arriving.write(&bytes))?;
                task.tell.send_replace(State::Coming(arriving.len()));
            }
            match piece {
                Ok(None) => return Ok(()),
                Ok(Some(_)) => {}
                Err(error) => return Err(lost(&error)),
            }
        }
    }

    /// Puts a file that came onto the branch for such files.
    fn keep(&self, name: &RepoName, sha256: &[u8; 32]) -> Outcome<()> {
        let missing = || odd("a file that came is gone");
        let (from, _) = self.uploads.find(name, sha256).ok_or_else(missing)?;
        let branch = RefName::branch(name.clone(), FILES)?;
        let folder = self.uploads.change()?;
        let place = folder.path().join(hex(sha256));
        let linked = fs::hard_link(&from, &place);
        let placed = linked.or_else(|_| fs::copy(&from, &place).map(drop));
        placed.map_err(of_io("put what came together"))?;
        let mut change = Change {
            folder: Some(folder.path().to_owned()),
            onto: Onto::NoBranch,
            message: format!("upstream file {}", hex(sha256)),
            author: Some(AUTHOR.to_owned()),
            ..Change::default()
        };
        // The first file makes the branch; others come meanwhile.
        let mut kept = self.repo.change(&branch, &change);
        if kept
            .as_ref()
            .is_err_and(|error| error.kind() == ErrorKind::Conflict)
        {
            change.onto = Onto::Any;
            kept = self.repo.change(&branch, &change);
        }
        kept?;
        Ok(())
    }

    /// Puts the files themselves where their pointers are, on branches of which all came.
    fn complete(&self, name: &RepoName) -> Outcome<()> {
        let refs = self.repo.refs()?;
        let branches = refs.refs.iter().filter(|(r, _)| {
            r.repo == *name && r.kind == RefKind::Branch && !r.rev().starts_with(OWN)
        });
        for (branch, tip) in branches {
            let found = self.repo.resolve_known(name, *tip)?;
            let (mut paths, mut wanted) = (Vec::new(), Vec::new());
            for listed in self.repo.list_in(&found, "", true)?.unwrap_or_default() {
                if let Some((sha256, _)) = self.facts.pointer_in(&self.repo, &listed.node)? {
                    paths.push(listed.path);
                    wanted.push(sha256);
                }
            }
            let there = self.committed(name, &wanted)?;
            let there: Option<Vec<_>> = there.into_iter().collect();
            let Some(there) = there.filter(|there| !there.is_empty()) else {
                continue;
            };
            let executable = false;
            let nodes = there.into_iter().map(|(id, size)| Node::File {
                id,
                size,
                executable,
            });
            let change = Change {
                placed: paths.into_iter().zip(nodes).collect(),
                onto: Onto::Exactly(*tip),
                message: format!("{}, with its large files", found.snapshot.message),
                author: Some(AUTHOR.to_owned()),
                ..Change::default()
            };
            match self.repo.change(branch, &change) {
                // It moved on meanwhile.
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                done => drop(done?),
            }
        }
        Ok(())
    }
}

impl Fetch {
    /// A range of the file, as far as it has come, and then as it comes.
    pub(crate) fn body(&self, range: ByteRange) -> Body {
        let start = (self.clone(), range.start);
        Body::from_stream(stream::try_unfold(
            start,
            move |(mut fetch, at)| async move {
                if at >= range.end {
                    return Ok(None);
                }
                let bytes = fetch.next(at, range.end).await?;
                let at = at + bytes.len() as u64;
                Ok::<_, io::Error>(Some((bytes, (fetch, at))))
            },
        ))
    }

    async fn next(&mut self, at: u64, end: u64) -> io::Result<Bytes> {
        let until = loop {
            let until = match &*self.state.borrow_and_update() {
                State::Coming(len) => (*len).min(self.len.saturating_sub(1)),
                State::Whole => self.len,
                State::Failed(why) => return Err(io::Error::other(why.clone())),
            };
            if at < until {
                break until.min(end);
            }
            self.state.changed().await.map_err(io::Error::other)?;
        };
        let len = usize::try_from(until - at)
            .unwrap_or(usize::MAX)
            .min(PIECE_LEN);
        let file = Arc::clone(&self.file);
        let read = tokio::task::spawn_blocking(move || {
            let mut bytes = BytesMut::zeroed(len);
            read_at(&file, &mut bytes, at).map(|()| bytes.freeze())
        });
        read.await.map_err(io::Error::other)?
    }
}

#[cfg(unix)]
pub(crate) fn read_at(file: &File, bytes: &mut [u8], at: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, at)
}

#[cfg(not(unix))]
pub(crate) fn read_at(mut file: &File, bytes: &mut [u8], at: u64) -> io::Result<()> {
    use std::io::{Read as _, Seek as _};
    // One reader at a time has each handle here.
    file.seek(io::SeekFrom::Start(at))?;
    file.read_exact(bytes)
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    /// A file of ten bytes that comes, and who says how far it is.
    fn coming() -> (tempfile::TempDir, Fetch, watch::Sender<State>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, b"0123456789").unwrap();
        let file = Arc::new(File::open(path).unwrap());
        let (tell, state) = watch::channel(State::Coming(0));
        let fetch = Fetch {
            file,
            len: 10,
            state,
        };
        (folder, fetch, tell)
    }

    fn range(start: u64, end: u64) -> ByteRange {
        ByteRange { start, end }
    }

    async fn all(fetch: &Fetch, of: ByteRange) -> Result<Bytes, axum::Error> {
        Ok(fetch.body(of).collect().await?.to_bytes())
    }

    #[tokio::test]
    async fn what_came_is_handed_on() {
        let (_folder, fetch, tell) = coming();
        tell.send_replace(State::Coming(6));
        assert_eq!(all(&fetch, range(0, 6)).await.unwrap(), b"012345"[..]);
        assert_eq!(all(&fetch, range(2, 4)).await.unwrap(), b"23"[..]);
        assert_eq!(all(&fetch, range(3, 3)).await.unwrap(), b""[..]);
    }

    #[tokio::test]
    async fn what_has_not_come_is_waited_for() {
        let (_folder, fetch, tell) = coming();
        let asked = tokio::spawn({
            let fetch = fetch.clone();
            async move { all(&fetch, range(4, 8)).await }
        });
        for len in [1, 3, 5, 7, 8] {
            tokio::task::yield_now().await;
            tell.send_replace(State::Coming(len));
        }
        assert_eq!(asked.await.unwrap().unwrap(), b"4567"[..]);
    }

    /// All bytes are there, but nobody has compared them yet.
    #[tokio::test]
    async fn the_last_byte_waits_for_the_digest() {
        let (_folder, mut fetch, tell) = coming();
        tell.send_replace(State::Coming(10));
        assert_eq!(fetch.next(0, 10).await.unwrap(), b"012345678"[..]);
        let waits = tokio::time::timeout(Duration::from_millis(1), fetch.next(9, 10));
        assert!(waits.await.is_err());
        tell.send_replace(State::Whole);
        assert_eq!(fetch.next(9, 10).await.unwrap(), b"9"[..]);
    }

    #[tokio::test]
    async fn a_failure_breaks_the_answer_off() {
        let (_folder, fetch, tell) = coming();
        tell.send_replace(State::Failed("why".to_owned()));
        let error = all(&fetch, range(0, 10)).await.unwrap_err();
        assert!(error.to_string().contains("why"), "{error}");
        let (_folder, fetch, tell) = coming();
        drop(tell);
        assert!(all(&fetch, range(0, 10)).await.is_err(), "nobody goes on");
    }

    #[tokio::test]
    async fn what_is_whole_outlives_who_said_so() {
        let (_folder, fetch, tell) = coming();
        tell.send_replace(State::Whole);
        drop(tell);
        assert_eq!(all(&fetch, range(0, 10)).await.unwrap(), b"0123456789"[..]);
    }
}
