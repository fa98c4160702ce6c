//! Revisions by id, histories with merges and bad clocks, and changes of many refs at once.

use std::collections::BTreeSet;

use mmh_core::canonical;
use mmh_core::name::{RefKind, RefName};
use mmh_core::object::{RefChange, Snapshot, SnapshotTag};
use mmh_core::{ErrorKind, SnapshotId, TreeId};
use mmh_repo::{AddOptions, Error, Repository};

use crate::forge::Forger;
use crate::scratch::{Scratch, add, target};

fn branch(name: &str, rev: &str) -> RefName {
    RefName::branch(name.parse().unwrap(), rev).unwrap()
}

fn with_content(scratch: &Scratch) -> Repository {
    let repo = scratch.init();
    add(&repo, &scratch.files("in", &[("a", vec![1])]), "acme/m");
    repo
}

/// Makes snapshots until two share the digits by which they may be named.
fn two_of_one_prefix(tree: TreeId) -> [Snapshot; 2] {
    let mut seen = std::collections::BTreeMap::new();
    for time_ms in 0.. {
        let snapshot = Snapshot {
            r#type: SnapshotTag::Tag,
            tree,
            parents: Vec::new(),
            author: String::new(),
            time_ms,
            message: String::new(),
        };
        let bytes = canonical::encode(&snapshot).unwrap();
        let digits = SnapshotId::of(&bytes).digest().to_string()[..6].to_owned();
        if let Some(other) = seen.insert(digits, snapshot.clone()) {
            return [other, snapshot];
        }
    }
    unreachable!("there are sixteen million prefixes of six digits")
}

/// Digits that fit two snapshots name neither; more digits, or the whole id, name one.
#[test]
fn an_ambiguous_id_is_refused_until_it_is_longer() {
    let scratch = Scratch::new();
    let forger = Forger::new(&scratch);
    let [one, two] = two_of_one_prefix(forger.dir(Vec::new()))
        .map(|s| SnapshotId::from_object(forger.object(&s)));
    let refs = [(branch("acme/m", "a"), one), (branch("acme/m", "b"), two)];
    let repo = forger.finish_refs(&refs, scratch.components());
    let digest = one.digest().to_string();
    let resolve = |rev: &str| repo.resolve(&target(&format!("acme/m@{rev}")));
    let error = resolve(&digest[..6]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    assert!(error.to_string().contains("more than one"), "{error}");
    for rev in [&digest[..], &one.to_string()] {
        let found = resolve(rev).unwrap();
        assert_eq!((found.id, found.by), (one, None));
    }
}

/// Fewer than six digits, other digits, or an id of another name: none is a revision.
#[test]
fn what_is_no_id_of_the_name_is_not_found() {
    let scratch = Scratch::new();
    let repo = with_content(&scratch);
    add(
        &repo,
        &scratch.files("other", &[("b", vec![2])]),
        "acme/other",
    );
    let id = repo.resolve(&target("acme/m")).unwrap().id;
    let other = repo.resolve(&target("acme/other")).unwrap().id;
    let digest = id.digest().to_string();
    let upper = format!("{}F", &digest[..6]);
    let revs = [
        &digest[..5],
        &upper,
        &other.to_string(),
        &format!("{}0", digest),
        "0123456789",
    ];
    for rev in revs {
        let error = repo.resolve(&target(&format!("acme/m@{rev}"))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{rev}: {error}");
    }
    assert_eq!(
        repo.resolve(&target(&format!("acme/m@{}", &digest[..6])))
            .unwrap()
            .id,
        id
    );
}

/// A branch may be called like an id; what was named on purpose comes first.
#[test]
fn a_branch_comes_before_an_id_of_its_name() {
    let scratch = Scratch::new();
    let repo = with_content(&scratch);
    let first = repo.resolve(&target("acme/m")).unwrap().id;
    let digits = first.digest().to_string()[..8].to_owned();
    add(&repo, &scratch.files("more", &[("b", vec![2])]), "acme/m");
    let second = repo.create_branch(&target("acme/m"), &digits).unwrap();
    assert_ne!(first, second);
    let found = repo.resolve(&target(&format!("acme/m@{digits}"))).unwrap();
    assert_eq!(found.id, second);
    assert_eq!(found.by.map(|name| name.kind), Some(RefKind::Branch));
}

/// Two lines that part and meet, seen from two tips: each snapshot once, and of those whose
/// child was seen the newest first. Where a clock went backwards, an old line may come last.
#[test]
fn histories_that_part_and_meet_are_walked_once() {
    let scratch = Scratch::new();
    let forger = Forger::new(&scratch);
    let tree = forger.dir(Vec::new());
    let root = forger.snapshot(tree, &[], 900);
    let left = forger.snapshot(tree, &[root], 200);
    let right = forger.snapshot(tree, &[root], 300);
    let merge = forger.snapshot(tree, &[left, right], 100);
    let tip = forger.snapshot(tree, &[merge], 400);
    let refs = [
        (branch("acme/m", "main"), tip),
        (branch("acme/m", "right"), right),
    ];
    let repo = forger.finish_refs(&refs, scratch.components());
    let ids = |tips: Vec<SnapshotId>| -> Vec<SnapshotId> {
        repo.history(tips).unwrap().map(|e| e.unwrap().0).collect()
    };
    let all = ids(vec![tip, right, tip]);
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 5);
    assert_eq!(all.len(), 5);
    assert_eq!(ids(vec![tip]), [tip, merge, right, root, left]);
    assert_eq!(ids(vec![right]), [right, root]);
    assert!(ids(Vec::new()).is_empty());
    assert_eq!(repo.log(&target("acme/m")).unwrap().count(), 5);
}

/// Either every ref changes or none does.
#[test]
fn a_transaction_of_which_one_part_fails_changes_nothing() {
    let scratch = Scratch::new();
    let repo = with_content(&scratch);
    let id = repo.resolve(&target("acme/m")).unwrap().id;
    let set = |name: &str, old, new| RefChange {
        r#ref: branch(name, "main"),
        old,
        new,
    };
    let before = repo.refs().unwrap().seq;
    for stale in [
        set("acme/m", None, Some(id)),
        set("acme/none", Some(id), None),
    ] {
        let changes = vec![
            stale,
            set("acme/a", None, Some(id)),
            set("acme/z", None, Some(id)),
        ];
        let error = repo.transact(changes, "both", None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    }
    assert_eq!(repo.names().unwrap().len(), 1);
    assert_eq!(repo.refs().unwrap().seq, before);
    let both = vec![set("acme/z", None, Some(id)), set("acme/a", None, Some(id))];
    repo.transact(both, "both", None).unwrap();
    let names: Vec<_> = repo.names().unwrap().into_iter().map(|n| n.name).collect();
    assert_eq!(names, ["models/acme/a", "models/acme/m", "models/acme/z"]);
}

#[test]
fn one_ref_is_not_changed_twice_at_once() {
    let scratch = Scratch::new();
    let repo = with_content(&scratch);
    let id = repo.resolve(&target("acme/m")).unwrap().id;
    let change = RefChange {
        r#ref: branch("acme/n", "main"),
        old: None,
        new: Some(id),
    };
    let error = repo
        .transact(vec![change.clone(), change], "twice", None)
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    assert_eq!(repo.names().unwrap().len(), 1);
}

/// What someone did since must not be lost with what is taken back.
#[test]
fn an_undo_over_a_later_change_is_a_conflict() {
    let scratch = Scratch::new();
    let repo = with_content(&scratch);
    let id = repo.resolve(&target("acme/m")).unwrap().id;
    let main = branch("acme/m", "main");
    // An operation that claims to take back an earlier one, and moved the branch elsewhere.
    repo.create_branch(&target("acme/m"), "dev").unwrap();
    let gone = RefChange {
        r#ref: branch("acme/m", "dev"),
        old: Some(id),
        new: None,
    };
    repo.transact(vec![gone], "undo 1: by hand", Some(1))
        .unwrap();
    let error = repo.undo().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    assert_eq!(
        repo.refs().unwrap().refs.get(&main),
        Some(&id),
        "nothing was taken back"
    );
}

/// Removing a name takes its branches and tags, and leaves names that begin like it.
#[test]
fn a_name_is_removed_with_all_that_is_its_own() {
    let scratch = Scratch::new();
    let repo = with_content(&scratch);
    let at = target("acme/m");
    repo.create_branch(&at, "dev").unwrap();
    repo.create_tag(&at, "v1").unwrap();
    for other in ["acme/m2", "datasets/acme/m", "trees/acme/m/sub"] {
        add(&repo, &scratch.path("in"), other);
    }
    let one = repo.remove(&target("acme/m@v1")).unwrap();
    assert_eq!(one.changes.len(), 1);
    let rest = repo.remove(&at).unwrap();
    assert_eq!(rest.changes.len(), 2);
    assert_eq!(rest.command, "rm acme/m");
    let names: Vec<_> = repo.names().unwrap().into_iter().map(|n| n.name).collect();
    assert_eq!(
        names,
        ["datasets/acme/m", "models/acme/m2", "trees/acme/m/sub"]
    );
    repo.undo().unwrap();
    assert!(repo.resolve(&target("acme/m@dev")).is_ok());
    assert!(repo.resolve(&target("acme/m@v1")).is_err());
}

/// Tags and ids stand for what was; nothing can be taken out of them.
#[test]
fn only_branches_lose_paths() {
    let scratch = Scratch::new();
    let repo = with_content(&scratch);
    let id = repo.create_tag(&target("acme/m"), "v1").unwrap();
    for rev in ["v1", &id.to_string()] {
        let error = repo
            .remove(&target(&format!("acme/m@{rev}:a")))
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{rev}: {error}");
    }
    let error = repo.remove_ref(branch("acme/m", "none")).unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{error}");
    repo.remove_ref(branch("acme/m", "main")).unwrap();
    assert!(repo.resolve(&target("acme/m")).is_err());
    assert!(repo.resolve(&target("acme/m@v1")).is_ok());
}

/// The log is read from its end, as many entries as are wanted.
#[test]
fn operations_are_listed_newest_first() {
    let scratch = Scratch::new();
    let repo = with_content(&scratch);
    for tag in ["v1", "v2", "v3"] {
        repo.create_tag(&target("acme/m"), tag).unwrap();
    }
    let commands = |n| -> Vec<String> {
        repo.operations(n)
            .unwrap()
            .into_iter()
            .map(|o| o.command)
            .collect()
    };
    assert!(commands(0).is_empty());
    assert_eq!(commands(2), ["tag acme/m v3", "tag acme/m v2"]);
    assert_eq!(commands(100).len(), 4);
    assert_eq!(commands(100)[3], "add acme/m");
    assert!(repo.operations(1).unwrap()[0].author == "a tester");
}

/// Revisions are checked where they are made, so that they can be named afterwards.
#[test]
fn bad_revision_names_are_refused() {
    let scratch = Scratch::new();
    let repo = with_content(&scratch);
    for rev in [
        "",
        "-x",
        "a b",
        "a:b",
        "a@b",
        "../x",
        "a//b",
        "é",
        &"x".repeat(256),
    ] {
        let error = repo.create_branch(&target("acme/m"), rev).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{rev:?}");
        let error = repo.create_tag(&target("acme/m"), rev).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{rev:?}");
    }
    assert_eq!(repo.refs().unwrap().seq, 1);
    let options = AddOptions::default();
    let mut to = target("acme/m");
    to.rev = Some("-x".to_owned());
    assert!(repo.add(&[scratch.path("in")], &to, &options).is_err());
}
