//! Changing a tree: only the directories on the way to a change are read and written.

use std::collections::BTreeMap;

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

#[derive(Debug, Default)]
struct Below {
    here: Option<Edit>,
    inside: BTreeMap<String, Edit>,
}

impl Editor<'_> {
    /// Applies edits (by path) to a tree; `None` is the empty tree.
    ///
    /// # Errors
    /// `NotFound` for a removal of what is not there; `Invalid` when a file and something inside
    /// it are both put.
    pub(crate) fn apply(
        &self,
        root: Option<TreeId>,
        edits: BTreeMap<String, Edit>,
    ) -> Result<TreeId> {
        Ok(self.directory(root, edits)?.0)
    }

    /// As [`Self::apply`]; says also whether the directory is empty now.
    fn directory(
        &self,
        root: Option<TreeId>,
        edits: BTreeMap<String, Edit>,
    ) -> Result<(TreeId, bool)> {
        let mut entries: BTreeMap<String, Node> = match root {
            Some(id) => {
                let list = objects::entries(self.source, id)?;
                list.into_iter().map(|e| (e.name, e.node)).collect()
            }
            None => BTreeMap::new(),
        };
        // Directories first, so that a file, of which there may be millions, takes no place among them.
        let mut children: BTreeMap<String, Below> = BTreeMap::new();
        for name in edits.keys().filter_map(|path| path.split_once('/')) {
            if !children.contains_key(name.0) {
                children.insert(name.0.to_owned(), Below::default());
            }
        }
        for (path, edit) in edits {
            if let Some((name, rest)) = path.split_once('/') {
                let below = children.entry(name.to_owned()).or_default();
                below.inside.insert(rest.to_owned(), edit);
            } else if let Some(below) = children.get_mut(&path) {
                below.here = Some(edit);
            } else {
                let (here, inside) = (Some(edit), BTreeMap::new());
                self.child(&mut entries, path, Below { here, inside })?;
            }
        }
        for (name, below) in children {
            self.child(&mut entries, name, below)?;
        }
        let empty = entries.is_empty();
        Ok((self.write(entries)?, empty))
    }

    fn child(
        &self,
        entries: &mut BTreeMap<String, Node>,
        name: String,
        below: Below,
    ) -> Result<()> {
        match below.here {
            Some(Edit::Put(_) | Edit::Remove) if !below.inside.is_empty() => {
                return Err(Error::Invalid(format!(
                    "`{name}` cannot be a file and a folder"
                )));
            }
            Some(Edit::Put(node)) => {
                entries.insert(name, node);
                return Ok(());
            }
            Some(Edit::Remove) => {
                let removed = entries.remove(&name);
                return removed
                    .map(drop)
                    .ok_or_else(|| Error::not_found("path", &name));
            }
            Some(Edit::MakeDir) | None => {}
        }
        let old = match entries.get(&name) {
            Some(Node::Dir { id }) => Some(*id),
            _ => None,
        };
        let shrinks = below.inside.values().all(|e| matches!(e, Edit::Remove));
        let keep_empty = below.here.is_some() || !shrinks;
        if old.is_none() && !keep_empty {
            return Err(Error::not_found("path", &name));
        }
        let (id, empty) = self.directory(old, below.inside)?;
        if empty && !keep_empty {
            entries.remove(&name);
        } else {
            entries.insert(name, Node::Dir { id });
        }
        Ok(())
    }

    fn write(&self, entries: BTreeMap<String, Node>) -> Result<TreeId> {
        let list = entries
            .into_iter()
            .map(|(name, node)| Entry { name, node })
            .collect();
        tree::write(list, &mut |bytes| {
            objects::put(self.sink, self.encoders, &bytes)
        })
    }
}

#[cfg(test)]
mod tests;
