//! Sealed repositories: who has no key learns nothing and changes nothing unnoticed, who has one
//! notices no difference.

use std::sync::Arc;

use mmh_codec::{Base, Context, Encoder, Hint, Method, Settings};
use mmh_core::ports::{Cancel, Silent};
use mmh_core::{ChunkId, Dtype, ErrorKind, SnapshotId};
use mmh_crypto::age::{Cost, Identity, Passphrase, Recipient};
use mmh_crypto::seed::SeedKey;
use mmh_crypto::testing::Counter;
use mmh_crypto::{RootSeed, Secret};
use mmh_store::conformance::{change, commit, noise, put};
use mmh_store::pack::{HEADER_LEN, RECORD_HEAD_LEN};
use mmh_store::{
    ChunkSink, ChunkSource, Error, InitOptions, KeySource, NoKey, Offer, OpenOptions,
    RebuildOptions, Result, Sealing, Slot, StagedFile, Staging, Store, VerifyOptions, slot_name,
};
use tokio::runtime::Handle;

use crate::common::{
    Memory, assert_all, count_damaged, put_all, raw, root, runtime, store_in, store_with, verify,
};

const N: u64 = 8;

async fn sealed(chunks: u64, every: u64) -> (Memory, Store) {
    store_in(Memory::sealed(), chunks, every).await
}

async fn open_with(memory: &Memory, key: impl KeySource + 'static) -> Result<Store> {
    let options = OpenOptions {
        key: Arc::new(key),
        ..OpenOptions::default()
    };
    Store::open(memory.backend.clone(), options).await
}

/// Somebody with these identities.
#[derive(Debug)]
struct Has(Vec<Identity>);

impl KeySource for Has {
    fn offer(&self, _place: &str, _slots: &[Slot]) -> Result<Offer> {
        Ok(Offer::Identities(self.0.clone()))
    }
}

fn denied<T>(result: Result<T>, what: &str) -> String {
    let error = result.err().unwrap_or_else(|| panic!("{what} is denied"));
    assert_eq!(error.kind(), ErrorKind::Denied, "{what}: {error}");
    error.to_string()
}

#[test]
fn a_sealed_store_reads_and_writes_like_any_other() {
    let runtime = runtime();
    runtime.block_on(async {
        let (memory, _) = sealed(40, 10).await;
        let store = memory.open().await.unwrap();
        assert!(store.config().sealed.is_some());
        assert_all(&store.reader(Handle::current()), 0..40);
        let report = verify(&store).await;
        assert!(report.is_clean() && report.chunks == 40, "{report:?}");
        let writer = store.writer(Handle::current()).await.unwrap();
        for seed in 0..40 {
            assert!(!put(&writer, &raw(seed)).unwrap().1, "it is there already");
        }
        let id = SnapshotId::of(b"a");
        let moved = store
            .commit(commit(vec![change("m", None, Some(id))]))
            .await;
        assert_eq!(moved.unwrap().seq, 1);
        let again = memory.open().await.unwrap();
        assert_eq!(again.refs().await.unwrap().refs.values().next(), Some(&id));
    });
}

/// The same content sealed again is the same bytes: nothing depends on chance or time.
#[test]
fn equal_content_under_one_key_is_equal_records() {
    let runtime = runtime();
    runtime.block_on(async {
        let (a, _) = sealed(N, N).await;
        let (b, _) = sealed(N, N).await;
        assert_eq!(a.records().await, b.records().await);
        let mut other = Memory::sealed();
        other.root = Some(RootSeed::from_secret(Secret::from_bytes(&[7; 32])));
        let (other, _) = store_in(other, N, N).await;
        assert!(other.records().await.is_disjoint(&a.records().await));
    });
}

/// Whether `needle` occurs in `hay`.
fn holds(hay: &[u8], needle: &[u8]) -> bool {
    hay.windows(needle.len()).any(|window| window == needle)
}

/// All that is stored of a repository but its configuration and slots, which are public.
async fn all_bytes(memory: &Memory) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    for name in memory.names("mmh").await {
        if name != "mmh/config" && !name.starts_with("mmh/keys/") {
            let bytes = memory.read(&name).await;
            all.push((name, bytes));
        }
    }
    all
}

/// Neither content nor digests, names or authors occur in what is stored; in a store that is not
/// sealed they do, so the search finds what there is.
#[test]
fn nothing_known_is_found_in_the_stored_bytes() {
    let runtime = runtime();
    runtime.block_on(async {
        for (memory, hidden) in [(Memory::sealed(), true), (Memory::new(), false)] {
            let (memory, store) = store_in(memory, 130, 130).await;
            for n in 1..=64u32 {
                let id = |n: u32| SnapshotId::of(&n.to_le_bytes());
                let old = (n > 1).then(|| id(n - 1));
                let moved = vec![change("secret-name", old, Some(id(n)))];
                store.commit(commit(moved)).await.unwrap();
            }
            assert_eq!(memory.names("mmh/checkpoint").await.len(), 1);
            let all = all_bytes(&memory).await;
            let found = |needle: &[u8]| all.iter().any(|(_, bytes)| holds(bytes, needle));
            let digest = ChunkId::of(&raw(1));
            let keyed = store.reader(Handle::current()).id(&raw(1));
            assert_eq!(found(&raw(1)), !hidden, "content that does not compress");
            assert_eq!(found(digest.as_bytes()), !hidden, "a digest of content");
            assert_eq!(found(keyed.as_bytes()), !hidden, "an id");
            assert_eq!(found(b"secret-name"), !hidden, "a ref's name");
            assert_eq!(found(b"exam"), !hidden, "an author");
            assert_eq!(
                found(SnapshotId::of(&9u32.to_le_bytes()).as_bytes()),
                !hidden
            );
            // The word of an entry that states method and length.
            let at = store
                .reader(Handle::current())
                .locate(&keyed)
                .unwrap()
                .unwrap();
            let word = (u32::from(at.method) << 24 | at.raw_len).to_le_bytes();
            let entry = [&keyed.as_bytes()[28..], &at.stored_len.to_le_bytes(), &word].concat();
            assert_eq!(found(&entry), !hidden, "an entry's lengths");
        }
    });
}

/// Lengths of records are a few classes, not the chunks' own.
#[test]
fn stored_lengths_are_padded() {
    let runtime = runtime();
    runtime.block_on(async {
        let memory = Memory::sealed();
        let store = memory.init().await;
        let writer = store.writer(Handle::current()).await.unwrap();
        let reader = store.reader(Handle::current());
        let mut lengths = std::collections::BTreeSet::new();
        for len in 1000..1200 {
            let (id, _) = put(&writer, &noise(len as u64, len)).unwrap();
            lengths.insert(reader.locate(&id).unwrap().unwrap().stored_len);
        }
        assert!(lengths.len() <= 8, "{lengths:?}");
        writer.finish().unwrap();
    });
}

#[test]
fn without_its_key_nothing_opens() {
    let runtime = runtime();
    runtime.block_on(async {
        let (memory, _) = sealed(N, N).await;
        let other = RootSeed::from_secret(Secret::from_bytes(&[7; 32]));
        let read = SeedKey::Read(other.read_key());
        let stranger = Identity::generate_x25519(&Counter::new(5)).unwrap();
        let text = denied(open_with(&memory, NoKey).await, "no key");
        assert!(text.contains("sealed") && text.contains("no key"), "{text}");
        denied(open_with(&memory, other).await, "another root seed");
        denied(open_with(&memory, read).await, "another read key");
        denied(open_with(&memory, Has(vec![stranger])).await, "no slot");
        denied(open_with(&memory, Has(vec![])).await, "no identity");
    });
}

/// Whoever puts an open repository in the place of a sealed one does not get to see new content.
#[test]
fn a_key_for_an_unsealed_store_is_refused() {
    let runtime = runtime();
    runtime.block_on(async {
        let (memory, _) = store_with(N, N).await;
        denied(open_with(&memory, root()).await, "a key for a plain store");
        open_with(&memory, NoKey).await.unwrap();
        let mut slots = memory.clone();
        slots.root = Some(root());
        assert!(slots.open().await.is_err());
    });
}

/// What the configuration says cannot be changed by somebody without the key.
#[test]
fn a_changed_configuration_does_not_open() {
    let runtime = runtime();
    runtime.block_on(async {
        let (memory, _) = sealed(N, N).await;
        let (other, _) = store_in(Memory::sealed(), 1, 1).await;
        // Another repository's configuration under the same root seed proves itself, but the log
        // and the packs are still this one's: nothing secret changes hands.
        let theirs = other.read("mmh/config").await;
        let ours = memory.read("mmh/config").await;
        assert_ne!(theirs, ours);
        for at in 0..ours.len() {
            let copy = memory.fork();
            let mut bad = ours.clone();
            bad[at] ^= 1;
            // The digest made right again, as an attacker would.
            let (body, seal) = bad.split_at_mut(ours.len() - 32);
            if at < body.len() {
                seal.copy_from_slice(mmh_core::Digest::of(body).as_bytes());
            }
            copy.write("mmh/config", bad).await;
            let kind = copy.open().await.unwrap_err().kind();
            let refused = [
                ErrorKind::Denied,
                ErrorKind::Corrupt,
                ErrorKind::Unsupported,
            ];
            assert!(refused.contains(&kind), "byte {at}: {kind:?}");
        }
    });
}

#[test]
fn a_read_key_reads_and_does_nothing_else() {
    let runtime = runtime();
    runtime.block_on(async {
        let (memory, _) = sealed(N, N).await;
        let store = open_with(&memory, SeedKey::Read(root().read_key()))
            .await
            .unwrap();
        assert_all(&store.reader(Handle::current()), 0..N);
        assert!(verify(&store).await.is_clean());
        denied(store.writer(Handle::current()).await, "writing");
        denied(store.commit(commit(Vec::new())).await, "a commit");
        denied(store.chunker_key(), "cutting");
        denied(store.remove_slot("x").await, "removing a slot");
        let alice = Identity::generate_x25519(&Counter::new(1)).unwrap();
        let recipients = [alice.recipient().unwrap()];
        denied(
            store.add_slot("more", &recipients, false).await,
            "a root slot",
        );
        store.add_slot("same", &recipients, true).await.unwrap();
        let theirs = open_with(&memory, Has(vec![alice])).await.unwrap();
        assert!(matches!(theirs.key(), Some(SeedKey::Read(_))));
    });
}

/// Recipients come and go without a byte of data being written again.
#[test]
fn slots_open_the_store_until_they_are_removed() {
    let runtime = runtime();
    runtime.block_on(async {
        let secret = |n| Identity::generate_hybrid(&Counter::new(n)).unwrap();
        let (alice, bob) = (secret(1), secret(2));
        let to = |identity: &Identity| vec![identity.recipient().unwrap()];
        let memory = Memory::new();
        let sealing = Sealing {
            root: root(),
            slots: vec![("alice".to_owned(), to(&alice))],
        };
        let options = InitOptions {
            sealing: Some(sealing),
            ..InitOptions::default()
        };
        let store = Store::init(memory.backend.clone(), options).await.unwrap();
        let writer = store.writer(Handle::current()).await.unwrap();
        put_all(&writer, 0..N).unwrap();
        writer.finish().unwrap();
        let packs = memory.names("mmh/packs").await;

        denied(
            open_with(&memory, Has(vec![bob.clone()])).await,
            "bob, early",
        );
        let store = open_with(&memory, Has(vec![alice.clone()])).await.unwrap();
        store.add_slot("bob", &to(&bob), false).await.unwrap();
        let twice = store.add_slot("bob", &to(&bob), false).await.unwrap_err();
        assert_eq!(twice.kind(), ErrorKind::Invalid, "{twice}");
        let text = Passphrase::new("correct horse").with_cost(Cost::TEST);
        let recipients = [Recipient::Passphrase(text.clone())];
        assert_eq!(slot_name(&recipients), "passphrase");
        store
            .add_slot("passphrase", &recipients, false)
            .await
            .unwrap();
        let slots = store.slots().await.unwrap();
        let of = |slot: &Slot| (slot.name.clone(), slot.recipients().unwrap().join(" "));
        assert_eq!(
            slots.iter().map(of).collect::<Vec<_>>(),
            [
                ("alice".to_owned(), "mlkem768x25519".to_owned()),
                ("bob".to_owned(), "mlkem768x25519".to_owned()),
                ("passphrase".to_owned(), "scrypt".to_owned()),
            ]
        );
        for who in [bob.clone(), Identity::Passphrase(text)] {
            let store = open_with(&memory, Has(vec![who])).await.unwrap();
            assert_all(&store.reader(Handle::current()), 0..N);
        }
        store.remove_slot("bob").await.unwrap();
        let gone = store.remove_slot("bob").await.unwrap_err();
        assert_eq!(gone.kind(), ErrorKind::NotFound);
        denied(open_with(&memory, Has(vec![bob])).await, "bob, late");
        assert_eq!(memory.names("mmh/packs").await, packs);
    });
}

/// A slot of another repository, damaged ones and foreign files do not stand in the way.
#[test]
fn bad_slots_are_passed_over() {
    let runtime = runtime();
    runtime.block_on(async {
        let alice = Identity::generate_x25519(&Counter::new(1)).unwrap();
        let recipients = [alice.recipient().unwrap()];
        let (memory, store) = sealed(1, 1).await;
        store.add_slot("z", &recipients, false).await.unwrap();
        let good = memory.read("mmh/keys/z").await;
        memory.write("mmh/keys/a", b"no age file".to_vec()).await;
        memory.write("mmh/keys/no name", good.clone()).await;
        let theirs = mmh_crypto::age::encrypt(&recipients, &[9; 32], &Counter::new(9)).unwrap();
        memory.write("mmh/keys/b", theirs).await;
        let short = mmh_crypto::age::encrypt(&recipients, &[9; 31], &Counter::new(9)).unwrap();
        memory.write("mmh/keys/c", short).await;
        for n in [10, good.len() / 2, good.len() - 1] {
            memory.write("mmh/keys/d", good[..n].to_vec()).await;
            open_with(&memory, Has(vec![alice.clone()])).await.unwrap();
        }
        memory.delete("mmh/keys/z").await;
        let text = denied(
            open_with(&memory, Has(vec![alice])).await,
            "no slot is left",
        );
        assert!(text.contains("b: it is another repository's"), "{text}");
    });
}

#[test]
fn a_plain_store_has_no_slots() {
    let runtime = runtime();
    runtime.block_on(async {
        let (_, store) = store_with(1, 1).await;
        assert!(store.key().is_none() && store.chunker_key().unwrap().is_none());
        let alice = Identity::generate_x25519(&Counter::new(1)).unwrap();
        let to = [alice.recipient().unwrap()];
        let error = store.add_slot("a", &to, true).await.unwrap_err();
        assert!(matches!(error, Error::NoKeys { .. }), "{error}");
    });
}

#[test]
fn every_flip_in_a_sealed_pack_is_found_and_no_wrong_byte_comes_out() {
    let runtime = runtime();
    runtime.block_on(async {
        let (memory, _) = sealed(N, N).await;
        let name = memory.names("mmh/packs").await.remove(0);
        let bytes = memory.read(&name).await;
        for i in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[i] ^= 1 << (i % 8);
            let copy = memory.fork();
            copy.write(&name, bad).await;
            let store = copy.open().await.unwrap();
            let report = verify(&store).await;
            assert!(!report.is_clean(), "byte {i} of {}", bytes.len());
            assert!(count_damaged(&store.reader(Handle::current()), 0..N) <= 1);
        }
    });
}

/// The same in the index: nothing wrong is found, and it is made anew.
#[test]
fn every_flip_in_a_sealed_index_run_is_found() {
    let runtime = runtime();
    runtime.block_on(async {
        let (memory, _) = sealed(N, N).await;
        let name = memory.names("mmh/index").await.remove(0);
        let bytes = memory.read(&name).await;
        for i in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[i] ^= 1 << (i % 8);
            let copy = memory.fork();
            copy.write(&name, bad).await;
            let store = copy.open().await.unwrap();
            assert!(!verify(&store).await.is_clean(), "byte {i}");
            if i % 40 == 0 {
                rebuild(&store).await;
                assert_all(&store.reader(Handle::current()), 0..N);
            }
        }
    });
}

async fn rebuild(store: &Store) -> mmh_store::RebuildReport {
    store
        .rebuild_index(RebuildOptions::default(), &Silent, &Cancel::default())
        .await
        .unwrap()
}

/// More entries than a block has, so that the last block is a short one, and a merge.
#[test]
fn a_sealed_index_of_several_blocks_finds_all() {
    let runtime = runtime();
    runtime.block_on(async {
        let (memory, _) = sealed(700, 20).await;
        assert!(
            memory.names("mmh/index").await.len() < 33,
            "runs were merged"
        );
        let store = memory.open().await.unwrap();
        assert_all(&store.reader(Handle::current()), 0..700);
        let report = rebuild(&store).await;
        assert_eq!((report.chunks, report.lost_packs.len()), (700, 0));
        assert_all(
            &memory.open().await.unwrap().reader(Handle::current()),
            0..700,
        );
    });
}

/// Whoever writes the disk may put one record in another's place and make all digests right again;
/// it is still another chunk's.
#[test]
fn a_record_in_anothers_place_is_damage() {
    let runtime = runtime();
    runtime.block_on(async {
        let memory = Memory::sealed();
        let store = memory.init().await;
        let writer = store.writer(Handle::current()).await.unwrap();
        let ids: Vec<ChunkId> = (0..2)
            .map(|seed| put(&writer, &noise(seed, 500)).unwrap().0)
            .collect();
        writer.finish().unwrap();
        let reader = store.reader(Handle::current());
        let at = |id| {
            let found = reader.locate(id).unwrap().unwrap();
            let len = RECORD_HEAD_LEN + u64::from(found.stored_len);
            let start = usize::try_from(found.offset).unwrap();
            start..start + usize::try_from(len).unwrap()
        };
        let (a, b) = (at(&ids[0]), at(&ids[1]));
        assert_eq!(a.len(), b.len());
        let name = memory.names("mmh/packs").await.remove(0);
        let mut bytes = memory.read(&name).await;
        let first = bytes[a.clone()].to_vec();
        bytes.copy_within(b.clone(), a.start);
        bytes[b].copy_from_slice(&first);
        memory.write(&name, bytes).await;
        for id in &ids {
            let error = reader.get(id).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt);
            assert!(error.to_string().contains("another chunk"), "{error}");
        }
        let options = VerifyOptions {
            decode: false,
            ..VerifyOptions::default()
        };
        let report = store.verify(options, &Silent, &Cancel::default()).await;
        assert_eq!(
            report.unwrap().damage.len(),
            2,
            "found without decoding too"
        );
    });
}

/// A log entry of one number under another, or of an older time, does not pass.
#[test]
fn log_entries_stay_in_their_places() {
    let runtime = runtime();
    runtime.block_on(async {
        let (memory, store) = sealed(1, 1).await;
        let id = |n: u64| SnapshotId::of(&n.to_le_bytes());
        for n in 0..3u64 {
            let old = n.checked_sub(1).map(id);
            let moved = vec![change("m", old, Some(id(n)))];
            store.commit(commit(moved)).await.unwrap();
        }
        let names = memory.names("mmh/log").await;
        let first = memory.read(&names[0]).await;
        memory.write(&names[2], first).await;
        let reopened = memory.open().await.unwrap();
        assert_eq!(
            reopened.refs().await.unwrap_err().kind(),
            ErrorKind::Corrupt
        );
    });
}

/// An interrupted writer costs only the chunk in flight, wherever the file ends.
#[test]
fn a_sealed_staged_pack_cut_anywhere_gives_its_whole_records() {
    let runtime = runtime();
    runtime.block_on(async {
        let memory = Memory::sealed();
        let store = memory.init().await;
        let empty = memory.fork();
        let writer = store.writer(Handle::current()).await.unwrap();
        let reader = store.reader(Handle::current());
        let end_of = |seed| {
            let (id, _) = put(&writer, &raw(seed)).unwrap();
            let at = reader.locate(&id).unwrap().unwrap();
            usize::try_from(at.offset + RECORD_HEAD_LEN).unwrap() + at.stored_len as usize
        };
        let ends: Vec<usize> = (0..5).map(end_of).collect();
        drop((writer, store));
        let file = memory.staging.orphans().unwrap().remove(0);
        let mut bytes = vec![0; usize::try_from(file.len()).unwrap()];
        file.read_at(0, &mut bytes).unwrap();
        let header = usize::try_from(HEADER_LEN).unwrap();
        for len in (header..=bytes.len()).step_by(3).chain(ends.clone()) {
            let copy = empty.fork();
            let staged: Box<dyn StagedFile> = copy.staging.create().unwrap();
            staged.append(&[&bytes[..len]]).unwrap();
            drop(staged);
            let store = copy.open().await.unwrap();
            let found = store.recover().await.unwrap();
            let whole = ends.iter().filter(|end| **end <= len).count() as u64;
            assert_eq!(found.salvaged_chunks, whole, "cut to {len}");
            if ends.contains(&len) {
                assert_all(&store.reader(Handle::current()), 0..whole);
                assert!(verify(&store).await.is_clean());
            }
        }
    });
}

/// The `n`-th version of some BF16 weights.
fn version(n: u64) -> Vec<u8> {
    let weights = noise(1, 12_000);
    let steps = noise(2, 6_000);
    let numbers = weights.chunks_exact(2).zip(&steps);
    let moved = numbers.flat_map(|(b, step)| {
        let number = 0x3c00 + u16::from(b[0]) + (u16::from(b[1]) << 8 & 0x8100);
        (number + u16::from(n > 0 && *step < 60)).to_le_bytes()
    });
    moved.collect()
}

/// References between frames lie inside of what is sealed, and are followed by readers, after a
/// crash and in a pack whose footer is lost.
#[test]
fn differences_are_read_and_rescued() {
    let runtime = runtime();
    runtime.block_on(async {
        let memory = Memory::sealed();
        let store = memory.init().await;
        let writer = store.writer(Handle::current()).await.unwrap();
        put(&writer, &version(0)).unwrap();
        let (base, id) = (writer.id(&version(0)), writer.id(&version(1)));
        let first = version(0);
        let context = Context {
            base: Some(Base {
                id: *base.digest().as_bytes(),
                raw: &first,
            }),
        };
        let (mut frame, hint) = (Vec::new(), Hint::tensor(Dtype::BF16, 100));
        let method = Encoder::new(Settings::default())
            .encode_with(&version(1), &hint, &context, &mut frame)
            .unwrap();
        assert_eq!(method, Method::Delta);
        assert!(holds(&frame, base.as_bytes()));
        assert!(writer.put(id, 12_000, &frame).unwrap());
        writer.finish().unwrap();
        for (name, bytes) in all_bytes(&memory).await {
            assert!(!holds(&bytes, base.as_bytes()), "{name} names the base");
        }
        let reader = store.reader(Handle::current());
        assert_eq!(&reader.get(&id).unwrap()[..], version(1));
        let named = reader.references(&id).unwrap().base;
        assert_eq!(named, Some(*base.digest().as_bytes()));
        // Both packs lose their footers; that of the base is rescued first or last.
        for name in memory.names("mmh/packs").await {
            let mut bytes = memory.read(&name).await;
            let at = bytes.len() - 120;
            bytes[at] ^= 1;
            memory.write(&name, bytes).await;
            let store = memory.open().await.unwrap();
            let report = rebuild(&store).await;
            assert!(report.lost_packs.is_empty(), "{report:?}");
            let reader = store.reader(Handle::current());
            assert_eq!(&reader.get(&id).unwrap()[..], version(1));
        }
    });
}
