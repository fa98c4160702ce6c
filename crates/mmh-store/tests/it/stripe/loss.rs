//! Any few stores are lost: everything reads, nothing is written, and empty stores take their
//! place.

use mmh_core::ErrorKind;
use mmh_store::conformance::{exam, noise, put, stripe};
use mmh_store::{Backend, ChunkSource, Error};
use tokio::runtime::Handle;

use super::{Stores, add, at, bytes_of, lost, move_ref, replace, scrub};
use crate::common::{assert_all, verify};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stripe_passes_the_exam() {
    for (data, parity) in [(2, 1), (4, 2), (1, 1)] {
        let fresh = || {
            let stores = Stores::new(data, parity);
            let stores_of = (0..stores.n()).map(|n| stores.store(n)).collect();
            let make = stripe(stores_of, stores.shape);
            tokio::task::block_in_place(|| Handle::current().block_on(make))
        };
        exam(fresh).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whichever_stores_are_lost_everything_reads() {
    for (data, parity) in [(2, 1), (4, 2), (1, 1), (1, 2), (3, 3)] {
        let stores = Stores::filled(data, parity).await;
        stores.assert_safe(40).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sealed_repository_is_spread_like_any_other() {
    let mut stores = Stores::new(2, 1);
    stores.sealed = true;
    stores.fill().await;
    stores.assert_safe(40).await;
    let without_key = mmh_store::Store::open(stores.all(), mmh_store::OpenOptions::default());
    assert_eq!(without_key.await.unwrap_err().kind(), ErrorKind::Denied);
    let fresh = stores.empty(1);
    let (replaced, _) = replace(&fresh.all()).await.unwrap();
    assert_eq!(replaced.len(), 1, "no key is needed");
    fresh.assert_safe(40).await;
}

/// Long packs have many rows, and records that span several.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_packs_have_many_rows() {
    let stores = Stores::new(2, 1);
    let options = mmh_store::InitOptions {
        stripe: Some(stores.shape),
        parity: 3,
        ..Default::default()
    };
    let store = mmh_store::Store::init(stores.all(), options).await.unwrap();
    let writer = store.writer(Handle::current()).await.unwrap();
    let raws: Vec<Vec<u8>> = (0..7).map(|n| noise(n, 3_500_000)).collect();
    let job = tokio::task::spawn_blocking(move || {
        let ids: Vec<_> = raws
            .iter()
            .map(|raw| put(&writer, raw).unwrap().0)
            .collect();
        writer.finish().unwrap();
        (ids, raws)
    });
    let (ids, raws) = job.await.unwrap();
    for lost in [vec![], vec![0], vec![1], vec![2]] {
        let store = stores.open(stores.without(&lost)).await.unwrap();
        let reader = store.reader(Handle::current());
        for (id, raw) in ids.iter().zip(&raws) {
            assert_eq!(&reader.get(id).unwrap()[..], raw, "without {lost:?}");
        }
        assert!(verify(&store).await.is_clean());
    }
    let stats = store.stats().await.unwrap();
    let stored: u64 = {
        let mut sum = 0;
        for n in 0..3 {
            for name in stores.names(n).await {
                if name.starts_with("mmh/shards/packs") {
                    sum += bytes_of(&stores.objects[n], &name).await.len() as u64;
                }
            }
        }
        sum
    };
    let overhead = stored as f64 / stats.pack_bytes as f64;
    assert!(
        (1.5..1.51).contains(&overhead),
        "half as much again: {overhead}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_store_nothing_is_written() {
    let stores = Stores::filled(2, 1).await;
    for lost in 0..3 {
        let store = stores.open(stores.without(&[lost])).await.unwrap();
        let before = at(&store).await;
        let errors = [
            add(&store, 40..41).await.unwrap_err(),
            move_ref(&store, Some(1), Some(2)).await.unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
            let text = error.to_string();
            assert!(text.contains(&format!("store-{lost}")), "{text}");
            assert!(text.contains("mmh repair"), "{text}");
        }
        assert_eq!(at(&store).await, before);
        let away = store.backend().away();
        assert_eq!(away.len(), 1, "{away:?}");
    }
    let store = stores.open(stores.all()).await.unwrap();
    assert_eq!(at(&store).await, (1, Some(1)));
    move_ref(&store, Some(1), Some(2)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_too_many_lost_the_message_says_which() {
    let stores = Stores::filled(2, 1).await;
    let error = stores.open(stores.without(&[0, 2])).await.unwrap_err();
    assert!(matches!(error, Error::StripeLost { .. }), "{error}");
    let text = error.to_string();
    assert!(
        text.contains("store-0") && text.contains("store-2"),
        "{text}"
    );
    assert!(
        text.contains("1 of the 3 stores are there, 2 are needed"),
        "{text}"
    );
    assert_eq!(
        replace(&stores.without(&[0, 2])).await.unwrap_err().kind(),
        ErrorKind::Unavailable
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_store_takes_the_place_of_a_lost_one() {
    for (data, parity) in [(2, 1), (4, 2), (1, 2)] {
        let made = Stores::filled(data, parity).await;
        for lost in lost(made.n(), parity as usize) {
            let mut stores = made.fork();
            for n in &lost {
                stores = stores.empty(*n);
            }
            let (replaced, report) = replace(&stores.all()).await.unwrap();
            assert_eq!(replaced.len(), lost.len());
            assert!(
                report.beyond.is_empty() && report.healed.len() > 5,
                "{report:?}"
            );
            stores.assert_safe(40).await;
            let store = stores.open(stores.all()).await.unwrap();
            assert_eq!(store.backend().away(), []);
            add(&store, 40..60).await.unwrap();
            move_ref(&store, Some(1), Some(2)).await.unwrap();
            assert!(
                scrub(&store).await.healed.is_empty(),
                "nothing is left to do"
            );
            stores.assert_safe(60).await;
            let (none, _) = replace(&stores.all()).await.unwrap();
            assert_eq!(none, [], "a second time nothing is replaced");
        }
    }
}

/// What is made again is what was there, byte for byte.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_store_holds_the_same_shards() {
    let made = Stores::filled(2, 1).await;
    for n in 0..3 {
        let stores = made.fork().empty(n);
        replace(&stores.all()).await.unwrap();
        let is_shard = |name: &&String| name.starts_with("mmh/shards/");
        let (old, new) = (made.names(n).await, stores.names(n).await);
        let shards: Vec<&String> = old.iter().filter(is_shard).collect();
        assert!(new.iter().filter(is_shard).eq(shards.iter().copied()));
        for name in shards {
            let (old, new) = (&made.objects[n], &stores.objects[n]);
            assert_eq!(
                bytes_of(old, name).await,
                bytes_of(new, name).await,
                "{name}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stores_that_make_no_stripe_are_refused() {
    let stores = Stores::new(2, 1);
    let too_few = stores.init_in(stores.some([0, 1])).await.unwrap_err();
    assert_eq!(too_few.kind(), ErrorKind::Invalid);
    assert!(
        too_few.to_string().contains("needs 3 stores, not 2"),
        "{too_few}"
    );
    let alone = stores.init_in(stores.store(0)).await.unwrap_err();
    assert_eq!(alone.kind(), ErrorKind::Invalid, "{alone}");
    let twice = stores.init_in(stores.some([0, 1, 0])).await.unwrap_err();
    assert!(twice.to_string().contains("given twice"), "{twice}");
    for n in 0..3 {
        assert!(stores.names(n).await.is_empty(), "nothing is left behind");
    }
    let shapeless = mmh_store::Store::init(stores.all(), Default::default())
        .await
        .unwrap_err();
    assert!(shapeless.to_string().contains("--stripe"), "{shapeless}");
    let none = stores.open(stores.all()).await.unwrap_err();
    assert_eq!(none.kind(), ErrorKind::NotFound);
    // A store that holds a repository of its own is not overwritten.
    crate::common::Memory::new();
    mmh_store::Store::init(stores.store(1), Default::default())
        .await
        .unwrap();
    let taken = stores.init_in(stores.all()).await.unwrap_err();
    assert!(matches!(taken, Error::AlreadyARepository { .. }), "{taken}");
}

/// An engine that was named and not opened must not look like an empty one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stores_are_not_read_or_written_before_the_stripe_is_opened() {
    use object_store::ObjectStoreExt;
    let stores = Stores::filled(2, 1).await;
    let named = stores.all();
    let engine = named.objects();
    let path = "mmh/config".into();
    assert!(!matches!(
        engine.head(&path).await.unwrap_err(),
        object_store::Error::NotFound { .. }
    ));
    assert!(engine.put(&path, "x".into()).await.is_err());
    let store = stores.open(named).await.unwrap();
    let dest = Backend::stripe_of(vec![Backend::memory(), Backend::memory()]);
    let copied = store
        .copy_to(&dest, &mmh_core::ports::Silent, &Default::default())
        .await;
    assert_eq!(copied.unwrap_err().kind(), ErrorKind::Unsupported);
}

/// What was spread can be brought together again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stripe_is_copied_to_one_store() {
    let stores = Stores::filled(4, 2).await;
    let store = stores.open(stores.without(&[0, 3])).await.unwrap();
    let dest = Backend::memory();
    let silent = mmh_core::ports::Silent;
    store
        .copy_to(&dest, &silent, &Default::default())
        .await
        .unwrap();
    let copy = stores.open(dest).await.unwrap();
    assert_all(&copy.reader(Handle::current()), 0..40);
    assert_eq!(at(&copy).await, at(&store).await);
    assert!(verify(&copy).await.is_clean());
}
