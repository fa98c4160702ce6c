//! Changing a tree: only the directories on the way to a change are read and written.

use std::borrow::Cow;

use mmh_core::TreeId;
use mmh_core::tree::{self, Entry, Node};
use mmh_store::{ChunkSink, ChunkSource};

use crate::error::{Error, Result};
use crate::objects;
use crate::recycle::Encoders;

/// What happens to one path.
#[derive(Debug, Clone)]
pub(crate) enum Edit {
    /// Put this there, replacing what was there.
    Put(Node),
    /// Make sure that a directory is there.
    MakeDir,
    /// Take away whatever is there.
    Remove,
}

/// Where trees are read from and written to.
#[derive(Clone, Copy)]
pub(crate) struct Editor<'a> {
    pub(crate) source: &'a dyn ChunkSource,
    pub(crate) sink: &'a dyn ChunkSink,
    pub(crate) encoders: &'a Encoders,
}

/// Edits by path, each path once, in the order of a tree: a folder, what is in it, and then names that
/// only begin like it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Edits<'a>(Vec<One<'a>>);

type One<'a> = (Cow<'a, str>, Edit);

/// Of several edits of one path the last one counts.
impl<'a> FromIterator<One<'a>> for Edits<'a> {
    fn from_iter<I: IntoIterator<Item = One<'a>>>(edits: I) -> Self {
        let edits = edits.into_iter();
        // Doubling what does not fit would cost more than what is too much at first.
        let mut all: Vec<One<'a>> = Vec::with_capacity(edits.size_hint().1.unwrap_or(0));
        all.extend(edits);
        let order = |a: &str, b: &str| a.split('/').cmp(b.split('/'));
        // Sorting takes memory for half of them, even where there is nothing to do.
        if !all.is_sorted_by(|(a, _), (b, _)| order(a, b).is_le()) {
            all.sort_by(|(a, _), (b, _)| order(a, b));
        }
        all.dedup_by(|later, kept| {
            let same = later.0 == kept.0;
            if same {
                std::mem::swap(later, kept);
            }
            same
        });
        Self(all)
    }
}

/// What happens at one name of a directory, and inside it.
#[derive(Clone, Copy)]
struct At<'a> {
    name: &'a str,
    here: Option<&'a Edit>,
    inside: &'a [One<'a>],
}

impl<'a> At<'a> {
    /// The first name of the edits, whose paths count from `skip` on, and how many they are.
    fn first(edits: &'a [One<'a>], skip: usize) -> Option<(Self, usize)> {
        let (path, edit) = edits.first()?;
        let path = &path[skip..];
        let name = path.split_once('/').map_or(path, |(name, _)| name);
        let here = (name.len() == path.len()).then_some(edit);
        let inside = &edits[usize::from(here.is_some())..];
        let is_inside = |(path, _): &&One<'_>| {
            let rest = path[skip..].strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with('/'))
        };
        let n_inside = inside.iter().take_while(is_inside).count();
        let taken = n_inside + usize::from(here.is_some());
        let inside = &inside[..n_inside];
        Some((Self { name, here, inside }, taken))
    }
}

impl Editor<'_> {
    /// Applies edits to a tree; `None` is the empty tree.
    ///
    /// # Errors
    /// `NotFound` for a removal of what is not there; `Invalid` when a file and something inside
    /// it are both put.
    pub(crate) fn apply(&self, root: Option<TreeId>, edits: &Edits<'_>) -> Result<TreeId> {
        Ok(self.directory(root, &edits.0, 0)?.0)
    }

    /// Edits of what a directory has at `skip` in their paths; says also whether it is empty now.
    /// Entries are written as they come, for there may be millions.
    fn directory(
        &self,
        root: Option<TreeId>,
        mut edits: &[One<'_>],
        skip: usize,
    ) -> Result<(TreeId, bool)> {
        let old = root
            .map(|id| objects::entries(self.source, id))
            .transpose()?;
        let mut old = old.unwrap_or_default().into_iter().peekable();
        let mut put = |bytes: Vec<u8>| objects::put(self.sink, self.encoders, &bytes);
        let mut new = tree::Writer::new(&mut put);
        while let Some((at, taken)) = At::first(edits, skip) {
            while let Some(entry) = old.next_if(|old| old.name.as_str() < at.name) {
                new.push(entry)?;
            }
            let before = old.next_if(|old| old.name == at.name).map(|old| old.node);
            if let Some(node) = self.node(before, at, skip)? {
                let name = at.name.to_owned();
                new.push(Entry { name, node })?;
            }
            edits = &edits[taken..];
        }
        old.try_for_each(|entry| new.push(entry))?;
        let empty = new.is_empty();
        Ok((new.finish()?, empty))
    }

    /// What a name stands for after the edits, if it is still there.
    fn node(&self, before: Option<Node>, at: At<'_>, skip: usize) -> Result<Option<Node>> {
        let At { name, here, inside } = at;
        match here {
            Some(Edit::Put(_) | Edit::Remove) if !inside.is_empty() => {
                return Err(Error::Invalid(format!(
                    "`{name}` cannot be a file and a folder"
                )));
            }
            Some(Edit::Put(node)) => return Ok(Some(node.clone())),
            Some(Edit::Remove) => {
                let removed = before.map(|_| None);
                return removed.ok_or_else(|| Error::not_found("path", name));
            }
            Some(Edit::MakeDir) | None => {}
        }
        let old = match before {
            Some(Node::Dir { id }) => Some(id),
            _ => None,
        };
        let shrinks = inside.iter().all(|(_, edit)| matches!(edit, Edit::Remove));
        let keep_empty = here.is_some() || !shrinks;
        if old.is_none() && !keep_empty {
            return Err(Error::not_found("path", name));
        }
        let (id, empty) = self.directory(old, inside, skip + name.len() + 1)?;
        Ok((!empty || keep_empty).then_some(Node::Dir { id }))
    }
}

#[cfg(test)]
mod tests;
