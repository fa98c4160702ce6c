//! Runs, merges and lookups beside what others do to them.

use super::*;
use crate::entropy::SystemEntropy;

pub(super) fn entry(n: u32) -> Entry {
    let id = ChunkId::of(&n.to_le_bytes());
    Entry {
        id,
        offset: 16 + u64::from(n),
        stored_len: n,
        raw_len: n,
        method: 2,
    }
}

pub(super) fn pack(n: u8) -> PackId {
    PackId::of(&[n])
}

pub(super) async fn index() -> (Backend, Index) {
    let backend = Backend::memory();
    (
        backend.clone(),
        Index::open(backend, Arc::new(SystemEntropy)).await.unwrap(),
    )
}

pub(super) async fn publish(
    index: &Index,
    in_pack: PackId,
    numbers: std::ops::Range<u32>,
) -> String {
    let entries = numbers.map(|n| (in_pack, entry(n))).collect();
    index
        .publish_unmerged([in_pack].into(), entries)
        .await
        .unwrap()
}

/// So many entries that the tail does not fit the first read.
#[tokio::test]
async fn a_long_run_opens_and_finds_all() {
    let (backend, index) = index().await;
    publish(&index, pack(1), 0..70_000).await;
    let again = Index::open(backend, Arc::new(SystemEntropy)).await.unwrap();
    let run = Arc::clone(again.runs().open.values().next().unwrap());
    assert_eq!((run.n_entries(), run.n_blocks()), (70_000, 274));
    for n in (0..70_000).step_by(97) {
        let found = again.locate(&entry(n).id).await.unwrap();
        assert_eq!(
            found,
            Some(Located {
                pack: pack(1),
                entry: entry(n)
            })
        );
    }
    assert_eq!(again.locate(&ChunkId::of(b"none")).await.unwrap(), None);
}

/// Asked in vain often enough, a run has a filter, which hides nothing that the run has.
#[tokio::test]
async fn a_run_that_is_asked_in_vain_gets_a_filter() {
    let (backend, index) = index().await;
    let name = publish(&index, pack(1), 0..20_000).await;
    let damaged = publish(&index, pack(2), 20_000..40_000).await;
    let mut bytes = backend
        .read(&damaged, 1 << 22)
        .await
        .unwrap()
        .unwrap()
        .to_vec();
    bytes[100_000] ^= 1;
    backend.write(&damaged, bytes).await.unwrap();
    let has_filter = |name: &str| index.runs().open[name].filter_len() > 0;
    assert!(!has_filter(&name));
    for n in 40_000..40_500 {
        let _none_or_damage = index.locate(&entry(n).id).await;
    }
    assert!(
        has_filter(&name) && !has_filter(&damaged),
        "a part of a run is no run"
    );
    for n in 0..20_000 {
        let found = index.locate_all(&entry(n).id).await.unwrap();
        assert_eq!(found.first().map(|at| at.entry), Some(entry(n)));
    }
    for n in 20_000..40_000 {
        let found = index.locate(&entry(n).id).await;
        assert!(!matches!(found, Ok(None)), "damage is not absence");
    }
}

/// 100,000 small transactions: what merging writes is a small multiple of what is there.
#[test]
fn merging_rewrites_an_entry_a_few_times() {
    let (mut runs, mut written, n) = (Vec::new(), 0u64, 100_000u64);
    for new in std::iter::repeat_n(1, 100_000) {
        runs.push(new);
        if runs.len() > RUNS_MAX {
            runs.sort_unstable();
            let merged: u64 = runs.drain(..n_to_merge(&runs)).sum();
            written += merged;
            runs.push(merged);
        }
    }
    assert_eq!(runs.iter().sum::<u64>(), n);
    assert!(written < 12 * n, "{written}");
    assert_eq!(n_to_merge(&[]), 0);
    assert_eq!(n_to_merge(&[1; 33]), 33);
    assert_eq!(n_to_merge(&[&[1; 25][..], &[100; 8]].concat()), 25);
}

#[tokio::test]
async fn a_chunk_in_two_packs_is_entered_with_both() {
    let (_, index) = index().await;
    let both = [
        (pack(1), entry(5)),
        (pack(2), entry(5)),
        (pack(1), entry(5)),
    ];
    index
        .publish([pack(1), pack(2)].into(), both.to_vec())
        .await
        .unwrap();
    let runs = index.runs();
    let run = runs.open.values().next().unwrap();
    assert_eq!((run.n_entries(), run.packs().len()), (2, 2));
    assert_eq!(index.packs(), [pack(1), pack(2)].into());
    assert_eq!(index.locate_all(&entry(5).id).await.unwrap().len(), 2);
}

/// A merge kept one copy and deleted the run that named the other, while garbage collection
/// was about to delete the pack of the one that was kept. Found by simulation.
#[tokio::test]
async fn a_merge_says_no_less_than_the_runs_that_it_replaces() {
    let (backend, index) = index().await;
    let names = [
        publish(&index, pack(1), 0..10).await,
        publish(&index, pack(2), 5..15).await,
    ];
    let runs = index.runs();
    let inputs: Vec<&Run> = runs.open.values().map(AsRef::as_ref).collect();
    let merged = merge::merge(&backend, &inputs, &names, &BTreeSet::new(), [0; 16]).await;
    let (_, run) = merged.unwrap().unwrap();
    assert_eq!((run.n_entries(), run.packs().len()), (20, 2));
    for name in names {
        backend.delete(&name).await.unwrap();
    }
    index.reopen().await.unwrap();
    index.drop_packs(&[pack(1)].into()).await.unwrap();
    let left = index.locate_all(&entry(7).id).await.unwrap();
    assert_eq!(left.iter().map(|at| at.pack).collect::<Vec<_>>(), [pack(2)]);
}

/// So many copies that they lie in several blocks, beside others in the same blocks.
#[tokio::test]
async fn copies_are_found_across_blocks() {
    let (_, index) = index().await;
    let packs: Vec<PackId> = (0..700u32).map(|n| PackId::of(&n.to_le_bytes())).collect();
    let mut entries: Vec<(PackId, Entry)> = packs.iter().map(|pack| (*pack, entry(5))).collect();
    entries.extend((0..400).filter(|n| *n != 5).map(|n| (packs[0], entry(n))));
    let covered = packs.iter().copied().collect();
    index.publish_unmerged(covered, entries).await.unwrap();
    assert_eq!(index.locate_all(&entry(5).id).await.unwrap().len(), 700);
    for n in 0..400 {
        let found = index.locate(&entry(n).id).await.unwrap();
        assert_eq!(found.map(|at| at.entry), Some(entry(n)));
    }
    assert_eq!(index.locate(&entry(400).id).await.unwrap(), None);
}

/// Equal inputs give equal runs, in whatever order they come, but for the salt.
#[tokio::test]
async fn merging_is_deterministic_and_keeps_all() {
    let (backend, index) = index().await;
    let mut all = Vec::new();
    for n in 0..4u8 {
        let from = u32::from(n) * 200;
        all.push(publish(&index, pack(n), from..from + 300).await);
    }
    let runs = index.runs();
    let of = |names: &[String]| -> Vec<Arc<Run>> {
        names
            .iter()
            .map(|name| Arc::clone(&runs.open[name]))
            .collect()
    };
    let mut merged = Vec::new();
    for salt in [[1; 16], [1; 16], [2; 16]] {
        let inputs = of(&all);
        let inputs: Vec<&Run> = inputs.iter().map(AsRef::as_ref).collect();
        let none = BTreeSet::new();
        let one = merge::merge(&backend, &inputs, &all, &none, salt).await;
        merged.push(one.unwrap().unwrap());
        all.reverse();
    }
    assert_eq!(merged[0].0, merged[1].0);
    assert_ne!(merged[0].0, merged[2].0);
    assert_eq!(merged[0].1.n_entries(), 1200);
    assert!(merged[0].0.starts_with("mmh/index/01-"), "{}", merged[0].0);
}

#[tokio::test]
async fn dropped_packs_leave_no_entry_and_take_no_other() {
    let (backend, index) = index().await;
    publish(&index, pack(1), 0..300).await;
    publish(&index, pack(2), 200..400).await;
    publish(&index, pack(3), 500..600).await;
    let kept = index.runs().open.len();
    index.drop_packs(&[pack(1), pack(9)].into()).await.unwrap();
    assert_eq!(index.packs(), [pack(2), pack(3)].into());
    assert_eq!(index.runs().open.len(), kept - 1);
    let fresh = Index::open(backend.clone(), Arc::new(SystemEntropy))
        .await
        .unwrap();
    for n in 0..600 {
        let found = fresh.locate(&entry(n).id).await.unwrap();
        let expected = match n {
            200..400 => Some(pack(2)),
            500..600 => Some(pack(3)),
            _ => None,
        };
        assert_eq!(found.map(|at| at.pack), expected, "{n}");
    }
    index.drop_packs(&[pack(2), pack(3)].into()).await.unwrap();
    assert_eq!(backend.list(names::INDEX).await.unwrap(), []);
}

#[tokio::test]
async fn every_copy_of_a_chunk_is_found_once() {
    let (_, index) = index().await;
    for (in_pack, range) in [(3, 0..10), (1, 5..15), (2, 5..7), (1, 5..16)] {
        publish(&index, pack(in_pack), range).await;
    }
    let mut expected = vec![pack(1), pack(2), pack(3)];
    expected.sort_unstable();
    let found = index.locate_all(&entry(5).id).await.unwrap();
    let packs: Vec<PackId> = found.iter().map(|at| at.pack).collect();
    assert_eq!(packs, expected);
    assert_eq!(index.locate_all(&entry(99).id).await.unwrap(), []);
}

/// A merge stalled before it deleted the runs that it had replaced; the index was made anew
/// meanwhile, as the same run under the same name, and lost when the merge went on. Found by
/// simulation.
#[tokio::test]
async fn a_run_that_is_made_again_is_another() {
    let (backend, index) = index().await;
    let old = publish(&index, pack(1), 0..10).await;
    let run = Arc::clone(&index.runs().open[&old]);
    let (names, none) = (std::slice::from_ref(&old), BTreeSet::new());
    let merged = merge::merge(&backend, &[&run], names, &none, [1; 16]).await;
    let (merged, _) = merged.unwrap().unwrap();
    let other = Index::open(backend.clone(), Arc::new(SystemEntropy))
        .await
        .unwrap();
    let again = publish(&other, pack(1), 0..10).await;
    assert_ne!(again, old);
    backend.delete(&merged).await.unwrap();
    // The stalled merge goes on.
    backend.delete(&old).await.unwrap();
    let fresh = Index::open(backend, Arc::new(SystemEntropy)).await.unwrap();
    assert!(fresh.locate(&entry(3).id).await.unwrap().is_some());
}

/// A merge by another process is found by the next lookup.
#[tokio::test]
async fn vanished_runs_are_listed_again() {
    let (backend, index) = index().await;
    let name = publish(&index, pack(1), 0..10).await;
    let other = Index::open(backend.clone(), Arc::new(SystemEntropy))
        .await
        .unwrap();
    let run = Arc::clone(&other.runs().open[&name]);
    let names = std::slice::from_ref(&name);
    let merged = merge::merge(&backend, &[&run], names, &BTreeSet::new(), [0; 16]).await;
    let (merged, _) = merged.unwrap().unwrap();
    backend.delete(&name).await.unwrap();
    let found = index.locate(&entry(3).id).await.unwrap();
    assert_eq!(found.map(|at| at.entry), Some(entry(3)));
    assert_eq!(index.runs().open.keys().collect::<Vec<_>>(), [&merged]);
}

#[tokio::test]
async fn a_damaged_run_is_an_error_only_for_what_others_lack() {
    let (backend, index) = index().await;
    let name = publish(&index, pack(1), 0..10).await;
    publish(&index, pack(2), 10..20).await;
    let bytes = backend.read(&name, 1 << 20).await.unwrap().unwrap();
    // Damage in a block is met by a lookup only.
    let mut in_block = bytes.to_vec();
    in_block[20] ^= 1;
    backend.write(&name, in_block).await.unwrap();
    let fresh = Index::open(backend.clone(), Arc::new(SystemEntropy))
        .await
        .unwrap();
    assert!(fresh.runs().damaged.is_empty());
    assert!(fresh.locate(&entry(15).id).await.unwrap().is_some());
    let error = fresh.locate(&entry(5).id).await.unwrap_err();
    assert!(matches!(error, Error::CorruptIndex { .. }), "{error}");
    // Damage in the tail is met when the run is opened.
    backend
        .write(&name, bytes.slice(..bytes.len() - 1))
        .await
        .unwrap();
    let fresh = Index::open(backend, Arc::new(SystemEntropy)).await.unwrap();
    assert_eq!(fresh.runs().damaged.len(), 1);
    assert!(fresh.locate(&entry(15).id).await.unwrap().is_some());
    assert!(fresh.locate(&entry(5).id).await.is_err());
}

#[tokio::test]
async fn foreign_objects_beside_the_runs_are_ignored() {
    let (backend, index) = index().await;
    publish(&index, pack(1), 0..10).await;
    backend
        .write("mmh/index/README", &b"hello"[..])
        .await
        .unwrap();
    index.refresh().await.unwrap();
    let runs = index.runs();
    assert_eq!((runs.open.len(), runs.damaged.len()), (1, 0));
}

/// Entries of blocks that are in memory need no engine.
#[tokio::test]
async fn blocks_are_kept_in_memory() {
    let (backend, index) = index().await;
    let name = publish(&index, pack(1), 0..10).await;
    assert!(index.locate(&entry(3).id).await.unwrap().is_some());
    backend.delete(&name).await.unwrap();
    assert!(index.locate(&entry(4).id).await.unwrap().is_some());
    index.reopen().await.unwrap();
    assert!(index.locate(&entry(4).id).await.unwrap().is_none());
}

#[tokio::test]
async fn a_run_writer_refuses_disorder() {
    let backend = Backend::memory();
    let mut writer = RunWriter::begin(&backend, [pack(1)].into(), [0; 16]).unwrap();
    let (a, b) = (entry(1).min_by_id(entry(2)), entry(1).max_by_id(entry(2)));
    writer.push(&pack(1), &b).unwrap();
    assert!(writer.push(&pack(1), &a).is_err(), "out of order");
    assert!(writer.push(&pack(1), &b).is_err(), "twice");
    assert!(
        writer.push(&pack(2), &b).is_err(),
        "of a pack that is not covered"
    );
}

impl Entry {
    fn min_by_id(self, other: Self) -> Self {
        if self.id < other.id { self } else { other }
    }

    fn max_by_id(self, other: Self) -> Self {
        if self.id < other.id { other } else { self }
    }
}
