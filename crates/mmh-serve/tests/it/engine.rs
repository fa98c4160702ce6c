//! A node as an engine beyond what the exam asks: long lists, copies, names, conditions.

use std::collections::BTreeSet;

use futures::{StreamExt as _, TryStreamExt as _};
use mmh_core::ErrorKind;
use mmh_store::{Backend, Error};
use object_store::path::Path;
use object_store::{
    CopyMode, CopyOptions, GetOptions, ObjectMeta, ObjectStore as _, ObjectStoreExt as _, PutMode,
    PutOptions, UpdateVersion,
};

use crate::common::{Served, Setup};

fn kind(source: object_store::Error) -> ErrorKind {
    let place = "x".to_owned();
    Error::Engine { place, source }.kind()
}

async fn names(
    listed: futures::stream::BoxStream<'_, object_store::Result<ObjectMeta>>,
) -> BTreeSet<String> {
    listed
        .map_ok(|meta| meta.location.to_string())
        .try_collect()
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_lists_come_whole_and_from_where_they_are_wanted() {
    let node = Served::memory().await;
    // More than one piece of a list has, and not a multiple of it.
    let all: Vec<String> = (0..1111).map(|n| format!("mmh/log/{n:020}")).collect();
    for name in &all {
        node.backend
            .objects()
            .put(&Path::from(name.as_str()), "12345".into())
            .await
            .unwrap();
    }
    node.backend
        .objects()
        .put(&Path::from("mmh/logs/x"), "x".into())
        .await
        .unwrap();
    node.backend
        .objects()
        .put(&Path::from("other/x"), "x".into())
        .await
        .unwrap();
    let client = node.client();
    let prefix = Path::from("mmh/log");
    let listed = names(client.objects().list(Some(&prefix))).await;
    assert!(listed.iter().eq(&all));
    let after = Path::from(all[1000].as_str());
    let listed = names(client.objects().list_with_offset(Some(&prefix), &after)).await;
    assert!(listed.iter().eq(&all[1001..]));
    let everything = names(client.objects().list(None)).await;
    assert_eq!(
        everything.len(),
        all.len() + 1,
        "what is not the repository's is not shown"
    );
    let lens: Vec<u64> = client
        .objects()
        .list(Some(&prefix))
        .map_ok(|meta| meta.size)
        .try_collect()
        .await
        .unwrap();
    assert!(lens.iter().all(|len| *len == 5));
    let none = names(client.objects().list(Some(&Path::from("mmh/none")))).await;
    assert!(none.is_empty());
    let staged = client
        .objects()
        .list(Some(&Path::from("mmh/staging")))
        .next()
        .await
        .unwrap();
    assert_eq!(kind(staged.unwrap_err()), ErrorKind::Unsupported);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_are_copied_on_the_node() {
    let node = Served::memory().await;
    let client = node.client();
    let (a, b, none) = (
        Path::from("mmh/a"),
        Path::from("mmh/b"),
        Path::from("mmh/none"),
    );
    client.objects().put(&a, "a".into()).await.unwrap();
    client.objects().put(&b, "b".into()).await.unwrap();
    client.objects().copy(&a, &b).await.unwrap();
    let got = client
        .objects()
        .get(&b)
        .await
        .unwrap()
        .bytes()
        .await
        .unwrap();
    assert_eq!(got, "a");
    let error = client.objects().copy(&none, &b).await.unwrap_err();
    assert_eq!(kind(error), ErrorKind::NotFound);
    let create = CopyOptions::new().with_mode(CopyMode::Create);
    let error = client
        .objects()
        .copy_opts(&a, &none, create)
        .await
        .unwrap_err();
    assert_eq!(kind(error), ErrorKind::Unsupported);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_objects_are_deleted_at_once() {
    let node = Served::memory().await;
    let client = node.client();
    let paths: Vec<Path> = (0..30)
        .map(|n| Path::from(format!("mmh/tombs/{n}")))
        .collect();
    for path in &paths {
        client.objects().put(path, "x".into()).await.unwrap();
    }
    let stream = futures::stream::iter(paths.clone()).map(Ok).boxed();
    let deleted: Vec<Path> = client
        .objects()
        .delete_stream(stream)
        .try_collect()
        .await
        .unwrap();
    assert_eq!(deleted, paths);
    assert!(names(node.backend.objects().list(None)).await.is_empty());
    // Engines differ in whether that is an error; the store takes it for none.
    if let Err(error) = client.objects().delete(&paths[0]).await {
        assert_eq!(kind(error), ErrorKind::NotFound);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_node_cannot_do_is_unsupported_and_not_asked_for() {
    let node = Served::memory().await;
    let (client, path) = (node.client(), Path::from("mmh/x"));
    client.objects().put(&path, "x".into()).await.unwrap();
    let version = UpdateVersion {
        e_tag: Some("1".to_owned()),
        version: None,
    };
    let update = PutOptions::from(PutMode::Update(version));
    let error = client
        .objects()
        .put_opts(&path, "y".into(), update)
        .await
        .unwrap_err();
    assert_eq!(kind(error), ErrorKind::Unsupported);
    let error = client
        .objects()
        .list_with_delimiter(None)
        .await
        .unwrap_err();
    assert_eq!(kind(error), ErrorKind::Unsupported);
    for bad in ["etc/passwd", "mmh/a b", "mmh/staging/1", "mmh", "mmh/.x"] {
        let bad = Path::from(bad);
        assert_eq!(
            kind(client.objects().get(&bad).await.unwrap_err()),
            ErrorKind::Unsupported
        );
        let put = client.objects().put(&bad, "x".into()).await;
        assert_eq!(kind(put.unwrap_err()), ErrorKind::Unsupported);
        let deleted = client.objects().delete(&bad).await;
        assert_eq!(kind(deleted.unwrap_err()), ErrorKind::Unsupported);
    }
    let asked = node.memo.0.lock().unwrap().len();
    assert_eq!(asked, 1, "only the first");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heads_and_conditions_of_reads_are_answered() {
    let node = Served::memory().await;
    let (client, path) = (node.client(), Path::from("mmh/x"));
    client.objects().put(&path, "12345".into()).await.unwrap();
    let head = client.objects().head(&path).await.unwrap();
    assert_eq!((head.size, head.location), (5, path.clone()));
    let none = client
        .objects()
        .head(&Path::from("mmh/y"))
        .await
        .unwrap_err();
    assert_eq!(kind(none), ErrorKind::NotFound);
    // Nodes tell no version, so that no condition on one holds.
    let matching = GetOptions::new().with_if_match(Some("\"1\""));
    let error = client
        .objects()
        .get_opts(&path, matching)
        .await
        .unwrap_err();
    assert_eq!(kind(error), ErrorKind::Conflict);
    let empty = Path::from("mmh/empty");
    client.objects().put(&empty, "".into()).await.unwrap();
    let got = client.objects().get(&empty).await.unwrap();
    assert_eq!((got.range.clone(), got.meta.size), (0..0, 0));
    assert_eq!(got.bytes().await.unwrap(), "");
    let ranges = client
        .objects()
        .get_ranges(&path, &[0..2, 3..5])
        .await
        .unwrap();
    assert_eq!(ranges, ["12", "45"]);
}

/// Of many racers for one name one wins, and its bytes stay.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_many_racers_creates() {
    let dir = tempfile::tempdir().unwrap();
    for behind in [Backend::memory(), Backend::local(dir.path()).unwrap()] {
        let node = Setup::open(behind).serve().await;
        let path = Path::from("mmh/log/1");
        let racers = (0..16u8).map(|n| {
            let (client, path) = (node.client(), path.clone());
            tokio::spawn(async move {
                let create = PutOptions::from(PutMode::Create);
                client
                    .objects()
                    .put_opts(&path, vec![n; 3].into(), create)
                    .await
                    .is_ok()
            })
        });
        let mut won = Vec::new();
        for (n, racer) in (0..16u8).zip(racers.collect::<Vec<_>>()) {
            if racer.await.unwrap() {
                won.push(n);
            }
        }
        assert_eq!(won.len(), 1, "{won:?}");
        let got = node
            .backend
            .objects()
            .get(&path)
            .await
            .unwrap()
            .bytes()
            .await
            .unwrap();
        assert_eq!(got, vec![won[0]; 3]);
        assert_eq!(node.answers(412), 15);
    }
}

/// More at once than there are places, and than there is room for bodies.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_is_served_one_after_the_other() {
    let mut setup = Setup::open(Backend::memory());
    setup.limits.connections = 2;
    setup.limits.head = std::time::Duration::from_millis(300);
    setup.limits.bodies_len = 1;
    setup.limits.outlines_len = 0;
    let node = setup.serve().await;
    let client = node.client();
    let puts = (0..20u8).map(|n| {
        let client = client.clone();
        async move {
            let path = Path::from(format!("mmh/index/{n}"));
            let put = client.objects().put(&path, vec![n; 200_000].into()).await;
            put.unwrap();
            client
                .objects()
                .get(&path)
                .await
                .unwrap()
                .bytes()
                .await
                .unwrap()
        }
    });
    let got: Vec<_> = futures::stream::iter(puts).buffered(6).collect().await;
    assert!(
        got.iter()
            .zip(0..)
            .all(|(bytes, n)| **bytes == vec![n; 200_000])
    );
    assert_eq!(node.answers(201), 20);
}
