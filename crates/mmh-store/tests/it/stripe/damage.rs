//! Shards that rot, are cut, exchanged or removed: read around, found by a scrub and made again.

use mmh_core::ErrorKind;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use tokio::runtime::Handle;

use super::{Stores, bytes_of, move_ref, scrub};
use crate::common::{assert_all, verify};

/// What happens to the file of a shard.
type Blow = fn(&mut Vec<u8>);

const BLOWS: [(&str, Blow); 5] = [
    ("a bit of the head", |file| file[9] ^= 1),
    ("a bit of the payload", |file| {
        let at = 48 + (file.len() - 48) / 2;
        file[at] ^= 0x10;
    }),
    ("a cut", |file| file.truncate(file.len() - 1)),
    ("nothing left", Vec::clear),
    ("more than there was", |file| file.push(0)),
];

async fn write(stores: &Stores, n: usize, name: &str, bytes: Vec<u8>) {
    let path = Path::from(name);
    stores.objects[n].put(&path, bytes.into()).await.unwrap();
}

async fn shards(stores: &Stores, n: usize) -> Vec<String> {
    let mut names = stores.names(n).await;
    names.retain(|name| name.starts_with("mmh/shards/"));
    names
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_happens_to_one_store_is_read_around_and_healed() {
    let whole = Stores::filled(2, 1).await;
    for n in 0..3 {
        for (what, blow) in BLOWS {
            let stores = whole.fork();
            let names = shards(&stores, n).await;
            for name in &names {
                let mut file = bytes_of(&stores.objects[n], name).await;
                blow(&mut file);
                write(&stores, n, name, file).await;
            }
            let store = stores.open(stores.all()).await.unwrap();
            assert_all(&store.reader(Handle::current()), 0..40);
            // Lists tell lengths by those of the files: where one is wrong, `verify` may say so.
            let keeps_len = what.starts_with("a bit");
            assert!(
                !keeps_len || verify(&store).await.is_clean(),
                "{what} on {n}"
            );
            let report = scrub(&store).await;
            assert_eq!(
                report.healed.len(),
                names.len(),
                "{what} on {n}: {report:?}"
            );
            assert!(report.is_clean() && report.healed[0].store == format!("store-{n}"));
            for name in &names {
                let (old, new) = (&whole.objects[n], &stores.objects[n]);
                assert_eq!(bytes_of(old, name).await, bytes_of(new, name).await);
            }
            assert_eq!(
                store.backend().shards_read_around(),
                0,
                "healed is forgotten"
            );
            assert!(scrub(&store).await.healed.is_empty());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn removed_shards_are_made_again() {
    let stores = Stores::filled(4, 2).await;
    for n in [0, 5] {
        for name in shards(&stores, n).await {
            stores.objects[n].delete(&Path::from(name)).await.unwrap();
        }
    }
    let store = stores.open(stores.all()).await.unwrap();
    assert_all(&store.reader(Handle::current()), 0..40);
    let report = scrub(&store).await;
    assert!(report.is_clean() && report.healed.len() > 5, "{report:?}");
    stores.assert_safe(40).await;
}

/// A store that is lost and another that has rotted: as many as may be, of every object.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn loss_and_rot_add_up() {
    let stores = Stores::filled(4, 2).await;
    for name in shards(&stores, 2).await {
        let mut file = bytes_of(&stores.objects[2], &name).await;
        BLOWS[1].1(&mut file);
        write(&stores, 2, &name, file).await;
    }
    let store = stores.open(stores.without(&[4])).await.unwrap();
    assert_all(&store.reader(Handle::current()), 0..40);
    assert!(store.backend().shards_read_around() > 0, "it is told");
    let report = scrub(&store).await;
    assert!(!report.healed.is_empty() && report.beyond.is_empty());
    assert!(!report.is_clean(), "a store is away still");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beyond_parity_the_object_is_named_and_no_wrong_byte_comes_out() {
    let stores = Stores::filled(2, 1).await;
    let names = shards(&stores, 0).await;
    let mut packs = names.iter().filter(|name| name.contains("/packs/"));
    let pack = packs.next_back().unwrap();
    for n in 0..2 {
        let mut file = bytes_of(&stores.objects[n], pack).await;
        file[60] ^= 1;
        write(&stores, n, pack, file).await;
    }
    let store = stores.open(stores.all()).await.unwrap();
    let damaged = crate::common::count_damaged(&store.reader(Handle::current()), 0..40);
    assert!(damaged > 0 && damaged < 40, "{damaged}");
    let report = scrub(&store).await;
    let object = pack.replace("/shards/", "/");
    assert_eq!(report.beyond, [object], "{report:?}");
    assert!(!verify(&store).await.is_clean());
}

/// The shards of two objects are exchanged, or of two stores: each is whole, and in a wrong place.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exchanged_shards_are_no_shards() {
    let whole = Stores::filled(2, 1).await;
    let names = shards(&whole, 0).await;
    let packs: Vec<&String> = names.iter().filter(|n| n.contains("/packs/")).collect();
    let stores = whole.fork();
    for (a, b) in [(0, 1), (1, 0)] {
        let file = bytes_of(&whole.objects[0], packs[a]).await;
        write(&stores, 0, packs[b], file).await;
    }
    let other = bytes_of(&whole.objects[1], packs[2]).await;
    write(&stores, 0, packs[2], other).await;
    let store = stores.open(stores.all()).await.unwrap();
    assert_all(&store.reader(Handle::current()), 0..40);
    let report = scrub(&store).await;
    assert_eq!(report.healed.len(), 3, "{report:?}");
    stores.assert_safe(40).await;
}

/// The shards of another stripe, with objects of the same names, are not this one's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_repositorys_log_is_not_taken() {
    let (stores, other) = (Stores::filled(2, 1).await, Stores::filled(2, 1).await);
    let entry = "mmh/shards/log/00000000000000000001";
    write(&stores, 0, entry, bytes_of(&other.objects[0], entry).await).await;
    let store = stores.open(stores.all()).await.unwrap();
    move_ref(&store, Some(1), Some(2)).await.unwrap();
    assert_eq!(
        scrub(&store).await.healed,
        [],
        "it was made good before it was followed"
    );
    stores.assert_safe(40).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_note_is_a_lost_store() {
    let stores = Stores::filled(2, 1).await;
    let name = "mmh/stripe/00000000000000000001";
    let note = bytes_of(&stores.objects[1], name).await;
    for at in 0..note.len() {
        let mut bad = note.clone();
        bad[at] ^= 1;
        write(&stores, 1, name, bad).await;
        let store = stores.open(stores.all()).await.unwrap();
        assert_eq!(store.backend().away().len(), 1, "of one seat");
        let error = move_ref(&store, Some(1), Some(2)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
    }
    write(&stores, 1, name, note[..note.len() / 2].to_vec()).await;
    assert_all(
        &stores
            .open(stores.all())
            .await
            .unwrap()
            .reader(Handle::current()),
        0..40,
    );
}
