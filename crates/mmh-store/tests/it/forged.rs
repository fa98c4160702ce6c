//! Log entries and checkpoints that are sealed but lie, and the log beside a model.

use std::collections::BTreeMap;
use std::sync::Arc;

use mmh_core::canonical::{self, Canonical};
use mmh_core::limits::{CHANGES_MAX, MESSAGE_LEN_MAX, NAME_LEN_MAX};
use mmh_core::object::{Checkpoint, CheckpointTag, Operation, OperationTag, RefChange};
use mmh_core::{Digest, ErrorKind, SnapshotId};
use mmh_store::conformance::{change, commit, small_store};
use mmh_store::{Backend, Entropy, Error, InitOptions, OpenOptions, Store};
use proptest::prelude::*;

use crate::common::{Memory, runtime, verify};

fn id(n: u64) -> SnapshotId {
    SnapshotId::of(&n.to_le_bytes())
}

fn entry_name(seq: u64) -> String {
    format!("mmh/log/{seq:020}")
}

/// An object as it is stored: canonical bytes, then their digest.
fn sealed(value: &impl Canonical) -> Vec<u8> {
    let bytes = canonical::encode(value).unwrap();
    let digest = Digest::of(&bytes);
    [&bytes, &digest.as_bytes()[..]].concat()
}

fn entry(seq: u64, prev: Option<Digest>, changes: Vec<RefChange>) -> Operation {
    Operation {
        r#type: OperationTag::Tag,
        seq,
        prev,
        writer: Digest::of(b"forger"),
        time_ms: 0,
        author: String::new(),
        command: String::new(),
        undoes: None,
        collected: None,
        changes,
    }
}

/// A store with `n` entries that move one branch; also the digest of the last.
async fn with_entries(n: u64) -> (Memory, Option<Digest>) {
    let memory = Memory::new();
    let store = small_store(memory.backend.clone()).await;
    for seq in 0..n {
        let old = (seq > 0).then(|| id(seq));
        let moved = change("m", old, Some(id(seq + 1)));
        store.commit(commit(vec![moved])).await.unwrap();
    }
    let head = store.refs().await.unwrap().head;
    (memory, head)
}

/// An entry is believed only if it follows the one before: number, digest, and each old value.
#[tokio::test]
async fn a_sealed_entry_that_does_not_follow_is_corrupt() {
    let (memory, head) = with_entries(1).await;
    let moved = |old, new| vec![change("m", old, new)];
    let follows = entry(2, head, moved(Some(id(1)), Some(id(2))));
    let copy = memory.fork();
    copy.write(&entry_name(2), sealed(&follows)).await;
    assert_eq!(copy.open().await.unwrap().refs().await.unwrap().seq, 2);
    let liars = [
        entry(3, head, moved(Some(id(1)), None)),
        entry(1, None, moved(Some(id(1)), None)),
        entry(2, Some(Digest::of(b"other")), moved(Some(id(1)), None)),
        entry(2, head, moved(Some(id(7)), None)),
        entry(2, head, moved(None, Some(id(2)))),
        entry(2, head, vec![change("none", Some(id(1)), None)]),
    ];
    for liar in liars {
        let copy = memory.fork();
        copy.write(&entry_name(2), sealed(&liar)).await;
        let store = copy.open().await.unwrap();
        let error = store.refs().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        assert!(error.to_string().contains(&entry_name(2)), "{error}");
        let error = store
            .commit(commit(moved(Some(id(1)), None)))
            .await
            .unwrap_err();
        assert_eq!(
            error.kind(),
            ErrorKind::Corrupt,
            "nothing is built on it: {error}"
        );
        assert!(!verify(&store).await.is_clean());
    }
}

/// Objects of another type, or with an invalid rule, are no entries although their digest holds.
#[tokio::test]
async fn a_sealed_object_that_is_no_entry_is_corrupt() {
    let (memory, head) = with_entries(1).await;
    let twice = entry(
        2,
        head,
        vec![change("m", None, None), change("m", None, None)],
    );
    let unsorted = entry(
        2,
        head,
        vec![change("n", None, None), change("m", None, None)],
    );
    let mut undo = entry(2, head, vec![]);
    undo.undoes = Some(2);
    let mut long = entry(2, head, vec![]);
    long.author = "x".repeat(NAME_LEN_MAX + 1);
    let encoded = [twice, unsorted, undo, long].map(|e| serde_ipld_dagcbor::to_vec(&e).unwrap());
    let config = memory.read("mmh/config").await;
    let config = config[..config.len() - 32].to_vec();
    for bytes in encoded.into_iter().chain([config, vec![], vec![0xf6]]) {
        let copy = memory.fork();
        let seal = Digest::of(&bytes);
        copy.write(&entry_name(2), [&bytes, &seal.as_bytes()[..]].concat())
            .await;
        let error = copy.open().await.unwrap().refs().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    }
}

fn checkpoint(seq: u64, head: Digest, refs: &[(&str, SnapshotId)]) -> Checkpoint {
    let refs = refs
        .iter()
        .map(|(name, id)| ((*name).to_owned(), *id))
        .collect();
    Checkpoint {
        r#type: CheckpointTag::Tag,
        seq,
        head,
        refs,
    }
}

/// A checkpoint speeds up reading; one that lies is noticed when it is used or checked.
#[tokio::test]
async fn a_sealed_checkpoint_that_lies_is_noticed() {
    let (memory, head) = with_entries(64).await;
    let head = head.unwrap();
    let name = format!("mmh/checkpoint/{:020}", 64);
    let main = "models/m@heads/main";
    let good = sealed(&checkpoint(64, head, &[(main, id(64))]));
    assert_eq!(
        memory.read(&name).await,
        good,
        "this test makes them as the store does"
    );
    // Of another number or entry: one is passed over, the other cannot be right.
    let copy = memory.fork();
    copy.write(&name, sealed(&checkpoint(63, head, &[]))).await;
    assert_eq!(
        copy.open().await.unwrap().refs().await.unwrap().refs.len(),
        1
    );
    copy.write(&name, sealed(&checkpoint(64, Digest::of(b"other"), &[])))
        .await;
    let error = copy.open().await.unwrap().refs().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    // Other refs than the entries add up to: a check tells.
    for refs in [
        &[][..],
        &[(main, id(1))],
        &[(main, id(64)), ("models/x@heads/main", id(1))],
    ] {
        copy.write(&name, sealed(&checkpoint(64, head, refs))).await;
        let report = verify(&copy.open().await.unwrap()).await;
        assert!(
            report.damage.iter().any(|d| d.object == name),
            "{refs:?} {report:?}"
        );
    }
}

/// The last number there is has no successor; a log that claims to be there ends with an error.
#[tokio::test]
async fn a_log_cannot_be_longer_than_its_numbers() {
    let (memory, head) = with_entries(2).await;
    let last = sealed(&entry(u64::MAX, head, vec![]));
    let digest = Digest::of(&last[..last.len() - 32]);
    memory.write(&entry_name(u64::MAX), last).await;
    let error = memory.open().await.unwrap().refs().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "a gap: {error}");
    let name = format!("mmh/checkpoint/{:020}", u64::MAX);
    memory
        .write(&name, sealed(&checkpoint(u64::MAX, digest, &[])))
        .await;
    let store = memory.open().await.unwrap();
    let error = store.refs().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    let error = store.commit(commit(vec![])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    assert!(!verify(&store).await.is_clean());
}

/// What fits an entry exactly is committed; one more is refused and leaves no trace.
#[tokio::test]
async fn the_limits_of_an_entry_hold_at_their_edge() {
    let store = small_store(Backend::memory()).await;
    for (author, command, changes) in [
        (NAME_LEN_MAX, MESSAGE_LEN_MAX, 1),
        (0, 0, CHANGES_MAX),
        (NAME_LEN_MAX + 1, 0, 1),
        (0, MESSAGE_LEN_MAX + 1, 1),
        (0, 0, CHANGES_MAX + 1),
    ] {
        let before = store.refs().await.unwrap();
        let changes =
            (0..changes).map(|n| change(&format!("r{}n{n}", before.seq), None, Some(id(1))));
        let mut big = commit(changes.collect());
        (big.author, big.command) = ("a".repeat(author), "c".repeat(command));
        let fits = author <= NAME_LEN_MAX
            && command <= MESSAGE_LEN_MAX
            && big.changes.len() <= CHANGES_MAX;
        let result = store.commit(big).await;
        let after = store.refs().await.unwrap();
        assert_eq!(after.seq, before.seq + u64::from(fits));
        match result {
            Ok(_) => assert!(fits),
            Err(error) => assert!(!fits && error.kind() == ErrorKind::Invalid, "{error}"),
        }
    }
}

/// A system without randomness.
#[derive(Debug)]
struct NoEntropy;

impl Entropy for NoEntropy {
    fn draw(&self) -> mmh_store::Result<Digest> {
        Err(Error::Internal {
            what: "no randomness".to_owned(),
        })
    }
}

/// Without randomness no writer could be told from another: nothing is made, nothing is changed.
#[tokio::test]
async fn without_randomness_nothing_is_written() {
    let open = || OpenOptions {
        entropy: Arc::new(NoEntropy),
        ..OpenOptions::default()
    };
    let memory = Memory::new();
    let options = InitOptions {
        open: open(),
        ..InitOptions::default()
    };
    let error = Store::init(memory.backend.clone(), options)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal, "{error}");
    assert!(memory.names("mmh").await.is_empty());
    small_store(memory.backend.clone()).await;
    let store = Store::open(memory.backend.clone(), open()).await.unwrap();
    let made = commit(vec![change("m", None, Some(id(1)))]);
    assert_eq!(
        store.commit(made).await.unwrap_err().kind(),
        ErrorKind::Internal
    );
    assert_eq!(store.refs().await.unwrap().seq, 0);
}

/// Of many that make a repository in one place at once, one does; the others are told.
#[test]
fn one_of_many_makes_the_repository() {
    let dir = tempfile::tempdir().unwrap();
    for backend in [Backend::memory(), Backend::local(dir.path()).unwrap()] {
        runtime().block_on(async {
            let init = || tokio::spawn(Store::init(backend.clone(), InitOptions::default()));
            let tasks: Vec<_> = (0..8).map(|_| init()).collect();
            let mut made = Vec::new();
            for task in tasks {
                match task.await.unwrap() {
                    Ok(store) => made.push(store),
                    Err(error) => {
                        assert!(matches!(error, Error::AlreadyARepository { .. }), "{error}")
                    }
                }
            }
            let [store] = &made[..] else {
                panic!("{} were made", made.len())
            };
            let opened = Store::open(backend.clone(), OpenOptions::default())
                .await
                .unwrap();
            assert_eq!(opened.config(), store.config());
        });
    }
}

/// One transaction: through which handle, and for each ref the old and the new value it states.
type Step = (usize, Vec<(u64, u64, u64)>);

/// Small numbers, so that many guesses of the old value are right; 0 is nothing.
fn step() -> impl Strategy<Value = Step> {
    (
        0..2usize,
        prop::collection::vec((0..3u64, 0..3u64, 0..3u64), 1..3),
    )
}

async fn follow(steps: &[Step]) {
    let memory = Memory::new();
    let handles = [
        small_store(memory.backend.clone()).await,
        memory.open().await.unwrap(),
    ];
    let some = |n: u64| (n > 0).then(|| id(n));
    let mut model: BTreeMap<u64, u64> = BTreeMap::new();
    let mut n_done = 0;
    for (handle, changes) in steps {
        let stated = changes
            .iter()
            .map(|&(r, old, new)| change(&format!("r{r}"), some(old), some(new)));
        let result = handles[*handle].commit(commit(stated.collect())).await;
        let twice = changes.len() == 2 && changes[0].0 == changes[1].0;
        let holds = changes
            .iter()
            .all(|(r, old, _)| model.get(r).copied().unwrap_or(0) == *old);
        match result {
            Ok(entry) => {
                assert!(holds && !twice, "{changes:?} on {model:?}");
                model.extend(changes.iter().map(|(r, _, new)| (*r, *new)));
                n_done += 1;
                assert_eq!(entry.seq, n_done);
            }
            Err(error) if holds => assert!(twice && error.kind() == ErrorKind::Invalid, "{error}"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict, "{error}"),
        }
        model.retain(|_, value| *value > 0);
    }
    for store in handles.iter().chain([&memory.open().await.unwrap()]) {
        let view = store.refs().await.unwrap();
        let named = model
            .iter()
            .map(|(r, n)| (format!("models/r{r}@heads/main"), id(*n)));
        let found = view.refs.iter().map(|(name, id)| (name.to_string(), *id));
        assert!(found.eq(named), "{:?} is not {model:?}", view.refs);
        let all = store.operations(None, usize::MAX).await.unwrap();
        assert!(all.iter().map(|entry| entry.seq).eq((1..=n_done).rev()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn the_log_does_what_a_map_does(steps in prop::collection::vec(step(), 1..40)) {
        runtime().block_on(follow(&steps));
    }
}
