//! Edits of trees against a map from paths to nodes.

use std::collections::BTreeMap;

use mmh_core::FileId;
use proptest::prelude::*;

use super::*;
use crate::list::Listed;
use crate::memory::Memory;

fn file(n: u64) -> Node {
    Node::File {
        id: FileId::of(&n.to_le_bytes()),
        size: n,
        executable: false,
    }
}

fn apply(memory: &Memory, root: Option<TreeId>, edits: &[(&str, Edit)]) -> Result<TreeId> {
    let encoders = Encoders::new(mmh_codec::Settings::default(), mmh_codec::entropy::best());
    let editor = Editor {
        source: memory,
        sink: memory,
        encoders: &encoders,
    };
    let edits = edits.iter().map(|(p, e)| (Cow::Borrowed(*p), e.clone()));
    editor.apply(root, &edits.collect())
}

fn paths(memory: &Memory, root: TreeId, prefix: &str) -> Vec<Listed> {
    let mut all = Vec::new();
    for entry in objects::entries(memory, root).unwrap() {
        let path = format!("{prefix}{}", entry.name);
        match entry.node {
            Node::Dir { id } => all.extend(paths(memory, id, &format!("{path}/"))),
            node => all.push(Listed { path, node }),
        }
    }
    all
}

#[test]
fn a_folder_that_becomes_empty_by_removal_is_gone() {
    let memory = Memory::default();
    let put = Edit::Put(file(1));
    let root = apply(&memory, None, &[("a/b/c", put.clone()), ("d", put)]).unwrap();
    let root = apply(&memory, Some(root), &[("a/b/c", Edit::Remove)]).unwrap();
    let names: Vec<_> = objects::entries(&memory, root)
        .unwrap()
        .into_iter()
        .map(|e| e.name)
        .collect();
    assert_eq!(names, ["d"]);
}

#[test]
fn a_folder_made_on_purpose_stays_empty() {
    let memory = Memory::default();
    let root = apply(&memory, None, &[("void/deep", Edit::MakeDir)]).unwrap();
    assert!(matches!(
        objects::find(&memory, root, "void/deep").unwrap(),
        Some(Node::Dir { .. })
    ));
    let again = apply(&memory, Some(root), &[("void/deep", Edit::MakeDir)]).unwrap();
    assert_eq!(again, root);
}

#[test]
fn files_and_folders_take_each_others_place() {
    let memory = Memory::default();
    let put = |n| Edit::Put(file(n));
    let root = apply(&memory, None, &[("x", put(1))]).unwrap();
    let root = apply(&memory, Some(root), &[("x/y", put(2))]).unwrap();
    assert_eq!(paths(&memory, root, "")[0].path, "x/y");
    let root = apply(&memory, Some(root), &[("x", put(3))]).unwrap();
    assert_eq!(paths(&memory, root, "")[0].path, "x");
    let both = apply(&memory, None, &[("x", put(1)), ("x/y", put(2))]);
    assert!(matches!(both, Err(Error::Invalid(_))));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Edits in any order of steps behave like a map from paths to files.
    #[test]
    fn edits_behave_like_a_map(
        steps in prop::collection::vec(prop::collection::btree_map("[ab][-]?(/[ab][-]?){0,1}", 0u64..5, 1..4), 1..6),
    ) {
        let memory = Memory::default();
        let (mut root, mut model) = (None, BTreeMap::<String, u64>::new());
        for step in steps {
            let edits: Vec<_> = step.iter().map(|(p, n)| (p.as_str(), Edit::Put(file(*n)))).collect();
            let clash = step.keys().any(|p| step.keys().any(|q| q.starts_with(&format!("{p}/"))));
            let applied = apply(&memory, root, &edits);
            prop_assert_eq!(applied.is_err(), clash);
            let Ok(new) = applied else { continue };
            for (path, n) in &step {
                model.retain(|q, _| {
                    !q.starts_with(&format!("{path}/")) && !path.starts_with(&format!("{q}/"))
                });
                model.insert(path.clone(), *n);
            }
            // A tree's order is that of its folders, not of whole paths.
            let mut listed = paths(&memory, new, "");
            listed.sort_by(|a, b| a.path.cmp(&b.path));
            let expected: Vec<_> =
                model.iter().map(|(p, n)| Listed { path: p.clone(), node: file(*n) }).collect();
            prop_assert_eq!(listed, expected);
            root = Some(new);
        }
    }
}

/// A removal that would take nothing away is an error, wherever on the way the path ends.
#[test]
fn removing_what_is_not_there_is_not_found() {
    let memory = Memory::default();
    let root = apply(&memory, None, &[("a/b", Edit::Put(file(1)))]).unwrap();
    for path in ["x", "x/y", "a/x", "a/x/y", "a/b/c"] {
        let error = apply(&memory, Some(root), &[(path, Edit::Remove)]).unwrap_err();
        assert!(matches!(error, Error::NotFound { .. }), "{path}: {error}");
        let error = apply(&memory, None, &[(path, Edit::Remove)]).unwrap_err();
        assert!(matches!(error, Error::NotFound { .. }), "{path}: {error}");
    }
}

/// Whether a path is taken away or replaced, nothing may be put inside it in the same breath.
#[test]
fn a_path_and_what_is_inside_it_are_not_edited_at_once() {
    let memory = Memory::default();
    let root = apply(&memory, None, &[("a/b", Edit::Put(file(1)))]).unwrap();
    for outer in [Edit::Remove, Edit::Put(file(2))] {
        for inner in [Edit::Remove, Edit::Put(file(3)), Edit::MakeDir] {
            let both = [("a", outer.clone()), ("a/b", inner)];
            let error = apply(&memory, Some(root), &both).unwrap_err();
            assert!(matches!(error, Error::Invalid(_)), "{error}");
        }
    }
}

#[test]
fn a_folder_made_on_purpose_outlives_what_is_removed_from_it() {
    let memory = Memory::default();
    let put = |n| Edit::Put(file(n));
    let root = apply(&memory, None, &[("a/b", put(1)), ("a/c", put(2))]).unwrap();
    let kept = [
        ("a", Edit::MakeDir),
        ("a/b", Edit::Remove),
        ("a/c", Edit::Remove),
    ];
    let kept = apply(&memory, Some(root), &kept).unwrap();
    assert!(objects::find(&memory, kept, "a").unwrap().is_some());
    let gone = apply(
        &memory,
        Some(root),
        &[("a/b", Edit::Remove), ("a/c", Edit::Remove)],
    )
    .unwrap();
    assert_eq!(objects::find(&memory, gone, "a").unwrap(), None);
    assert_eq!(
        gone,
        apply(&memory, None, &[]).unwrap(),
        "the empty tree has one id"
    );
}

#[test]
fn a_folder_made_where_a_file_was_takes_its_place() {
    let memory = Memory::default();
    let root = apply(&memory, None, &[("a", Edit::Put(file(1)))]).unwrap();
    let root = apply(&memory, Some(root), &[("a", Edit::MakeDir)]).unwrap();
    let node = objects::find(&memory, root, "a").unwrap();
    assert!(matches!(node, Some(Node::Dir { .. })), "{node:?}");
    assert!(paths(&memory, root, "").is_empty());
}

/// A change in one folder of a large tree costs the pages on the way to it, not the tree.
#[test]
fn only_folders_on_the_way_to_a_change_are_written() {
    let memory = Memory::default();
    let names: Vec<String> = (0..40)
        .map(|i| format!("d{}/e{}/f{i}", i % 8, i % 4))
        .collect();
    let all: Vec<_> = names
        .iter()
        .map(|n| (n.as_str(), Edit::Put(file(1))))
        .collect();
    let root = apply(&memory, None, &all).unwrap();
    let before = memory.ids();
    let change = [("d0/e0/f0", Edit::Put(file(9)))];
    let changed = apply(&memory, Some(root), &change).unwrap();
    let written = memory.ids().len() - before.len();
    assert_eq!(written, 3, "the root, d0 and d0/e0");
    let sub = |root, path: &str| objects::find(&memory, root, path).unwrap();
    assert_eq!(sub(root, "d1"), sub(changed, "d1"));
    assert_ne!(sub(root, "d0"), sub(changed, "d0"));
}

/// An unreadable folder is only a hindrance to edits that need it.
#[test]
fn a_lost_page_stops_only_edits_below_it() {
    let memory = Memory::default();
    let put = |n| Edit::Put(file(n));
    let root = apply(&memory, None, &[("a/x", put(1)), ("b/x", put(2))]).unwrap();
    let Some(Node::Dir { id }) = objects::find(&memory, root, "a").unwrap() else {
        panic!("a folder")
    };
    assert!(memory.lose(&id.object().chunk()));
    let error = apply(&memory, Some(root), &[("a/y", put(3))]).unwrap_err();
    assert_eq!(error.kind(), mmh_core::ErrorKind::NotFound);
    let next = apply(&memory, Some(root), &[("b/y", put(3))]).unwrap();
    assert_eq!(objects::find(&memory, next, "b/y").unwrap(), Some(file(3)));
    apply(&memory, Some(next), &[("a", Edit::Remove)]).unwrap();
}

/// Enough entries for several pages: what is found by name, listed and edited is one tree, and
/// the id does not tell by which steps it came to be.
#[test]
fn large_folders_are_the_same_by_any_way() {
    let memory = Memory::default();
    let names: Vec<String> = (0..3000).map(|i| format!("f{i:04}")).collect();
    let put = |i: usize| (names[i].as_str(), Edit::Put(file(i as u64)));
    let at_once = apply(&memory, None, &(0..3000).map(put).collect::<Vec<_>>()).unwrap();
    let root = apply(
        &memory,
        None,
        &(0..3000).step_by(2).map(put).collect::<Vec<_>>(),
    )
    .unwrap();
    let odd: Vec<_> = (1..3000).step_by(2).map(put).collect();
    let in_steps = apply(&memory, Some(root), &odd).unwrap();
    assert_eq!(at_once, in_steps);
    for i in [0, 1, 511, 512, 2999] {
        let node = objects::find(&memory, at_once, &names[i]).unwrap();
        assert_eq!(node, Some(file(i as u64)), "{}", names[i]);
    }
    assert_eq!(objects::find(&memory, at_once, "f9999").unwrap(), None);
    assert_eq!(
        objects::find(&memory, at_once, "f0000/below").unwrap(),
        None
    );
}

/// A hyphen sorts before the slash: what is in `a` comes before `a-b` all the same.
#[test]
fn a_folder_comes_before_names_that_begin_like_it() {
    let memory = Memory::default();
    let put = |n| Edit::Put(file(n));
    let all = [
        ("a-b", put(1)),
        ("a/c", put(2)),
        ("a-b", put(3)),
        ("a", Edit::MakeDir),
    ];
    let root = apply(&memory, None, &all).unwrap();
    let listed = paths(&memory, root, "");
    let listed: Vec<_> = listed.into_iter().map(|l| (l.path, l.node)).collect();
    let expected = [("a/c".to_owned(), file(2)), ("a-b".to_owned(), file(3))];
    assert_eq!(
        listed, expected,
        "of two edits of a path the last one counts"
    );
}
