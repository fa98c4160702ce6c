//! Paged directories against a plain sorted map.

use std::collections::{BTreeMap, HashMap};

use mmh_core::canonical;
use mmh_core::tree::{self, Body, Change, Entry, Node, Page, Tree, TreeTag};
use mmh_core::{Error, FileId, ObjectId, TreeId};
use proptest::prelude::*;

#[derive(Default)]
struct Pages(HashMap<ObjectId, Vec<u8>>, std::cell::Cell<usize>);

impl Pages {
    fn write(&mut self, entries: Vec<Entry>) -> Result<TreeId, Error> {
        tree::write(entries, &mut |bytes| {
            let id = ObjectId::of(&bytes);
            self.0.insert(id, bytes);
            Ok(id)
        })
    }

    fn get(&self, id: TreeId) -> Result<Tree, Error> {
        self.1.set(self.1.get() + 1);
        canonical::decode(&self.0[&id.object()])
    }
}

fn file(name: &str, content: u64) -> Entry {
    let id = FileId::of(&content.to_le_bytes());
    Entry {
        name: name.to_owned(),
        node: Node::File {
            id,
            size: content,
            executable: false,
        },
    }
}

fn many(n: u64) -> Vec<Entry> {
    (0..n)
        .map(|i| file(&format!("model-{i:07}.safetensors"), i))
        .collect()
}

#[test]
fn an_empty_directory_is_one_page() {
    let mut pages = Pages::default();
    let root = pages.write(Vec::new()).unwrap();
    assert!(
        tree::entries(root, &mut |id| pages.get(id))
            .unwrap()
            .is_empty()
    );
}

#[test]
fn large_directories_are_paged_and_found_again() {
    let mut pages = Pages::default();
    let root = pages.write(many(20_000)).unwrap();
    assert!(pages.0.len() > 20);
    assert_eq!(
        tree::entries(root, &mut |id| pages.get(id)).unwrap(),
        many(20_000)
    );
    for i in [0, 1, 7_777, 19_999] {
        let name = format!("model-{i:07}.safetensors");
        let node = tree::find(root, &name, &mut |id| pages.get(id)).unwrap();
        assert_eq!(node, Some(file(&name, i).node));
    }
    for absent in ["", "a", "zzz", "model-0000001.safetensor"] {
        assert_eq!(
            tree::find(root, absent, &mut |id| pages.get(id)).unwrap(),
            None
        );
    }
}

/// The order in which entries were collected leaves no trace in the id.
#[test]
fn order_of_insertion_does_not_matter() {
    let mut pages = Pages::default();
    let mut reversed = many(3_000);
    reversed.reverse();
    let a = pages.write(reversed).unwrap();
    assert_eq!(pages.write(many(3_000)).unwrap(), a);
}

/// A change of one entry rewrites one leaf and the path above it; comparing reads no more.
#[test]
fn one_change_costs_one_page() {
    let mut pages = Pages::default();
    let old = pages.write(many(20_000)).unwrap();
    let before = pages.0.len();
    let mut entries = many(20_000);
    entries.remove(10_000);
    let new = pages.write(entries).unwrap();
    assert!(
        pages.0.len() - before <= 3,
        "{} new pages",
        pages.0.len() - before
    );
    pages.1.set(0);
    let changes = tree::diff(old, new, &mut |id| pages.get(id)).unwrap();
    assert_eq!(changes.len(), 1);
    assert!(matches!(&changes[0], Change::Removed(e) if e.name.contains("0010000")));
    assert!(pages.1.get() < 12, "{} pages read", pages.1.get());
}

#[test]
fn names_that_occur_twice_are_refused() {
    let mut pages = Pages::default();
    assert!(pages.write(vec![file("a", 1), file("a", 2)]).is_err());
    assert!(pages.write(vec![file("../a", 1)]).is_err());
}

/// A page that links to itself would be read for ever.
/// Eight levels of lists that name one page 4096 times each would be 10^28 entries.
#[test]
fn pages_named_again_and_again_end_at_once() {
    let name = |i: usize| format!("n{i:04}");
    for leaf in [Vec::new(), vec![file(&name(0), 0)]] {
        let mut pages = Pages::default();
        let mut id = pages.write(leaf).unwrap();
        let plain = pages.write(vec![file("plain", 1)]).unwrap();
        for level in 0..8 {
            let list = (0..4096).map(|i| Page(name(i), id)).collect();
            let bytes = canonical::encode(&Tree {
                r#type: TreeTag::Tag,
                body: Body::Pages(list),
            })
            .unwrap();
            id = TreeId::of(&bytes);
            pages.0.insert(id.object(), bytes);
            let listed = tree::entries(id, &mut |id| pages.get(id));
            assert!(
                matches!(listed, Err(Error::BadObject { .. })),
                "level {level}"
            );
            let compared = tree::diff(plain, id, &mut |id| pages.get(id));
            assert!(compared.is_err(), "level {level}");
        }
        assert!(pages.1.get() < 500, "{} pages were read", pages.1.get());
        let other = tree::find(id, &name(7), &mut |id| pages.get(id));
        assert!(matches!(other, Err(Error::BadObject { .. })));
    }
}

#[test]
fn a_page_that_begins_elsewhere_is_refused() {
    let mut pages = Pages::default();
    let leaves: Vec<_> = ["b", "d"]
        .map(|n| (n, pages.write(vec![file(n, 1)]).unwrap()))
        .into();
    let mut list = |names: [&str; 2]| {
        let list = names.iter().zip(&leaves);
        let body = Body::Pages(
            list.map(|(n, (_, id))| Page((*n).to_owned(), *id))
                .collect(),
        );
        let bytes = canonical::encode(&Tree {
            r#type: TreeTag::Tag,
            body,
        })
        .unwrap();
        let id = TreeId::of(&bytes);
        pages.0.insert(id.object(), bytes);
        id
    };
    let (right, wrong) = (list(["b", "d"]), list(["a", "d"]));
    let names = |id| tree::entries(id, &mut |id| pages.get(id)).map(|all| all.len());
    assert_eq!(names(right).ok(), Some(2));
    assert!(matches!(names(wrong), Err(Error::BadObject { .. })));
    let found = tree::find(wrong, "b", &mut |id| pages.get(id));
    assert!(matches!(found, Err(Error::BadObject { .. })));
}

#[test]
fn page_cycles_end_in_an_error() {
    let id = TreeId::of(b"cycle");
    let pages = vec![Page("a".to_owned(), id)];
    let cyclic = Tree {
        r#type: TreeTag::Tag,
        body: Body::Pages(pages),
    };
    let mut get = |_| Ok::<_, Error>(cyclic.clone());
    assert!(tree::find(id, "b", &mut get).is_err());
    assert!(tree::entries(id, &mut get).is_err());
    // Both hold the same page, so there is nothing to report; what counts is that it ends.
    let other = TreeId::of(b"other");
    assert_eq!(tree::diff(id, other, &mut get).ok(), Some(Vec::new()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Any two sets of entries: what was written is read, and the difference is the map's.
    #[test]
    fn trees_behave_like_a_sorted_map(
        a in prop::collection::btree_map("[a-c]{1,3}", 0u64..4, 0..40),
        b in prop::collection::btree_map("[a-c]{1,3}", 0u64..4, 0..40),
    ) {
        let mut pages = Pages::default();
        let list = |m: &BTreeMap<String, u64>| m.iter().map(|(k, &v)| file(k, v)).collect::<Vec<_>>();
        let (old, new) = (pages.write(list(&a)).unwrap(), pages.write(list(&b)).unwrap());
        prop_assert_eq!(old == new, a == b);
        prop_assert_eq!(tree::entries(old, &mut |id| pages.get(id)).unwrap(), list(&a));
        let mut model = a.clone();
        for change in tree::diff(old, new, &mut |id| pages.get(id)).unwrap() {
            match change {
                Change::Removed(e) => { prop_assert!(model.remove(&e.name).is_some()); }
                Change::Added(e) | Change::Changed(_, e) => {
                    let Node::File { size, .. } = e.node else { unreachable!() };
                    model.insert(e.name, size);
                }
            }
        }
        prop_assert_eq!(model, b);
    }
}

/// Entries that come one by one make the same directory as all of them at once, and pages are put as
/// soon as they are full.
#[test]
fn entries_that_come_in_order_make_the_same_pages() {
    for n in [0, 1, 2, 511, 3_000] {
        let (mut pages, put) = (Pages::default(), std::cell::Cell::new(0));
        let at_once = pages.write(many(n)).unwrap();
        let mut count = |bytes: Vec<u8>| -> Result<ObjectId, Error> {
            put.set(put.get() + 1);
            Ok(ObjectId::of(&bytes))
        };
        let mut writer = tree::Writer::new(&mut count);
        assert!(writer.is_empty());
        for (i, entry) in many(n).into_iter().enumerate() {
            writer.push(entry).unwrap();
            assert!(!writer.is_empty());
            assert!(put.get() <= i + 1);
        }
        let before = put.get();
        assert_eq!(writer.finish().unwrap(), at_once, "{n} entries");
        assert_eq!(put.get(), pages.0.len(), "each page once");
        assert!(before > 0 || n < 3_000, "pages do not wait for the end");
    }
}

#[test]
fn entries_out_of_order_are_refused() {
    let refused = |names: &[&str]| {
        let mut put = |bytes: Vec<u8>| -> Result<ObjectId, Error> { Ok(ObjectId::of(&bytes)) };
        let mut writer = tree::Writer::new(&mut put);
        let pushed = names.iter().try_for_each(|name| writer.push(file(name, 1)));
        pushed.unwrap_err().to_string()
    };
    assert!(refused(&["b", "a"]).contains("`a` is out of order"));
    assert!(refused(&["a", "b", "b"]).contains("`b` occurs twice"));
    // The last name of a page that was put counts too.
    let mut names: Vec<String> = many(3_000).into_iter().map(|e| e.name).collect();
    names.push(names[0].clone());
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    assert!(refused(&names).contains("is out of order"));
}

#[test]
fn what_stops_a_page_from_being_put_stops_the_directory() {
    let mut put = |_: Vec<u8>| -> Result<ObjectId, Error> {
        Err(Error::BadObject {
            what: "page",
            reason: "no room".to_owned(),
        })
    };
    let mut writer = tree::Writer::new(&mut put);
    let pushed = many(3_000).into_iter().try_for_each(|e| writer.push(e));
    assert!(pushed.unwrap_err().to_string().contains("no room"));
    let empty = tree::Writer::new(&mut put).finish();
    assert!(empty.is_err(), "an empty directory is a page as well");
}
