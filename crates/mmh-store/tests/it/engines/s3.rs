//! S3 as moto speaks it: the exam, many writers, uploads in parts, work of dead processes, and
//! the cache.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use mmh_core::{ChunkId, ErrorKind};
use mmh_store::conformance::{exam, noise, put};
use mmh_store::{Access, Backend, ChunkSource, InitOptions, OpenOptions, Store};
use tokio::runtime::Handle;

use super::race;
use super::server::Server;
use crate::common::{assert_all, put_all};

fn access(server: &Server, cache: PathBuf) -> Access {
    let endpoint = format!("http://127.0.0.1:{}", server.port);
    let variables = [
        ("AWS_ACCESS_KEY_ID", "key"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
        ("AWS_REGION", "us-east-1"),
        ("AWS_ENDPOINT_URL", &endpoint),
    ];
    Access {
        variables: variables.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
        cache: Some(cache),
        cache_len_max: 1 << 30,
        log: None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_by_moto() {
    let Some(server) = Server::moto() else { return };
    let access = access(&server, server.folder("cache"));
    let n = AtomicU32::new(0);
    let fresh = || {
        let n = n.fetch_add(1, Ordering::Relaxed);
        Backend::parse(&format!("s3://models/exam/{n}"), &access).unwrap()
    };
    exam(&fresh).await;
    race::many_writers("s3 (moto)", &fresh()).await;
    packs_go_up_in_parts(fresh()).await;
    the_next_process_uploads_what_a_dead_one_staged(fresh()).await;
    what_was_read_is_kept_here(&server, "s3://models/cached").await;
    mistakes_say_what_to_do(&server, &access).await;
}

async fn init(backend: &Backend) -> Store {
    Store::init(backend.clone(), InitOptions::default())
        .await
        .unwrap()
}

async fn open(backend: &Backend) -> Store {
    Store::open(backend.clone(), OpenOptions::default())
        .await
        .unwrap()
}

/// A pack of 20 MB is three parts; what comes back is what went up.
async fn packs_go_up_in_parts(backend: Backend) {
    let store = init(&backend).await;
    let writer = store.writer(Handle::current()).await.unwrap();
    let work = move || {
        let ids: Vec<ChunkId> = (0..20)
            .map(|n| put(&writer, &noise(n, 1 << 20)).unwrap().0)
            .collect();
        writer.finish().unwrap();
        ids
    };
    let ids = tokio::task::spawn_blocking(work).await.unwrap();
    let store = open(&backend).await;
    let stats = store.stats().await.unwrap();
    assert!(stats.packs == 1 && stats.pack_bytes > 20 << 20, "{stats:?}");
    let reader = store.reader(Handle::current());
    let read = move || {
        ids.iter()
            .zip(0..)
            .all(|(id, n)| reader.get(id).unwrap()[..] == noise(n, 1 << 20))
    };
    assert!(tokio::task::spawn_blocking(read).await.unwrap());
}

/// The writer is dropped without a flush, as by a crash: its staged file stays on this machine.
async fn the_next_process_uploads_what_a_dead_one_staged(backend: Backend) {
    let store = init(&backend).await;
    let writer = store.writer(Handle::current()).await.unwrap();
    tokio::task::spawn_blocking(move || put_all(&writer, 0..10).unwrap())
        .await
        .unwrap();
    drop(store);
    let store = open(&backend).await;
    assert_eq!(store.stats().await.unwrap().packs, 0);
    let recovered = store.recover().await.unwrap();
    assert_eq!(
        (recovered.salvaged_packs, recovered.salvaged_chunks),
        (1, 10)
    );
    let reader = open(&backend).await.reader(Handle::current());
    tokio::task::spawn_blocking(move || assert_all(&reader, 0..10))
        .await
        .unwrap();
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found.sort();
    found
}

/// What was read once is read here the next time, although the pack is gone from the engine; and
/// where the cache is damaged, the engine is asked again.
async fn what_was_read_is_kept_here(server: &Server, url: &str) {
    let cache = server.folder("own cache");
    let access = access(server, cache.clone());
    let backend = Backend::parse(url, &access).unwrap();
    let store = init(&backend).await;
    let writer = store.writer(Handle::current()).await.unwrap();
    let work = move || {
        put_all(&writer, 0..10).unwrap();
        writer.finish().unwrap();
    };
    tokio::task::spawn_blocking(work).await.unwrap();
    assert_eq!(files(&cache), Vec::<PathBuf>::new(), "nothing was read yet");
    let read = async || {
        let reader = open(&backend).await.reader(Handle::current());
        tokio::task::spawn_blocking(move || assert_all(&reader, 0..10)).await
    };
    read().await.unwrap();
    let kept = files(&cache);
    assert!(
        kept.len() > 10,
        "records, a block, the run's tail: {kept:?}"
    );
    for path in &kept {
        let mut bytes = fs::read(path).unwrap();
        bytes[0] ^= 1;
        fs::write(path, bytes).unwrap();
    }
    read().await.unwrap();
    assert_eq!(files(&cache), kept, "damaged pieces are fetched again");

    let listed = backend.objects().list(Some(&"mmh/packs".into()));
    let packs: Vec<_> = futures::TryStreamExt::try_collect(listed).await.unwrap();
    for pack in packs {
        let pack: object_store::ObjectMeta = pack;
        object_store::ObjectStoreExt::delete(&**backend.objects(), &pack.location)
            .await
            .unwrap();
    }
    read().await.unwrap();
    for path in &kept {
        fs::remove_file(path).unwrap();
    }
    assert!(read().await.is_err(), "now it is gone");
}

async fn mistakes_say_what_to_do(server: &Server, good: &Access) {
    let open = async |url: &str, access: &Access| {
        Store::open(
            Backend::parse_existing(url, access)?,
            OpenOptions::default(),
        )
        .await
    };
    let error = open("s3://models/nothing-here", good).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("mmh init"), "{error}");
    let error = open("s3://no-such-bucket", good).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    let nowhere = Access {
        cache: None,
        ..good.clone()
    };
    let error = open("s3://models/x", &nowhere).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("cache"), "{error}");
    assert!(server.request("GET /models").contains("200"));
}
