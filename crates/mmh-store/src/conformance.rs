//! One exam for every backend: what the store relies on, then the store's own promises on it.
//!
//! Each function panics with a sentence if the backend fails. A backend passes before it is used.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::BoxStream;
use mmh_codec::{Encoder, Hint, Settings};
use mmh_core::name::RefName;
use mmh_core::object::RefChange;
use mmh_core::ports::{Cancel, Silent};
use mmh_core::{ChunkId, ErrorKind, SnapshotId};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult,
};
use tokio::runtime::Handle;

use crate::access::Access;
use crate::backend::Backend;
use crate::chunk::{ChunkSink, ChunkSource};
use crate::config::PACK_LEN_MIN;
use crate::entropy::{Entropy, SystemEntropy};
use crate::error::{Error, Result};
use crate::log::Commit;
use crate::log_engine::{LogEngine, connect};
use crate::objects::is_taken;
use crate::staging::StagedFile;
use crate::store::{InitOptions, OpenOptions, Store};
use crate::stripe::StripeShape;
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

/// An engine that ignores conditions and says that all is well, as some do.
#[derive(Debug)]
pub struct Careless(pub Arc<dyn ObjectStore>);

impl fmt::Display for Careless {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "careless {}", self.0)
    }
}

#[async_trait]
impl ObjectStore for Careless {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        mut opts: PutOptions,
    ) -> object_store::Result<PutResult> {
        opts.mode = PutMode::Overwrite;
        self.0.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.0.put_multipart_opts(location, opts).await
    }

    async fn get_opts(
        &self,
        location: &Path,
        options: GetOptions,
    ) -> object_store::Result<GetResult> {
        self.0.get_opts(location, options).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        self.0.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.0.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.0.list_with_delimiter(prefix).await
    }

    async fn copy_opts(
        &self,
        from: &Path,
        to: &Path,
        options: CopyOptions,
    ) -> object_store::Result<()> {
        self.0.copy_opts(from, to, options).await
    }
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

/// A stripe of these stores on which no repository was made yet.
///
/// # Panics
/// If they make none of that shape.
pub async fn stripe(stores: Vec<Backend>, shape: StripeShape) -> Backend {
    let repository = SystemEntropy.draw().expect("the system has entropy");
    let named = Backend::stripe_of(stores);
    let made = crate::stripe::make(named, Some(shape), &repository, &SystemEntropy).await;
    made.expect("a stripe")
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

/// The exam for the home of a log, at a URL.
///
/// # Panics
/// At the first question that the engine fails.
pub async fn log_exam(url: &str, access: &Access) {
    let draw = || SystemEntropy.draw().expect("the system has entropy");
    let engine = |id| connect(url, &id, access).expect("the URL is one");
    let (log, other) = (engine(draw()), engine(draw()));
    for _ in 0..2 {
        log.prepare().await.expect("prepared, once or twice");
    }
    log_objects_are_created_once(&*log).await;
    logs_are_apart(&*log, &*other).await;
    log_lists_are_whole_and_sorted(&*other).await;
}

async fn log_objects_are_created_once(log: &dyn LogEngine) {
    assert_eq!(log.read("mmh/log/1", 9).await.expect("no error"), None);
    let racers = (0..16_u8).map(|n| log.create("mmh/log/1", vec![n; 5].into()));
    let won = futures::future::join_all(racers).await;
    let won: Vec<bool> = won.into_iter().map(|w| w.expect("no error")).collect();
    assert_eq!(
        won.iter().filter(|w| **w).count(),
        1,
        "one racer wins: {won:?}"
    );
    let winner = won
        .iter()
        .position(|w| *w)
        .and_then(|n| u8::try_from(n).ok());
    let kept = log
        .read("mmh/log/1", 5)
        .await
        .expect("no error")
        .expect("it is there");
    assert_eq!(
        kept,
        vec![winner.expect("one won"); 5],
        "the winner's bytes"
    );
    log.confirm("mmh/log/1", kept.clone())
        .await
        .expect("it lasts");
    log.confirm("mmh/log/1", "other".into())
        .await
        .expect_err("others were not written");
    let error = log.read("mmh/log/1", 4).await.expect_err("too long");
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    for _ in 0..2 {
        log.delete("mmh/log/1")
            .await
            .expect("deleted, once or twice");
        assert_eq!(log.read("mmh/log/1", 9).await.expect("no error"), None);
    }
    let again = log.create("mmh/log/1", "again".into()).await;
    assert!(again.expect("no error"), "a deleted name is free");
    let every_byte: Vec<u8> = (0..=u8::MAX).collect();
    let made = log.create("mmh/config", every_byte.clone().into()).await;
    assert!(made.expect("no error"));
    let read = log.read("mmh/config", 256).await.expect("no error");
    assert_eq!(
        read.as_deref(),
        Some(&every_byte[..]),
        "bytes come back as they were"
    );
}

async fn logs_are_apart(log: &dyn LogEngine, other: &dyn LogEngine) {
    assert_eq!(other.read("mmh/log/1", 9).await.expect("no error"), None);
    assert_eq!(other.list("mmh/log", None).await.expect("no error"), []);
    let made = other.create("mmh/log/1", "other".into()).await;
    assert!(
        made.expect("no error"),
        "another repository's names are its own"
    );
    other.delete("mmh/log/1").await.expect("deleted");
    let kept = log.read("mmh/log/1", 9).await.expect("no error");
    assert_eq!(kept.as_deref(), Some(&b"again"[..]));
}

/// More names than engines give at once.
async fn log_lists_are_whole_and_sorted(log: &dyn LogEngine) {
    use futures::{StreamExt, TryStreamExt};
    const NAMES: u64 = 1100;
    let create = |seq| async move {
        let made = log
            .create(&crate::names::entry(seq), vec![7; 3].into())
            .await?;
        assert!(made, "entry {seq} is new");
        Ok::<_, Error>(())
    };
    let mut all: Vec<_> = (1..=NAMES).map(create).collect();
    all.reverse();
    let made = futures::stream::iter(all)
        .buffer_unordered(64)
        .try_collect::<Vec<_>>();
    made.await.expect("all are created");
    for name in ["mmh/logs/1", "mmh/lo", "mmh/log-1", "mmh/checkpoint/1"] {
        log.create(name, "x".into()).await.expect("no error");
    }
    let listed = log.list("mmh/log", None).await.expect("no error");
    let expected = |from: u64| (from..=NAMES).map(crate::names::entry);
    assert!(
        listed
            .iter()
            .map(|l| &l.0)
            .eq(expected(1).collect::<Vec<_>>().iter())
    );
    assert!(
        listed.iter().all(|l| l.1 == 3 || l.1 == 0),
        "lengths are known or 0"
    );
    let after = crate::names::entry(NAMES - 3);
    let listed = log.list("mmh/log", Some(&after)).await.expect("no error");
    assert!(
        listed
            .iter()
            .map(|l| &l.0)
            .eq(expected(NAMES - 2).collect::<Vec<_>>().iter())
    );
    let none = log.list("mmh/log", Some(&crate::names::entry(NAMES))).await;
    assert_eq!(none.expect("no error"), []);
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
    file.read_at(3, &mut buf).expect("read on by who held it");
    assert_eq!(&buf, b"dboy");
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
