//! Listing and comparing: what is in a tree, and what differs between two.

use mmh_core::limits;
use mmh_core::name::Target;
use mmh_core::tree::{self, Change, Entry, Node};
use mmh_core::{ByteRange, FileId, TreeId};
use serde::Serialize;

use crate::error::{Error, Result};
use crate::objects;
use crate::refs::Resolved;
use crate::repository::Repository;

/// Most paths of one listing. A hostile repository can name few folders so often, each
/// inside the other, that their paths outnumber any memory.
pub const LISTED_MAX: usize = 1 << 24;

/// A path of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its path, relative to where the listing began.
    pub path: String,
    /// What it is.
    pub node: Node,
}

/// A path that differs between two trees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "change", rename_all = "lowercase")]
pub enum Difference {
    /// Only in the new tree.
    Added {
        /// Where.
        path: String,
        /// Bytes now.
        size: u64,
    },
    /// Only in the old tree.
    Removed {
        /// Where.
        path: String,
        /// Bytes before.
        size: u64,
    },
    /// In both with other content.
    Changed {
        /// Where.
        path: String,
        /// Bytes before.
        old_size: u64,
        /// Bytes now.
        new_size: u64,
    },
}

impl Difference {
    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &str {
        match self {
            Self::Added { path, .. } | Self::Removed { path, .. } | Self::Changed { path, .. } => {
                path
            }
        }
    }
}

impl Repository {
    /// What a target names: the entries of a directory (all below it with `recursive`), or the
    /// file itself.
    ///
    /// # Errors
    /// `NotFound`; those of reading.
    pub fn list(&self, target: &Target, recursive: bool) -> Result<Vec<Listed>> {
        let mut all = Vec::new();
        match self.node(target)? {
            Node::Dir { id } => self.list_below(id, "", recursive, &mut all)?,
            node => {
                let path = target.path.clone().unwrap_or_default();
                all.push(Listed { path, node });
            }
        }
        Ok(all)
    }

    /// The entries of one folder, in order of name.
    ///
    /// # Errors
    /// `NotFound`, `Corrupt`.
    pub fn entries(&self, tree: TreeId) -> Result<Vec<Entry>> {
        objects::entries(self.source(), tree)
    }

    /// How many bytes a file takes less here than in a folder, for its share of the chunks that it
    /// is made of; less than nothing if it takes more. What files share is counted for each.
    ///
    /// # Errors
    /// `NotFound`, `Corrupt`.
    pub fn saved(&self, id: FileId) -> Result<i64> {
        let reader = self.open_file(id)?;
        let mut stored = 0u64;
        reader.for_each_slice(ByteRange::all(reader.size()), &mut |slice| {
            let found = self.source().locate(slice.id())?;
            let found = found.ok_or_else(|| Error::not_found("chunk", &slice.id().to_string()))?;
            let (share, whole) = (u64::from(slice.len()), u64::from(found.raw_len.max(1)));
            stored += u64::from(found.stored_len) * share / whole;
            Ok(())
        })?;
        let len = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        Ok(len(reader.size()) - len(stored))
    }

    /// The entries of a directory of a snapshot, or all below it, with their whole paths; `None` if
    /// the path is no directory.
    ///
    /// # Errors
    /// Those of reading.
    pub fn list_in(
        &self,
        found: &Resolved,
        path: &str,
        recursive: bool,
    ) -> Result<Option<Vec<Listed>>> {
        let Some(Node::Dir { id }) = self.node_in(found, path)? else {
            return Ok(None);
        };
        let prefix = match path {
            "" => String::new(),
            path => format!("{path}/"),
        };
        let mut all = Vec::new();
        self.list_below(id, &prefix, recursive, &mut all)?;
        Ok(Some(all))
    }

    pub(crate) fn list_below(
        &self,
        tree: TreeId,
        prefix: &str,
        recursive: bool,
        all: &mut Vec<Listed>,
    ) -> Result<()> {
        self.each_below((tree, prefix), recursive, &mut |listed| {
            check_count(all.len())?;
            all.push(listed);
            Ok(())
        })
    }

    /// Visits what is in a tree, each folder before what is in it. There may be millions.
    pub(crate) fn each_below(
        &self,
        (tree, prefix): (TreeId, &str),
        recursive: bool,
        visit: &mut dyn FnMut(Listed) -> Result<()>,
    ) -> Result<()> {
        self.shop.components.cancel.check()?;
        check_depth(tree, prefix)?;
        for Entry { name, node } in objects::entries(self.source(), tree)? {
            let path = format!("{prefix}{name}");
            let below = match node {
                Node::Dir { id } if recursive => Some((id, format!("{path}/"))),
                _ => None,
            };
            visit(Listed { path, node })?;
            if let Some((id, prefix)) = below {
                self.each_below((id, &prefix), recursive, visit)?;
            }
        }
        Ok(())
    }

    /// What differs between two targets, in order of path.
    ///
    /// # Errors
    /// `NotFound`; those of reading.
    pub fn diff(&self, old: &Target, new: &Target) -> Result<Vec<Difference>> {
        let mut all = Vec::new();
        match (self.node(old)?, self.node(new)?) {
            (Node::Dir { id: a }, Node::Dir { id: b }) => self.diff_trees(a, b, "", &mut all)?,
            (a, b) if a == b => {}
            (a, b) => {
                let path = new.path.clone().unwrap_or_default();
                let (old_size, new_size) = (self.size(&a)?, self.size(&b)?);
                all.push(Difference::Changed {
                    path,
                    old_size,
                    new_size,
                });
            }
        }
        Ok(all)
    }

    /// What differs between two trees, in order of path; between nothing and a tree without an old one.
    ///
    /// # Errors
    /// Those of reading.
    pub fn diff_of(&self, old: Option<TreeId>, new: TreeId) -> Result<Vec<Difference>> {
        let mut all = Vec::new();
        let Some(old) = old else {
            for entry in objects::entries(self.source(), new)? {
                self.one_side(&entry, "", true, &mut all)?;
            }
            return Ok(all);
        };
        self.diff_trees(old, new, "", &mut all)?;
        Ok(all)
    }

    fn diff_trees(
        &self,
        old: TreeId,
        new: TreeId,
        prefix: &str,
        all: &mut Vec<Difference>,
    ) -> Result<()> {
        self.shop.components.cancel.check()?;
        check_depth(old, prefix)?;
        check_count(all.len())?;
        let mut get = |id| objects::tree_page(self.source(), id);
        for change in tree::diff(old, new, &mut get)? {
            match change {
                Change::Added(e) => self.one_side(&e, prefix, true, all)?,
                Change::Removed(e) => self.one_side(&e, prefix, false, all)?,
                Change::Changed(a, b) => match (&a.node, &b.node) {
                    (Node::Dir { id: x }, Node::Dir { id: y }) => {
                        self.diff_trees(*x, *y, &format!("{prefix}{}/", a.name), all)?;
                    }
                    (Node::Dir { .. }, _) | (_, Node::Dir { .. }) => {
                        self.one_side(&a, prefix, false, all)?;
                        self.one_side(&b, prefix, true, all)?;
                    }
                    (x, y) => {
                        let path = format!("{prefix}{}", a.name);
                        let (old_size, new_size) = (self.size(x)?, self.size(y)?);
                        all.push(Difference::Changed {
                            path,
                            old_size,
                            new_size,
                        });
                    }
                },
            }
        }
        Ok(())
    }

    /// Everything at or below an entry was added or removed.
    fn one_side(
        &self,
        entry: &Entry,
        prefix: &str,
        added: bool,
        all: &mut Vec<Difference>,
    ) -> Result<()> {
        let path = format!("{prefix}{}", entry.name);
        let mut below = Vec::new();
        match entry.node {
            Node::Dir { id } => self.list_below(id, &format!("{path}/"), true, &mut below)?,
            _ => below.push(Listed {
                path,
                node: entry.node.clone(),
            }),
        }
        for Listed { path, node } in below {
            if !matches!(node, Node::Dir { .. }) {
                let size = self.size(&node)?;
                all.push(if added {
                    Difference::Added { path, size }
                } else {
                    Difference::Removed { path, size }
                });
            }
        }
        Ok(())
    }

    fn size(&self, node: &Node) -> Result<u64> {
        Ok(match node {
            Node::File { size, .. } => *size,
            Node::Link { target } => target.len() as u64,
            Node::Dir { id } => {
                let mut below = Vec::new();
                self.list_below(*id, "", true, &mut below)?;
                let size = |l: &Listed| match l.node {
                    Node::File { size, .. } => size,
                    _ => 0,
                };
                below.iter().map(size).sum()
            }
        })
    }
}

/// Checks that a folder, whose path is `prefix`, is not nested too deep.
fn check_depth(tree: TreeId, prefix: &str) -> Result<()> {
    if prefix.split('/').count() > limits::TREE_DEPTH_MAX + 1 {
        return Err(Error::Corrupt(format!("tree {tree} is nested too deep")));
    }
    Ok(())
}

fn check_count(listed: usize) -> Result<()> {
    if listed >= LISTED_MAX {
        return Err(Error::Unsupported(format!(
            "more than {LISTED_MAX} paths in one listing; name a folder below"
        )));
    }
    Ok(())
}
