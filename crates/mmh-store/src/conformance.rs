//! One exam for every backend: what the store relies on, then the store's own promises on it.
//!
//! Each function panics with a sentence if the backend fails. A backend passes before it is used.

use std::sync::Arc;

use mmh_codec::{Encoder, Hint, Settings};
use mmh_core::name::RefName;
use mmh_core::object::RefChange;
use mmh_core::ports::{Cancel, Silent};
use mmh_core::{ChunkId, ErrorKind, SnapshotId};
use tokio::runtime::Handle;

use crate::backend::Backend;
use crate::chunk::{ChunkSink, ChunkSource};
use crate::config::PACK_LEN_MIN;
use crate::error::{Error, Result};
use crate::log::Commit;
use crate::objects::is_taken;
use crate::staging::StagedFile;
use crate::store::{InitOptions, OpenOptions, Store};
use crate::verify::VerifyOptions;

/// The frame of a chunk, as a caller of the store makes it.
///
/// # Panics
/// If the codec fails.
#[must_use]
pub fn frame(raw: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    Encoder::new(Settings::default())
        .encode(raw, &Hint::bytes(), &mut out)
        .expect("it encodes");
    out
}

/// Puts raw bytes into a sink and returns their id and whether they were new.
///
/// # Errors
/// The sink's.
///
/// # Panics
/// If the codec fails or the bytes are longer than 4 GiB.
pub fn put(sink: &impl ChunkSink, raw: &[u8]) -> Result<(ChunkId, bool)> {
    let id = sink.id(raw);
    let len = u32::try_from(raw.len()).expect("a chunk is short");
    Ok((id, sink.put(id, len, &frame(raw))?))
}

/// Bytes that do not compress and differ for every `seed`.
#[must_use]
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    blake3::Hasher::new()
        .update(&seed.to_le_bytes())
        .finalize_xof()
        .fill(&mut out);
    out
}

/// A change that creates or moves a branch of the model `name`.
///
/// # Panics
/// If the name is not valid.
#[must_use]
pub fn change(name: &str, old: Option<SnapshotId>, new: Option<SnapshotId>) -> RefChange {
    let repo = name.parse().expect("a valid name");
    RefChange {
        r#ref: RefName::branch(repo, "main").expect("a valid branch"),
        old,
        new,
    }
}

/// A commit of these changes.
#[must_use]
pub fn commit(changes: Vec<RefChange>) -> Commit {
    Commit {
        changes,
        author: "exam".to_owned(),
        command: "exam".to_owned(),
        undoes: None,
        since: None,
    }
}

/// The whole exam. `fresh` gives an empty backend at each call; it runs on a tokio runtime.
///
/// # Panics
/// At the first question that the backend fails.
pub async fn exam(fresh: impl Fn() -> Backend) {
    names_are_created_once(&fresh()).await;
    objects_are_read_listed_and_deleted(&fresh()).await;
    staged_files_are_held_and_published(&fresh()).await;
    a_repository_is_made_once(fresh()).await;
    chunks_survive_reopening(fresh()).await;
    refs_decide_races(fresh()).await;
}

/// Refs depend on it: of two creates of one name the second is told so, and changes nothing.
async fn names_are_created_once(backend: &Backend) {
    backend
        .create("mmh/x", &b"first"[..])
        .await
        .expect("the name is free");
    let second = backend
        .create("mmh/x", &b"second"[..])
        .await
        .expect_err("it is taken");
    assert!(is_taken(&second), "the engine says so: {second}");
    let kept = backend
        .read("mmh/x", 100)
        .await
        .expect("readable")
        .expect("there");
    assert_eq!(&kept[..], b"first", "the first content stays");
    backend
        .write("mmh/x", &b"third"[..])
        .await
        .expect("plain writes replace");
    assert_eq!(
        &backend
            .read("mmh/x", 5)
            .await
            .expect("readable")
            .expect("there")[..],
        b"third"
    );
}

async fn objects_are_read_listed_and_deleted(backend: &Backend) {
    assert_eq!(backend.list("mmh/a").await.expect("an empty list"), []);
    assert_eq!(backend.read("mmh/a/1", 100).await.expect("no error"), None);
    for name in ["mmh/a/2", "mmh/a/b/3", "mmh/a/1", "mmh/ab"] {
        backend
            .write(name, name.as_bytes().to_vec())
            .await
            .expect("writable");
    }
    let names =
        |list: Vec<(String, u64)>| -> Vec<String> { list.into_iter().map(|l| l.0).collect() };
    let listed = names(backend.list("mmh/a").await.expect("listed"));
    assert_eq!(
        listed,
        ["mmh/a/1", "mmh/a/2", "mmh/a/b/3"],
        "sorted, below the prefix only"
    );
    assert_eq!(
        &backend.read_range("mmh/a/1", 4, 3).await.expect("a range")[..],
        b"a/1"
    );
    for (offset, len) in [(5, 3), (7, 1), (100, 1), (u64::MAX - 1, 1)] {
        let error = backend
            .read_range("mmh/a/1", offset, len)
            .await
            .expect_err("beyond the end");
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    }
    let error = backend
        .read_range("mmh/a/9", 0, 1)
        .await
        .expect_err("missing");
    assert!(error.is_missing_object(), "{error}");
    assert_eq!(
        backend
            .read("mmh/a/1", 3)
            .await
            .expect_err("too long")
            .kind(),
        ErrorKind::Corrupt
    );
    assert_eq!(backend.len("mmh/a/1").await.expect("no error"), Some(7));
    backend.delete("mmh/a/1").await.expect("deleted");
    backend
        .delete("mmh/a/1")
        .await
        .expect("deleting twice is no error");
    assert_eq!(backend.len("mmh/a/1").await.expect("no error"), None);
}

async fn staged_files_are_held_and_published(backend: &Backend) {
    let staging = backend.staging();
    assert!(staging.orphans().expect("none yet").is_empty());
    let file = staging.create().expect("a file");
    assert!(file.is_empty());
    file.append(&[b"head", b"body"]).expect("appended");
    assert!(
        staging.orphans().expect("listed").is_empty(),
        "a held file is no orphan"
    );
    let mut buf = [0; 4];
    file.read_at(2, &mut buf).expect("readable while it grows");
    assert_eq!(&buf, b"adbo");
    assert!(file.read_at(6, &mut buf).is_err(), "beyond the end");
    drop(file);
    let mut orphans = staging.orphans().expect("listed");
    assert_eq!(orphans.len(), 1, "a dropped file is an orphan");
    assert!(
        staging.orphans().expect("listed").is_empty(),
        "and is held by who took it"
    );
    let file: Box<dyn StagedFile> = orphans.remove(0);
    assert_eq!(file.len(), 8);
    file.truncate(6).expect("cut");
    file.append(&[b"y"]).expect("appended after the cut");
    file.sync().expect("synced");
    let name = "mmh/packs/aa/published";
    crate::pack::publish_as(backend, &*file, name)
        .await
        .expect("published");
    let bytes = backend
        .read(name, 100)
        .await
        .expect("readable")
        .expect("there");
    assert_eq!(&bytes[..], b"headboy");
    drop(file);
    assert!(
        staging.orphans().expect("listed").is_empty(),
        "nothing is left in staging"
    );
    let file = staging.create().expect("a file");
    file.discard().expect("discarded");
    drop(file);
    assert!(
        staging.orphans().expect("listed").is_empty(),
        "a discarded file is gone"
    );
}

async fn a_repository_is_made_once(backend: Backend) {
    let error = Store::open(backend.clone(), OpenOptions::default())
        .await
        .expect_err("none yet");
    assert!(matches!(error, Error::NotARepository { .. }), "{error}");
    let made = Store::init(backend.clone(), InitOptions::default())
        .await
        .expect("made");
    let again = Store::init(backend.clone(), InitOptions::default())
        .await
        .expect_err("there");
    assert!(matches!(again, Error::AlreadyARepository { .. }), "{again}");
    let opened = Store::open(backend.clone(), OpenOptions::default())
        .await
        .expect("opened");
    assert_eq!(opened.config(), made.config());
    let names: Vec<_> = backend.list("mmh").await.expect("listed");
    assert_eq!(
        names.len(),
        1,
        "init leaves the configuration and nothing else: {names:?}"
    );
}

/// A store with small packs without parity, so that little data makes many.
///
/// # Panics
/// If it cannot be made.
pub async fn small_store(backend: Backend) -> Store {
    let options = InitOptions {
        pack_len_max: PACK_LEN_MIN,
        parity: 0,
        ..InitOptions::default()
    };
    Store::init(backend, options).await.expect("a store")
}

async fn chunks_survive_reopening(backend: Backend) {
    let store = small_store(backend.clone()).await;
    let writer = store.writer(Handle::current()).await.expect("a writer");
    let handle = Handle::current();
    let early = store.clone();
    let work = move || -> Result<Vec<ChunkId>> {
        let reader = early.reader(handle);
        let mut ids = Vec::new();
        for seed in 0..20 {
            let raw = noise(seed, 1000);
            let (id, new) = put(&writer, &raw)?;
            assert!(new && !put(&writer, &raw)?.1, "a chunk is new once");
            assert_eq!(&reader.get(&id)?[..], raw, "readable before it is flushed");
            ids.push(id);
        }
        writer.finish()?;
        Ok(ids)
    };
    let ids = tokio::task::spawn_blocking(work)
        .await
        .expect("no panic")
        .expect("no error");
    let store = Store::open(backend, OpenOptions::default())
        .await
        .expect("opened");
    let reader = store.reader(Handle::current());
    let read = move || {
        ids.iter()
            .map(|id| reader.get(id))
            .collect::<Result<Vec<_>>>()
    };
    let raws = tokio::task::spawn_blocking(read)
        .await
        .expect("no panic")
        .expect("all there");
    assert!(
        raws.iter()
            .zip(0..)
            .all(|(raw, seed)| raw[..] == noise(seed, 1000))
    );
    let report = store
        .verify(VerifyOptions::default(), &Silent, &Cancel::default())
        .await;
    let report = report.expect("it looks");
    assert!(report.is_clean() && report.chunks == 20, "{report:?}");
}

async fn refs_decide_races(backend: Backend) {
    let store = Arc::new(small_store(backend.clone()).await);
    let other = Store::open(backend, OpenOptions::default())
        .await
        .expect("opened");
    let (a, b) = (SnapshotId::of(b"a"), SnapshotId::of(b"b"));
    let first = store
        .commit(commit(vec![change("m", None, Some(a))]))
        .await
        .expect("first");
    assert_eq!(first.seq, 1);
    let lost = other
        .commit(commit(vec![change("m", None, Some(b))]))
        .await
        .expect_err("lost");
    assert_eq!(lost.kind(), ErrorKind::Conflict, "{lost}");
    assert!(
        lost.to_string().contains("models/m@heads/main"),
        "it names the ref: {lost}"
    );
    let next = other
        .commit(commit(vec![change("m", Some(a), Some(b))]))
        .await
        .expect("moved");
    assert_eq!((next.seq, next.prev.is_some()), (2, true));
    let view = store.refs().await.expect("read");
    assert_eq!((view.seq, view.refs.values().next()), (2, Some(&b)));
}
