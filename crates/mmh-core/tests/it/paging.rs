//! Where pages of a directory end: golden values from an independent BLAKE3, and a plain model of
//! FORMAT.md §3.2 that writes the pages a second time.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use mmh_core::canonical;
use mmh_core::tree::{self, Body, Change, Entry, Node, Page, Tree, TreeTag};
use mmh_core::{Digest, Error, FileId, ObjectId, TreeId, limits};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use crate::cbor::{Value, link, map, text};

type Stored = BTreeMap<ObjectId, Vec<u8>>;

fn entry(name: &str, size: u64) -> Entry {
    let id = FileId::from_digest(Digest::from_bytes([0x11; 32]));
    let node = Node::File {
        id,
        size,
        executable: false,
    };
    let name = name.to_owned();
    Entry { name, node }
}

fn entries(names: &[&str]) -> Vec<Entry> {
    names.iter().map(|name| entry(name, 0)).collect()
}

fn write(entries: Vec<Entry>) -> (TreeId, Stored) {
    let mut stored = Stored::new();
    let root = tree::write(entries, &mut |bytes| {
        let id = ObjectId::of(&bytes);
        stored.insert(id, bytes);
        Ok::<_, Error>(id)
    });
    (root.unwrap(), stored)
}

fn store(stored: &mut Stored, body: Body) -> TreeId {
    let bytes = canonical::encode(&Tree {
        r#type: TreeTag::Tag,
        body,
    });
    let bytes = bytes.unwrap();
    let id = TreeId::of(&bytes);
    stored.insert(id.object(), bytes);
    id
}

fn get(stored: &Stored) -> impl FnMut(TreeId) -> Result<Tree, Error> + '_ {
    |id| canonical::decode(&stored[&id.object()])
}

/// The rule as the format has it: nine zero bits at the start of `BLAKE3(level ‖ name)`.
fn is_boundary(level: u8, name: &str) -> bool {
    let hash = blake3::hash(&[&[level], name.as_bytes()].concat());
    hash.as_bytes()[0] == 0 && hash.as_bytes()[1] < 0x80
}

/// The pages of a directory, written without the crate: items are cut into pages, the pages are
/// the items of the next level.
fn model(entries: &[Entry]) -> (TreeId, Stored) {
    let mut items: Vec<(String, Value)> = entries
        .iter()
        .map(|e| {
            let Node::File { size, .. } = &e.node else {
                panic!("the model knows files")
            };
            let file = map([
                ("id", link(0x71, &[0x11; 32])),
                ("size", Value::Uint(*size)),
            ]);
            let value = map([("name", text(&e.name)), ("node", map([("file", file)]))]);
            (e.name.clone(), value)
        })
        .collect();
    let mut stored = Stored::new();
    for level in 0u8.. {
        let mut pages: Vec<Vec<(String, Value)>> = vec![Vec::new()];
        for item in items {
            let page = pages.last().unwrap();
            let ends = |last: &(String, Value)| is_boundary(level, &last.0) || page.len() == 4096;
            if page.last().is_some_and(ends) {
                pages.push(Vec::new());
            }
            pages.last_mut().unwrap().push(item);
        }
        let kind = if level == 0 { "entries" } else { "pages" };
        let mut next = Vec::new();
        for page in pages {
            let first = page.first().map_or(String::new(), |item| item.0.clone());
            let list = Value::List(page.into_iter().map(|item| item.1).collect());
            let bytes = map([("type", text("tree")), ("body", map([(kind, list)]))]).encode();
            let id = ObjectId::of(&bytes);
            let value = Value::List(vec![text(&first), link(0x71, id.as_bytes())]);
            stored.insert(id, bytes);
            next.push((id, first, value));
        }
        if let [(id, ..)] = next[..] {
            return (TreeId::from_object(id), stored);
        }
        items = next
            .into_iter()
            .map(|(_, name, value)| (name, value))
            .collect();
    }
    unreachable!("the levels end")
}

/// Computed with the Python package `blake3` and a writer of its own.
#[test]
fn golden_directories_keep_their_ids() {
    let many = (0..3000).map(|i| entry(&format!("n{i:07}"), i)).collect();
    let (root, stored) = write(many);
    assert_eq!(
        root.to_string(),
        "bafyr4iakv64dks7fftjag3agesinjr4jqqyx6tdipe2dlptbukbtuzardy"
    );
    assert_eq!(stored.len(), 7);
    // Three entries, four levels: the first name ends pages of the levels 1 and 2, the second
    // ends a page of entries.
    let names = ["n0006824", "n0076877", "z"];
    let few = names.iter().zip(0..).map(|(name, i)| entry(name, i));
    let (root, stored) = write(few.collect());
    assert_eq!(
        root.to_string(),
        "bafyr4iasy6xlvf4bu63wrxkzp4jv676n3zpueecyb45phbozx4sr3l7vb4"
    );
    assert_eq!(stored.len(), 7);
}

/// Names with nine to twelve zero bits end a page of entries, a name with eight does not.
#[test]
fn nine_zero_bits_end_a_page() {
    for name in ["n0000325", "n0001065", "n0001978", "n0002998", "n0003207"] {
        let (_, stored) = write(entries(&[name]));
        assert_eq!(stored.len(), 1, "{name} alone is the root");
        let (_, stored) = write(entries(&["a", name]));
        assert_eq!(
            stored.len(),
            1,
            "{name} at the end is in the page that it ends"
        );
        let (_, stored) = write(entries(&[name, "z"]));
        assert_eq!(
            stored.len(),
            3,
            "{name}, what follows, and a list of the two"
        );
    }
    for name in ["n0000005", "n0000574", "n0000982", "n0001506"] {
        let (_, stored) = write(entries(&[name, "z"]));
        assert_eq!(stored.len(), 1, "{name}");
    }
}

/// The level is part of what is hashed: these names end lists of pages, and only those.
#[test]
fn each_level_has_boundaries_of_its_own() {
    for name in ["n0000091", "n0000287", "n0000929", "n0001188"] {
        assert_eq!(write(entries(&[name, "z"])).1.len(), 1, "{name}");
        // Pages [name, n0001978] and [z]; the list is cut after the first.
        let (root, stored) = write(entries(&[name, "n0001978", "z"]));
        assert_eq!(stored.len(), 5, "{name}");
        let lists = stored
            .values()
            .filter(|b| b.starts_with(b"\xa2\x64body\xa1\x65pages"));
        assert_eq!(lists.count(), 3, "{name}");
        let all = tree::entries(root, &mut get(&stored)).unwrap();
        assert_eq!(all, entries(&[name, "n0001978", "z"]));
    }
}

/// Where no name ends it, a page ends at its limit; a full page alone needs no list.
#[test]
fn a_page_ends_at_its_limit() {
    let plain: Vec<Entry> = (0..)
        .map(|i| format!("n{i:07}"))
        .filter(|name| !is_boundary(0, name))
        .take(limits::TREE_PAGE_ENTRIES_MAX + 1)
        .map(|name| entry(&name, 1))
        .collect();
    let full = &plain[..limits::TREE_PAGE_ENTRIES_MAX];
    for (list, n_pages) in [(full, 1), (&plain[..], 3)] {
        let (root, stored) = write(list.to_vec());
        assert_eq!(stored.len(), n_pages);
        assert_eq!((root, stored), model(list));
    }
}

/// A leaf below as many lists as are allowed is read, below one more it is not, by any reader.
#[test]
fn lists_are_nested_eight_deep_at_most() {
    let mut stored = Stored::new();
    let leaf = store(&mut stored, Body::Entries(entries(&["a", "b"])));
    let other = store(&mut stored, Body::Entries(entries(&["a"])));
    let mut root = leaf;
    for depth in 0..=limits::TREE_PAGE_DEPTH_MAX + 1 {
        let listed = tree::entries(root, &mut get(&stored)).map(|all| all.len());
        let found = tree::find(root, "b", &mut get(&stored));
        let compared = tree::diff(root, other, &mut get(&stored));
        if depth <= limits::TREE_PAGE_DEPTH_MAX {
            assert_eq!(listed.unwrap(), 2, "depth {depth}");
            assert_eq!(found.unwrap(), Some(entry("b", 0).node), "depth {depth}");
            assert_eq!(compared.unwrap(), [Change::Removed(entry("b", 0))]);
        } else {
            for error in [
                listed.unwrap_err(),
                found.unwrap_err(),
                compared.unwrap_err(),
            ] {
                assert!(matches!(error, Error::TooLarge { limit: 8, .. }), "{error}");
            }
        }
        root = store(&mut stored, Body::Pages(vec![Page("a".to_owned(), root)]));
    }
}

/// Pages that overlap, and a page of nothing below a list, would hide or repeat names.
#[test]
fn overlapping_and_empty_pages_are_refused() {
    for (first, second) in [
        (&["a", "d"][..], &["c"][..]),
        (&["a", "c"], &["c"]),
        (&["a", "b"], &[]),
    ] {
        let mut stored = Stored::new();
        let pages = [("a", first), ("c", second)].map(|(name, names)| {
            let leaf = store(&mut stored, Body::Entries(entries(names)));
            Page(name.to_owned(), leaf)
        });
        let root = store(&mut stored, Body::Pages(pages.into()));
        let listed = tree::entries(root, &mut get(&stored));
        assert!(
            matches!(listed, Err(Error::BadObject { .. })),
            "{first:?} {second:?}"
        );
    }
    let empty = canonical::encode(&Tree {
        r#type: TreeTag::Tag,
        body: Body::Pages(Vec::new()),
    });
    assert!(matches!(empty, Err(Error::BadObject { .. })));
}

/// What the caller's own storage says reaches the caller unchanged.
#[test]
fn errors_of_the_caller_come_back() {
    #[derive(Debug, PartialEq)]
    enum Mine {
        Full(usize),
        Core(String),
    }
    impl From<Error> for Mine {
        fn from(error: Error) -> Self {
            Self::Core(error.to_string())
        }
    }
    // Seven pages are written: let each of them be the one that fails.
    let names = ["n0006824", "n0076877", "z"];
    for nth in 0..=7 {
        let mut n = 0;
        let written = tree::write(entries(&names), &mut |bytes| {
            n += 1;
            if n > nth {
                Err(Mine::Full(nth))
            } else {
                Ok(ObjectId::of(&bytes))
            }
        });
        assert_eq!(written.err(), (nth < 7).then_some(Mine::Full(nth)));
    }
    let (root, stored) = write(entries(&names));
    for nth in 0..4 {
        let mut n = 0;
        let found = tree::find(root, "z", &mut |id| {
            n += 1;
            if n > nth {
                return Err(Mine::Full(nth));
            }
            Ok(canonical::decode(&stored[&id.object()])?)
        });
        assert_eq!(found, Err(Mine::Full(nth)));
    }
    let twice = tree::write(entries(&["a", "a"]), &mut |bytes| Ok(ObjectId::of(&bytes)));
    let Err(Mine::Core(said)) = twice else {
        panic!("{twice:?}")
    };
    assert!(said.contains("`a` occurs twice"), "{said}");
}

/// Names among which many end pages of the levels 0, 1 and 2.
static POOL: LazyLock<Vec<String>> = LazyLock::new(|| {
    let near = (0..150_000).map(|i| format!("n{i:07}"));
    let ends = |name: &String| is_boundary(0, name) || is_boundary(1, name);
    let mut names: Vec<String> = near.filter(ends).step_by(5).collect();
    names.extend(["n0006824", "n0000976", "n0076877"].map(str::to_owned));
    names.extend((0..60).map(|i| format!("n{:07}x", i * 2500)));
    names.sort();
    names.dedup();
    names
});

fn diff_of(old: &BTreeMap<&str, u64>, new: &BTreeMap<&str, u64>) -> Vec<Change> {
    let names: std::collections::BTreeSet<_> = old.keys().chain(new.keys()).collect();
    let change = |name: &&&str| match (old.get(**name), new.get(**name)) {
        (Some(&a), Some(&b)) if a == b => None,
        (Some(&a), Some(&b)) => Some(Change::Changed(entry(name, a), entry(name, b))),
        (Some(&a), None) => Some(Change::Removed(entry(name, a))),
        (None, Some(&b)) => Some(Change::Added(entry(name, b))),
        (None, None) => None,
    };
    names.iter().filter_map(change).collect()
}

/// Any directory is written as the model writes it, page by page; all readers agree with a map;
/// and a comparison reads what differs, also between directories of different depth.
#[test]
fn deep_directories_equal_the_model() {
    let pool: Vec<&'static str> = POOL.iter().map(String::as_str).collect();
    let edits = prop::collection::vec((select(pool.clone()), 0u64..3), 0..6);
    let case = (subsequence(pool.clone(), 0..=pool.len()), edits);
    let mut runner = proptest::test_runner::TestRunner::new_with_rng(
        ProptestConfig::with_cases(48),
        proptest::test_runner::TestRng::deterministic_rng(
            proptest::test_runner::RngAlgorithm::ChaCha,
        ),
    );
    let outcome = runner.run(&case, |(names, edits)| {
        let old: BTreeMap<&str, u64> = names.iter().map(|n| (*n, 1)).collect();
        let mut new = old.clone();
        for (name, size) in edits {
            if size == 0 {
                new.remove(name);
            } else {
                new.insert(name, size);
            }
        }
        let list = |map: &BTreeMap<&str, u64>| -> Vec<Entry> {
            map.iter().map(|(name, size)| entry(name, *size)).collect()
        };
        let ((a, mut stored), (b, more)) = (write(list(&old)), write(list(&new)));
        prop_assert_eq!(&(a, stored.clone()), &model(&list(&old)));
        prop_assert_eq!(&(b, more.clone()), &model(&list(&new)));
        stored.extend(more);
        let mut get = get(&stored);
        prop_assert_eq!(tree::entries(b, &mut get).unwrap(), list(&new));
        prop_assert_eq!(tree::diff(a, b, &mut get).unwrap(), diff_of(&old, &new));
        for name in pool.iter().step_by(7) {
            let node = new.get(name).map(|size| entry(name, *size).node);
            prop_assert_eq!(tree::find(b, name, &mut get).unwrap(), node);
        }
        Ok(())
    });
    outcome.unwrap();
}
