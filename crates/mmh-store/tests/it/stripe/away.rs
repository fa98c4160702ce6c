//! Stores that were away, are older than the rest, in another order, given twice, or of another
//! stripe; and writers that still hold to a store that was replaced.

use mmh_core::ErrorKind;
use mmh_core::ports::{Cancel, Silent};
use mmh_store::{Error, GcOptions, GcReport, OpenOptions, Result, Store};
use object_store::ObjectStoreExt;
use object_store::path::Path;
use tokio::runtime::Handle;

use super::{Stores, add, at, bytes_of, move_ref, names_in, replace, scrub};
use crate::collect::Turned;
use crate::common::{assert_all, verify};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_order_in_which_stores_are_given_does_not_matter() {
    let stores = Stores::filled(2, 1).await;
    for order in [
        [0, 1, 2],
        [0, 2, 1],
        [1, 0, 2],
        [1, 2, 0],
        [2, 0, 1],
        [2, 1, 0],
    ] {
        let store = stores.open(stores.some(order)).await.unwrap();
        assert_all(&store.reader(Handle::current()), 0..40);
        let (seq, now) = at(&store).await;
        move_ref(&store, now, Some(u8::try_from(seq + 1).unwrap()))
            .await
            .unwrap();
        assert!(scrub(&store).await.healed.is_empty(), "{order:?}");
    }
    stores.assert_safe(40).await;
}

/// Two disks were swapped: each is found by what it holds, not by where it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stores_that_changed_places_are_the_same_stores() {
    let mut stores = Stores::filled(2, 1).await;
    stores.objects.swap(0, 2);
    let store = stores.open(stores.all()).await.unwrap();
    assert_all(&store.reader(Handle::current()), 0..40);
    move_ref(&store, Some(1), Some(2)).await.unwrap();
    assert!(scrub(&store).await.healed.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_store_is_not_two() {
    let stores = Stores::filled(2, 1).await;
    let mut copied = stores.clone();
    copied.objects[2] = std::sync::Arc::new(stores.objects[1].fork());
    for twice in [stores.some([0, 1, 1]), copied.all()] {
        let error = stores.open(twice).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        assert!(error.to_string().contains("the same store"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stores_of_two_stripes_are_not_mixed() {
    let (a, b) = (Stores::filled(2, 1).await, Stores::filled(2, 1).await);
    let mut mixed = a.clone();
    mixed.objects[2] = std::sync::Arc::clone(&b.objects[2]);
    let error = a.open(mixed.all()).await.unwrap_err();
    assert!(matches!(error, Error::StripeMixed { .. }), "{error}");
    assert_eq!(
        replace(&mixed.all()).await.unwrap_err().kind(),
        ErrorKind::Conflict
    );
}

/// The lost store comes back, as old as it was when it went: it is left alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_was_replaced_and_comes_back_is_no_part_any_more() {
    for n in 0..3 {
        let old = Stores::filled(2, 1).await;
        let new = old.empty(n);
        replace(&new.all()).await.unwrap();
        let store = new.open(new.all()).await.unwrap();
        add(&store, 40..60).await.unwrap();
        move_ref(&store, Some(1), Some(2)).await.unwrap();
        let before = names_in(&old.objects[n]).await;
        // Beside the new one, and in its place.
        let mut four = vec![old.store(n)];
        four.extend((0..3).map(|i| new.store(i)));
        let store = new.open(mmh_store::Backend::stripe_of(four)).await.unwrap();
        let away = store.backend().away();
        assert_eq!(away.len(), 1);
        assert!(away[0].why.contains("replaced"), "{away:?}");
        assert_eq!(at(&store).await, (2, Some(2)));
        move_ref(&store, Some(2), Some(3)).await.unwrap();
        assert_eq!(names_in(&old.objects[n]).await, before, "it is left alone");
        let store = old.open(old.all()).await.unwrap();
        assert_eq!(at(&store).await, (3, Some(3)), "it hides nothing");
        assert_all(&store.reader(Handle::current()), 0..60);
        let error = move_ref(&store, Some(3), Some(4)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    }
}

/// A store is set back to an older state, as from a backup, and still has its seat.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_was_set_back_hides_nothing_and_brings_nothing_back() {
    for n in 0..3 {
        let stores = Stores::filled(2, 1).await;
        let store = stores.open(stores.all()).await.unwrap();
        let lease = "mmh/leases/old";
        store
            .backend()
            .objects()
            .put(&lease.into(), "x".into())
            .await
            .unwrap();
        let old = stores.fork();
        store
            .backend()
            .objects()
            .delete(&lease.into())
            .await
            .unwrap();
        add(&store, 40..60).await.unwrap();
        move_ref(&store, Some(1), Some(2)).await.unwrap();
        let mut back = stores.clone();
        back.objects[n] = std::sync::Arc::clone(&old.objects[n]);
        let store = back.open(back.all()).await.unwrap();
        assert_eq!(at(&store).await, (2, Some(2)), "store {n}");
        assert_all(&store.reader(Handle::current()), 0..60);
        let listed = listed(&store, "mmh/leases").await;
        assert!(!listed.contains(&lease.to_owned()), "{listed:?}");
        // It goes on after the newest entry, not after the newest of the old store.
        assert_eq!(move_ref(&store, Some(2), Some(3)).await.unwrap(), 3);
        assert!(scrub(&store).await.is_clean());
        let store = back.open(back.all()).await.unwrap();
        assert!(verify(&store).await.is_clean());
        assert_eq!(scrub(&store).await.healed, []);
    }
}

async fn listed(store: &Store, prefix: &str) -> Vec<String> {
    use futures::TryStreamExt;
    let list = store.backend().objects().list(Some(&Path::from(prefix)));
    let names = list.map_ok(|meta| meta.location.to_string());
    names.try_collect().await.unwrap()
}

/// A process that opened the stripe before a store was replaced acknowledges nothing afterwards,
/// whichever store that was, and whether it can still reach it or not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_writes_to_a_replaced_store_is_shut_out() {
    for n in 0..3 {
        let old = Stores::filled(2, 1).await;
        let stalled = old.open(old.all()).await.unwrap();
        at(&stalled).await;
        let new = old.empty(n);
        replace(&new.all()).await.unwrap();
        let error = move_ref(&stalled, Some(1), Some(9)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "store {n}: {error}");
        // Nobody was told that it is there. It may be there all the same, for everybody or for
        // nobody, and the log goes on.
        let store = new.open(new.all()).await.unwrap();
        let (seq, now) = at(&store).await;
        assert_eq!(move_ref(&store, now, Some(2)).await.unwrap(), seq + 1);
        let error = move_ref(&stalled, Some(9), Some(10)).await.unwrap_err();
        assert!(error.kind() != ErrorKind::Internal, "{error}");
        let again = new.open(new.all()).await.unwrap();
        assert_eq!(at(&again).await, (seq + 1, Some(2)));
        assert_eq!(
            again.operations(None, 10).await.unwrap().len() as u64,
            seq + 1
        );
        assert!(scrub(&again).await.beyond.is_empty());
        new.assert_safe(40).await;
    }
}

/// Two repairs at once with two new stores: one wins, or none, and another repair ends it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_repairs_at_once_end_with_one_stripe() {
    let old = Stores::filled(2, 1).await;
    let (a, b) = (old.empty(2), old.empty(2));
    let (a_stores, b_stores) = (a.all(), b.all());
    let (first, second) = futures::join!(replace(&a_stores), replace(&b_stores));
    let won = [&first, &second].iter().filter(|done| done.is_ok()).count();
    assert!(won <= 1 || first.unwrap().0.len() + second.unwrap().0.len() >= 1);
    for stores in [&a, &b] {
        if replace(&stores.all()).await.is_ok() {
            let store = stores.open(stores.all()).await.unwrap();
            if store.backend().away().is_empty() {
                move_ref(&store, Some(1), Some(2)).await.unwrap();
                stores.assert_safe(40).await;
                return;
            }
        }
    }
    panic!("neither store has the seat");
}

/// What garbage collection takes away is gone from every store.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_collected_is_gone_everywhere() {
    let stores = Stores::filled(2, 1).await;
    let clock = Turned::new();
    let options = OpenOptions {
        clock: std::sync::Arc::new(clock.clone()),
        ..OpenOptions::default()
    };
    let store = Store::open(stores.all(), options).await.unwrap();
    move_ref(&store, Some(1), None).await.unwrap();
    let at_once = GcOptions {
        undo_ms: 0,
        grace_ms: 0,
        ..GcOptions::default()
    };
    for _ in 0..2 {
        gc_all(&store, &at_once).await.unwrap();
        clock.turn_beyond_leases();
    }
    for n in 0..3 {
        let left = stores.names(n).await;
        let packs = left.iter().filter(|name| name.contains("/packs/"));
        assert_eq!(packs.count(), 0, "store {n}: {left:?}");
    }
    assert!(verify(&store).await.is_clean());
    // On a stripe with a store missing nothing is collected.
    let store = stores.open(stores.without(&[1])).await.unwrap();
    let refused = gc_all(&store, &at_once).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unavailable);
}

/// Collects as if nothing were needed.
async fn gc_all(store: &Store, options: &GcOptions) -> Result<GcReport> {
    let (cancel, mut marking) = (Cancel::default(), |_: &_, _: &mut _| Ok::<(), Error>(()));
    let ports = (&Silent as _, &cancel);
    store
        .gc(Handle::current(), options, &mut marking, ports)
        .await
}

/// One note leads to the other stores.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_folder_leads_to_the_others() {
    use mmh_store::{Access, Backend, InitOptions};
    let dir = tempfile::tempdir().unwrap();
    let place = |n: u32| dir.path().join(n.to_string()).display().to_string();
    let (access, open) = (Access::default(), OpenOptions::default);
    let all = format!("{},{},{}", place(0), place(1), place(2));
    let options = InitOptions {
        stripe: Some("2+1".parse().unwrap()),
        ..InitOptions::default()
    };
    let store = Store::init(Backend::parse(&all, &access).unwrap(), options)
        .await
        .unwrap();
    add(&store, 0..20).await.unwrap();
    move_ref(&store, None, Some(1)).await.unwrap();
    drop(store);
    let existing = |text: &str| Backend::parse_existing(text, &access).unwrap();
    for n in 0..3 {
        let store = Store::open(existing(&place(n)), open()).await.unwrap();
        assert_eq!(store.backend().away(), []);
        assert_eq!(at(&store).await, (1, Some(1)));
    }
    std::fs::remove_dir_all(place(1)).unwrap();
    let store = Store::open(existing(&place(2)), open()).await.unwrap();
    assert_all(&store.reader(Handle::current()), 0..20);
    assert_eq!(
        store.backend().away()[0].place,
        std::fs::canonicalize(dir.path())
            .unwrap()
            .join("1")
            .display()
            .to_string()
    );
    let error = move_ref(&store, Some(1), Some(2)).await.unwrap_err();
    assert!(error.to_string().contains("mmh repair"), "{error}");
    // A new disk in the old place is enough.
    std::fs::create_dir(place(1)).unwrap();
    let (replaced, _) = replace(&existing(&place(0))).await.unwrap();
    assert_eq!(replaced.len(), 1);
    std::fs::remove_dir_all(place(0)).unwrap();
    let store = Store::open(existing(&place(1)), open()).await.unwrap();
    assert_all(&store.reader(Handle::current()), 0..20);
    let file = bytes_in(&place(1)).len();
    assert!(file > 0);
}

fn bytes_in(place: &str) -> Vec<std::path::PathBuf> {
    let packs = std::path::Path::new(place).join("mmh/shards/packs");
    std::fs::read_dir(packs)
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect()
}

/// The home's copy of an entry is gone: others have it, and what follows is put after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_home_may_lose_its_log() {
    let stores = Stores::filled(2, 1).await;
    let entry = "mmh/shards/log/00000000000000000001";
    let whole = bytes_of(&stores.objects[0], entry).await;
    stores.objects[0].delete(&entry.into()).await.unwrap();
    let store = stores.open(stores.all()).await.unwrap();
    assert_eq!(at(&store).await, (1, Some(1)));
    assert_eq!(move_ref(&store, Some(1), Some(2)).await.unwrap(), 2);
    assert_eq!(
        bytes_of(&stores.objects[0], entry).await,
        whole,
        "made good on the way"
    );
    stores.assert_safe(40).await;
}
