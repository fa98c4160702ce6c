//! The fault sweep of a stripe: every operation of every store fails, loses its reply, or is the
//! last of the process. What was acknowledged survives that, and the loss of stores after it.

use mmh_core::ErrorKind;
use mmh_store::fault::{Fault, Faults};
use mmh_store::{Backend, Result, Store};
use tokio::runtime::Handle;

use super::{Stores, add, at, move_ref, replace, scrub};
use crate::common::{assert_all, runtime};

/// What the store acknowledged.
#[derive(Debug, Default)]
struct Sure {
    chunks: u64,
    seq: u64,
}

async fn scenario(store: &Store, sure: &mut Sure) -> Result<()> {
    for round in 0..2_u8 {
        let end = u64::from(round + 1) * 12;
        add(store, 0..end).await?;
        sure.chunks = end;
        let from = (round > 0).then_some(round);
        sure.seq = move_ref(store, from, Some(round + 1)).await?;
    }
    Ok(())
}

fn decorated(stores: &Stores, faults: &Faults) -> Backend {
    let stores = (0..stores.n()).map(|n| faults.decorate(&stores.store(n)));
    Backend::stripe_of(stores.collect())
}

/// Runs the scenario with one fault and looks at what is left; returns whether it was met.
async fn run(n: u64, fault: Fault, stores: &Stores) -> bool {
    stores.init_in(stores.all()).await.unwrap();
    let (faults, mut sure) = (Faults::default(), Sure::default());
    faults.strike(n, fault);
    let result = match stores.open(decorated(stores, &faults)).await {
        Ok(store) => scenario(&store, &mut sure).await,
        Err(error) => Err(error),
    };
    let met = faults.count() >= n;
    assert!(met || result.is_ok(), "no fault, no error: {result:?}");
    // Whatever the crash left, the home and any other store may be lost on top of it.
    for lost in super::lost(stores.n(), stores.shape.parity as usize) {
        let store = stores.open(stores.without(&lost)).await.unwrap();
        let what = format!("{fault:?} at {n}, without {lost:?}");
        assert_all(&store.reader(Handle::current()), 0..sure.chunks);
        let (seq, now) = at(&store).await;
        assert!(seq >= sure.seq, "{what}: {seq} of {sure:?}");
        assert_eq!(now, (seq > 0).then(|| u8::try_from(seq).unwrap()), "{what}");
    }
    // And it goes on.
    let store = stores.open(stores.all()).await.unwrap();
    let (seq, _) = at(&store).await;
    let number = u8::try_from(seq).unwrap();
    add(&store, 0..50).await.unwrap();
    let next = move_ref(&store, (number > 0).then_some(number), Some(number + 1));
    assert_eq!(next.await.unwrap(), seq + 1, "{fault:?} at {n}");
    let report = scrub(&store).await;
    assert!(report.beyond.is_empty(), "{report:?}");
    let again = stores.open(stores.all()).await.unwrap();
    let log = again.operations(None, 10).await.unwrap();
    assert_eq!(log.len() as u64, seq + 1, "no gap");
    // Any of the stores may be lost now; each time another one is.
    let lost = super::lost(stores.n(), stores.shape.parity as usize);
    let lost = &lost[usize::try_from(n).unwrap() % lost.len()];
    let store = stores.open(stores.without(lost)).await.unwrap();
    assert_all(&store.reader(Handle::current()), 0..50);
    assert_eq!(at(&store).await.0, seq + 1);
    met
}

fn sweep(fault: Fault, fresh: impl Fn() -> Stores) {
    runtime().block_on(async {
        let mut n = 1;
        while run(n, fault, &fresh()).await {
            n += 1;
        }
        assert!(n > 50, "the scenario has {n} operations");
    });
}

#[test]
fn an_operation_fails() {
    sweep(Fault::Fail, || Stores::new(2, 1));
}

#[test]
fn a_reply_is_lost() {
    sweep(Fault::LostReply, || Stores::new(2, 1));
}

#[test]
fn the_process_dies() {
    sweep(Fault::Crash, || Stores::new(2, 1));
}

#[test]
fn the_process_dies_after_an_operation() {
    sweep(Fault::CrashAfter, || Stores::new(1, 1));
}

#[test]
fn a_sealed_process_dies() {
    sweep(Fault::CrashAfter, || Stores {
        sealed: true,
        ..Stores::new(2, 1)
    });
}

/// One of its disks refuses, or all: nothing is acknowledged that is not on all of them.
#[test]
fn a_disk_refuses() {
    for fault in Fault::OF_DISK {
        sweep(fault, || Stores::new(1, 1));
    }
}

/// A replacement that dies anywhere loses nothing, and begun again it ends well.
#[test]
fn a_replacement_dies_and_is_begun_again() {
    runtime().block_on(async {
        let whole = Stores::filled(2, 1).await;
        for (lost, fault) in [
            (0, Fault::Crash),
            (2, Fault::CrashAfter),
            (1, Fault::LostReply),
        ] {
            let mut n = 1;
            loop {
                let stores = whole.fork().empty(lost);
                let faults = Faults::default();
                faults.strike(n, fault);
                let done = replace(&decorated(&stores, &faults)).await;
                let met = faults.count() >= n;
                assert!(met || done.is_ok());
                // What is left is enough, whatever was done of it.
                let left = stores.open(stores.without(&[lost])).await.unwrap();
                assert_all(&left.reader(Handle::current()), 0..40);
                if done.is_err() {
                    let half = stores.open(stores.all()).await.unwrap();
                    if let Err(error) = move_ref(&half, Some(1), Some(2)).await {
                        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
                    } else {
                        move_ref(&half, Some(2), Some(1)).await.unwrap();
                    }
                }
                replace(&stores.all()).await.unwrap();
                let store = stores.open(stores.all()).await.unwrap();
                assert_eq!(store.backend().away(), [], "{fault:?} at {n} of {lost}");
                stores.assert_safe(40).await;
                let now = at(&store).await.1;
                assert_eq!(now, Some(1));
                move_ref(&store, Some(1), Some(3)).await.unwrap();
                if !met {
                    break;
                }
                n += 1;
            }
            assert!(n > 20, "{n}");
        }
    });
}

/// An `init` that dies is no repository, and begun again it makes one.
#[test]
fn an_init_dies_and_is_begun_again() {
    runtime().block_on(async {
        let mut n = 1;
        loop {
            let (stores, faults) = (Stores::new(2, 1), Faults::default());
            faults.strike(n, Fault::CrashAfter);
            let done = stores.init_in(decorated(&stores, &faults)).await;
            if done.is_ok() {
                break;
            }
            let opened = stores.open(stores.all()).await;
            match stores.init_in(stores.all()).await {
                Ok(_) => assert!(opened.is_err(), "a repository was made twice"),
                Err(mmh_store::Error::AlreadyARepository { .. }) => {
                    // The configuration is there on one store at least: it counts.
                    let store = opened.unwrap();
                    move_ref(&store, None, Some(1)).await.unwrap();
                }
                Err(error) => panic!("at {n}: {error}"),
            }
            n += 1;
        }
        assert!(n > 10, "{n}");
    });
}
