//! Lists that are old or short: what they leave out is not gone. Each story was found by simulation.

use futures::TryStreamExt;
use mmh_core::ports::{Cancel, Silent};
use mmh_store::fault::Faults;
use mmh_store::{OpenOptions, RebuildOptions, Store};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore};
use tokio::runtime::Handle;

use crate::common::{Memory, assert_all, runtime, store_with, verify};

async fn listed(memory: &Memory, prefix: &str) -> Vec<ObjectMeta> {
    let list = memory.objects.list(Some(&Path::from(prefix)));
    list.try_collect().await.unwrap()
}

async fn open(memory: &Memory, faults: &Faults) -> Store {
    let backend = faults.decorate(&memory.backend);
    Store::open(backend, OpenOptions::default()).await.unwrap()
}

/// Makes the index anew and says how many chunks it holds.
async fn rebuild(store: &Store) -> u64 {
    let (options, cancel) = (RebuildOptions::default(), Cancel::default());
    let report = store.rebuild_index(options, &Silent, &cancel).await;
    report.unwrap().chunks
}

/// Runs were listed, then merged away before they were opened. The list said nothing of the merged
/// run, and a reader was told that chunks are not in the store.
#[test]
fn runs_that_vanish_while_they_are_opened_are_listed_again() {
    let runtime = runtime();
    runtime.block_on(async {
        let (memory, store) = store_with(40, 10).await;
        let old = listed(&memory, "mmh/index").await;
        assert_eq!(rebuild(&store).await, 40);
        assert_ne!(listed(&memory, "mmh/index").await, old);
        let faults = Faults::default();
        faults.let_lists_lie("mmh/index", [old]);
        let store = open(&memory, &faults).await;
        assert_all(&store.reader(Handle::current()), 0..40);
    });
}

/// A list that goes on naming a run which is not there does not stop the store from opening.
#[test]
fn a_list_that_stays_old_is_taken_as_it_is() {
    let runtime = runtime();
    runtime.block_on(async {
        let (memory, _) = store_with(40, 10).await;
        let old = listed(&memory, "mmh/index").await;
        memory.delete(old[0].location.as_ref()).await;
        let faults = Faults::default();
        faults.let_lists_lie("mmh/index", vec![old; 100]);
        let store = open(&memory, &faults).await;
        assert!(store.writer(Handle::current()).await.is_ok());
    });
}

/// A rebuild read the packs that were listed, and then deleted runs that named others too.
#[test]
fn a_rebuild_after_a_short_list_keeps_every_chunk() {
    let runtime = runtime();
    runtime.block_on(async {
        let (memory, _) = store_with(40, 10).await;
        let mut packs = listed(&memory, "mmh/packs").await;
        let all = packs.len();
        while let Some(_left_out) = packs.pop() {
            let faults = Faults::default();
            let store = open(&memory, &faults).await;
            faults.let_lists_lie("mmh/packs", [packs.clone()]);
            assert_eq!(rebuild(&store).await, 40);
            let fresh = memory.open().await.unwrap();
            assert_all(&fresh.reader(Handle::current()), 0..40);
            let report = verify(&fresh).await;
            assert!(
                report.unindexed_packs.is_empty(),
                "{} of {all} listed",
                packs.len()
            );
        }
    });
}

/// Runs that a short list left out stay where they are.
#[test]
fn a_rebuild_deletes_only_runs_that_it_read() {
    let runtime = runtime();
    runtime.block_on(async {
        let (memory, _) = store_with(40, 10).await;
        let runs = listed(&memory, "mmh/index").await;
        let faults = Faults::default();
        let store = open(&memory, &faults).await;
        faults.let_lists_lie("mmh/index", [runs[1..].to_vec()]);
        faults.let_lists_lie("mmh/packs", [Vec::new()]);
        assert!(rebuild(&store).await < 40);
        let kept = memory.names("mmh/index").await;
        assert!(
            kept.iter()
                .any(|name| *name == runs[0].location.to_string())
        );
        assert_all(
            &memory.open().await.unwrap().reader(Handle::current()),
            0..40,
        );
    });
}

/// A pack was collected after its length was asked for and before its footer was read; a writer that
/// was about to begin was told that an object is missing.
#[test]
fn a_pack_that_vanishes_stops_no_writer() {
    let runtime = runtime();
    runtime.block_on(async {
        let (memory, _) = store_with(40, 10).await;
        for name in memory.names("mmh/index").await {
            memory.delete(&name).await;
        }
        let faults = Faults::default();
        let store = open(&memory, &faults).await;
        faults.let_vanish("mmh/packs/");
        assert_eq!(store.recover().await.unwrap().adopted_packs, 0);
        let store = memory.open().await.unwrap();
        assert!(store.recover().await.unwrap().adopted_packs > 0);
    });
}
