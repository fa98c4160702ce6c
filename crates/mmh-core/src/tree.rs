//! Directories: sorted entries, split into pages where the entries' own names say so.
//!
//! A page ends after an entry whose name hashes to a boundary, so inserting or removing one
//! entry changes one page and the path above it, and two trees that differ in one file share all
//! other pages. FORMAT.md, "Trees".

use std::cmp::Ordering;
use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::canonical::{self, Canonical};
use crate::error::{Error, Result};
use crate::id::{FileId, ObjectId, TreeId};
use crate::limits;
use crate::name::check_file_name;
use crate::object::tag;
use crate::tensor::limits_check;

/// A page ends where `BLAKE3(level ‖ name)` has this many zero bits at its start: 512 entries a
/// page on average.
pub const PAGE_BOUNDARY_BITS: u32 = 9;

tag!(TreeTag, "tree");

/// What a name in a directory stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Node {
    /// A file.
    File {
        /// Its content.
        id: FileId,
        /// Its length in bytes.
        size: u64,
        /// Whether its owner may execute it.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        executable: bool,
    },
    /// A directory.
    Dir {
        /// Its entries.
        id: TreeId,
    },
    /// A symbolic link; never followed by us.
    Link {
        /// Where it points, as it was.
        target: String,
    },
}

/// A name in a directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// The name, see [`check_file_name`].
    pub name: String,
    /// What it stands for.
    pub node: Node,
}

/// A page below this one: the first name in it and its id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page(pub String, pub TreeId);

/// The entries of a directory, or links to pages of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Body {
    /// Entries sorted by name (bytewise), each name once.
    Entries(Vec<Entry>),
    /// Pages sorted by first name.
    Pages(Vec<Page>),
}

/// One page of a directory; the root page is the directory's id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tree {
    /// Always `"tree"`.
    pub r#type: TreeTag,
    /// What it holds.
    pub body: Body,
}

impl Canonical for Tree {
    const WHAT: &'static str = "tree";

    fn check(&self) -> Result<()> {
        let bad = |reason: &str| Error::BadObject {
            what: Self::WHAT,
            reason: reason.to_owned(),
        };
        match &self.body {
            Body::Entries(entries) => {
                limits_check(
                    "entries of a tree page",
                    entries.len(),
                    limits::TREE_PAGE_ENTRIES_MAX,
                )?;
                entries.iter().try_for_each(|e| check_file_name(&e.name))?;
                if !entries.is_sorted_by(|a, b| a.name < b.name) {
                    return Err(bad("entries are not sorted by name, each name once"));
                }
                let target = |e: &Entry| match &e.node {
                    Node::Link { target } => target.len(),
                    _ => 0,
                };
                let longest = entries.iter().map(target).max().unwrap_or(0);
                limits_check("link target length", longest, limits::PATH_LEN_MAX)
            }
            Body::Pages(pages) => {
                limits_check(
                    "pages of a tree page",
                    pages.len(),
                    limits::TREE_PAGE_ENTRIES_MAX,
                )?;
                if pages.is_empty() || !pages.is_sorted_by(|a, b| a.0 < b.0) {
                    return Err(bad("pages are not sorted by first name"));
                }
                pages.iter().try_for_each(|p| check_file_name(&p.0))
            }
        }
    }
}

fn is_boundary(level: u8, name: &str) -> bool {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&[level]);
    hasher.update(name.as_bytes());
    let first = hasher.finalize().as_bytes()[..4]
        .try_into()
        .map(u32::from_be_bytes);
    first.is_ok_and(|x| x.leading_zeros() >= PAGE_BOUNDARY_BITS)
}

/// Whether a page of `len` items ends after one with this name.
fn ends(level: u8, name: &str, len: usize) -> bool {
    is_boundary(level, name) || len == limits::TREE_PAGE_ENTRIES_MAX
}

/// Stores the encoding of one page and names it.
pub type Put<'a, E> = dyn FnMut(Vec<u8>) -> std::result::Result<ObjectId, E> + 'a;

/// Writes a directory whose entries come one by one in order of name, and each page when it is full:
/// it holds one page, and a name and an id for each page before it.
pub struct Writer<'a, E> {
    put: &'a mut Put<'a, E>,
    page: Vec<Entry>,
    /// The last name of the pages that were written.
    last: Option<String>,
    pages: Vec<Page>,
}

impl<E> std::fmt::Debug for Writer<'_, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer")
            .field("pages", &self.pages.len())
            .finish_non_exhaustive()
    }
}

impl<'a, E: From<Error>> Writer<'a, E> {
    /// Begins an empty directory.
    pub fn new(put: &'a mut Put<'a, E>) -> Self {
        Self {
            put,
            page: Vec::new(),
            last: None,
            pages: Vec::new(),
        }
    }

    /// Whether there is no entry yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.page.is_empty() && self.pages.is_empty()
    }

    /// Adds the next entry.
    ///
    /// # Errors
    /// [`Error::BadObject`] if its name does not come after the last one, those of
    /// [`check_file_name`], and those of `put`.
    pub fn push(&mut self, entry: Entry) -> std::result::Result<(), E> {
        let last = self.page.last().map(|e| &e.name).or(self.last.as_ref());
        if last.is_some_and(|last| *last >= entry.name) {
            let name = crate::error::shorten(&entry.name);
            let what = match last == Some(&entry.name) {
                true => "occurs twice",
                false => "is out of order",
            };
            let reason = format!("`{name}` {what}");
            return Err(Error::BadObject {
                what: Tree::WHAT,
                reason,
            }
            .into());
        }
        let full = ends(0, &entry.name, self.page.len() + 1);
        self.page.push(entry);
        if full { self.end_page() } else { Ok(()) }
    }

    fn end_page(&mut self) -> std::result::Result<(), E> {
        let entries = std::mem::take(&mut self.page);
        let first = entries.first().map_or_else(String::new, |e| e.name.clone());
        self.last = entries.last().map(|e| e.name.clone());
        let page = self.put_page(first, Body::Entries(entries))?;
        self.pages.push(page);
        Ok(())
    }

    fn put_page(&mut self, first: String, body: Body) -> std::result::Result<Page, E> {
        let bytes = canonical::encode(&Tree {
            r#type: TreeTag::Tag,
            body,
        })?;
        Ok(Page(first, TreeId::from_object((self.put)(bytes)?)))
    }

    /// Writes what is left and returns the directory's id.
    ///
    /// # Errors
    /// Those of [`Self::push`]; [`Error::TooLarge`] for more entries than the deepest pages hold.
    pub fn finish(mut self) -> std::result::Result<TreeId, E> {
        if !self.page.is_empty() || self.pages.is_empty() {
            self.end_page()?;
        }
        let mut pages = std::mem::take(&mut self.pages);
        for level in 1..=limits::TREE_PAGE_DEPTH_MAX {
            if let [Page(_, id)] = pages[..] {
                return Ok(id);
            }
            let level = u8::try_from(level).expect("the deepest level fits a byte");
            pages = split(pages, level)
                .into_iter()
                .map(|page| self.put_page(page[0].0.clone(), Body::Pages(page)))
                .collect::<std::result::Result<Vec<_>, E>>()?;
        }
        match pages[..] {
            [Page(_, id)] => Ok(id),
            _ => Err(too_deep().into()),
        }
    }
}

/// Splits a list of pages after each boundary, and where it would grow beyond its limit.
fn split(pages: Vec<Page>, level: u8) -> Vec<Vec<Page>> {
    let mut lists = Vec::new();
    let mut list = Vec::new();
    for page in pages {
        let full = ends(level, &page.0, list.len() + 1);
        list.push(page);
        if full {
            lists.push(std::mem::take(&mut list));
        }
    }
    if !list.is_empty() {
        lists.push(list);
    }
    lists
}

/// Writes a directory and returns its id; `entries` may be in any order.
///
/// # Errors
/// Those of [`Writer`].
pub fn write<E: From<Error>>(
    mut entries: Vec<Entry>,
    put: &mut Put<'_, E>,
) -> std::result::Result<TreeId, E> {
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    let put: &mut Put<'_, E> = &mut |bytes| put(bytes);
    let mut writer = Writer::new(put);
    entries.into_iter().try_for_each(|e| writer.push(e))?;
    writer.finish()
}

/// Reads pages on behalf of the functions below.
pub type Get<'a, E> = dyn FnMut(TreeId) -> std::result::Result<Tree, E> + 'a;

fn too_deep() -> Error {
    let limit = limits::TREE_PAGE_DEPTH_MAX as u64;
    Error::TooLarge {
        what: "depth of tree pages",
        value: limit + 1,
        limit,
    }
}

/// Finds one name in a directory.
///
/// # Errors
/// Those of `get`; [`Error::TooLarge`] for pages nested too deep.
pub fn find<E: From<Error>>(
    root: TreeId,
    name: &str,
    get: &mut Get<'_, E>,
) -> std::result::Result<Option<Node>, E> {
    let mut id = root;
    let mut first: Option<String> = None;
    for _ in 0..=limits::TREE_PAGE_DEPTH_MAX {
        let body = get(id)?.body;
        if let Some(first) = &first {
            begins_with(&body, first)?;
        }
        match body {
            Body::Entries(mut entries) => {
                let found = entries.binary_search_by(|e| e.name.as_str().cmp(name)).ok();
                return Ok(found.map(|i| entries.swap_remove(i).node));
            }
            Body::Pages(pages) => {
                let after = pages.partition_point(|p| p.0.as_str() <= name);
                let Some(page) = after.checked_sub(1).and_then(|i| pages.get(i)) else {
                    return Ok(None);
                };
                id = page.1;
                first = Some(page.0.clone());
            }
        }
    }
    Err(too_deep().into())
}

fn bad_page(reason: &str) -> Error {
    Error::BadObject {
        what: Tree::WHAT,
        reason: reason.to_owned(),
    }
}

/// A walk over the leaf pages of a directory, in order of name.
///
/// Below the root, a page is not empty, begins with the name that the page above gives for it,
/// and begins after the `last` name seen. So every step gets further, and a hostile directory
/// that names one page again and again ends at the second time.
struct Leaves<'a> {
    last: String,
    /// Says which pages are looked into.
    keep: &'a dyn Fn(&TreeId) -> bool,
    visit: &'a mut dyn FnMut(Vec<Entry>),
}

impl Leaves<'_> {
    fn walk<E: From<Error>>(
        &mut self,
        Page(first, id): &Page,
        depth: usize,
        get: &mut Get<'_, E>,
    ) -> std::result::Result<(), E> {
        if depth > limits::TREE_PAGE_DEPTH_MAX {
            return Err(too_deep().into());
        }
        if depth > 0 && *first <= self.last {
            return Err(bad_page("pages are out of order").into());
        }
        if !(self.keep)(id) {
            self.last.clone_from(first);
            return Ok(());
        }
        let body = get(*id)?.body;
        if depth > 0 {
            begins_with(&body, first)?;
        }
        match body {
            Body::Entries(entries) => {
                if let Some(entry) = entries.last() {
                    self.last.clone_from(&entry.name);
                }
                (self.visit)(entries);
                Ok(())
            }
            Body::Pages(pages) => pages
                .iter()
                .try_for_each(|page| self.walk(page, depth + 1, get)),
        }
    }
}

/// Calls `visit` for each leaf page below `root`, looking only into pages that `keep` accepts.
fn leaves<E: From<Error>>(
    root: TreeId,
    get: &mut Get<'_, E>,
    keep: &dyn Fn(&TreeId) -> bool,
    visit: &mut dyn FnMut(Vec<Entry>),
) -> std::result::Result<(), E> {
    let last = String::new();
    let root = Page(String::new(), root);
    Leaves { last, keep, visit }.walk(&root, 0, get)
}

/// Checks that a page below the root begins as the page above says.
fn begins_with(body: &Body, name: &str) -> Result<()> {
    let first = match body {
        Body::Entries(entries) => entries.first().map(|e| &e.name),
        Body::Pages(pages) => pages.first().map(|p| &p.0),
    };
    if first.is_some_and(|first| first == name) {
        Ok(())
    } else {
        Err(bad_page(
            "a page does not begin with the name it is listed under",
        ))
    }
}

/// All entries of a directory, in order of name.
///
/// # Errors
/// Those of `get`; [`Error::TooLarge`] for pages nested too deep; [`Error::BadObject`] if pages
/// are out of order.
pub fn entries<E: From<Error>>(
    root: TreeId,
    get: &mut Get<'_, E>,
) -> std::result::Result<Vec<Entry>, E> {
    let mut all: Vec<Entry> = Vec::new();
    leaves(root, get, &|_| true, &mut |page| all.extend(page))?;
    Ok(all)
}

/// What happened to a name between two directories.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Only in the new one.
    Added(Entry),
    /// Only in the old one.
    Removed(Entry),
    /// In both, with another node: old, new.
    Changed(Entry, Entry),
}

/// Compares two directories (not what lies below them), reading only pages that differ.
///
/// # Errors
/// As [`entries`].
pub fn diff<E: From<Error>>(
    old: TreeId,
    new: TreeId,
    get: &mut Get<'_, E>,
) -> std::result::Result<Vec<Change>, E> {
    if old == new {
        return Ok(Vec::new());
    }
    let mut ids = HashSet::from([old]);
    pages_of(old, 0, get, &mut ids)?;
    let (mut common, mut after) = (HashSet::new(), Vec::new());
    let mut of_new = HashSet::from([new]);
    pages_of(new, 0, get, &mut of_new)?;
    common.extend(ids.intersection(&of_new).copied());
    let keep = |id: &TreeId| !common.contains(id);
    let mut before = Vec::new();
    leaves(old, get, &keep, &mut |page| before.extend(page))?;
    leaves(new, get, &keep, &mut |page| after.extend(page))?;
    Ok(merge(before, after))
}

/// Collects the ids of all pages of a directory that are reached through page lists; leaf pages
/// are named, not read, and each page is visited once.
fn pages_of<E: From<Error>>(
    id: TreeId,
    depth: usize,
    get: &mut Get<'_, E>,
    ids: &mut HashSet<TreeId>,
) -> std::result::Result<(), E> {
    if depth > limits::TREE_PAGE_DEPTH_MAX {
        return Err(too_deep().into());
    }
    let Body::Pages(pages) = get(id)?.body else {
        return Ok(());
    };
    let deeper = match pages.first() {
        Some(Page(_, first)) => matches!(get(*first)?.body, Body::Pages(_)),
        None => false,
    };
    for Page(_, page) in pages {
        if ids.insert(page) && deeper {
            pages_of(page, depth + 1, get, ids)?;
        }
    }
    Ok(())
}

fn merge(before: Vec<Entry>, after: Vec<Entry>) -> Vec<Change> {
    let mut changes = Vec::new();
    let (mut old, mut new) = (before.into_iter().peekable(), after.into_iter().peekable());
    loop {
        let order = match (old.peek(), new.peek()) {
            (None, None) => return changes,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(a), Some(b)) => a.name.cmp(&b.name),
        };
        let a = if order.is_le() { old.next() } else { None };
        let b = if order.is_ge() { new.next() } else { None };
        match (a, b) {
            (Some(a), Some(b)) if a.node != b.node => changes.push(Change::Changed(a, b)),
            (Some(a), None) => changes.push(Change::Removed(a)),
            (None, Some(b)) => changes.push(Change::Added(b)),
            _ => {}
        }
    }
}
