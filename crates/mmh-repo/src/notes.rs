//! What doors remember of a name: a tree of small records behind a ref of its own, `NAME@notes/DOOR`.
//!
//! A note is a snapshot without parents, so it is collected, verified, moved and removed with the
//! name like all else; and a file that it names is kept for as long. It is this repository's own:
//! it is not sent to others, and undoing passes over it.

use std::collections::BTreeMap;

use mmh_core::name::{RefName, RepoName};
use mmh_core::object::RefChange;
use mmh_core::tree::Node;
use mmh_core::{ByteRange, SnapshotId, TreeId};
use mmh_store::Writer;

use crate::edit::Edit;
use crate::error::{Error, Result};
use crate::list::Listed;
use crate::objects;
use crate::repository::Repository;

/// How often a change begins again because another one was faster.
const RACES_MAX: usize = 16;
/// Longest record of a note, in bytes.
const RECORD_LEN_MAX: u64 = 16 << 20;

/// A state of a note.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Note {
    /// Names it.
    pub id: SnapshotId,
    tree: TreeId,
}

/// A note that is being changed.
pub struct NoteEditor<'a> {
    repo: &'a Repository,
    writer: &'a Writer,
    before: Option<Note>,
    edits: BTreeMap<String, Edit>,
}

impl std::fmt::Debug for NoteEditor<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NoteEditor")
            .field("before", &self.before)
            .finish_non_exhaustive()
    }
}

impl Repository {
    /// What a door remembers of a name; `None` if nothing.
    ///
    /// # Errors
    /// `Invalid` for what names no door; those of reading.
    pub fn note(&self, repo: &RepoName, door: &str) -> Result<Option<Note>> {
        let name = RefName::note(repo.clone(), door)?;
        self.note_at(self.refs()?.refs.get(&name).copied())
    }

    fn note_at(&self, id: Option<SnapshotId>) -> Result<Option<Note>> {
        let Some(id) = id else {
            return Ok(None);
        };
        let tree = objects::snapshot(self.source(), id)?.tree;
        Ok(Some(Note { id, tree }))
    }

    /// What a path of a note is.
    ///
    /// # Errors
    /// Those of reading.
    pub fn note_node(&self, note: &Note, path: &str) -> Result<Option<Node>> {
        objects::find(self.source(), note.tree, path)
    }

    /// A record of a note.
    ///
    /// # Errors
    /// `Corrupt` if it is longer than any; those of reading.
    pub fn note_record(&self, note: &Note, path: &str) -> Result<Option<Vec<u8>>> {
        self.record_of(self.note_node(note, path)?)
    }

    /// Everything below a folder of a note, with whole paths; nothing if it is not there.
    ///
    /// # Errors
    /// Those of reading; `Unsupported` for too much.
    pub fn note_list(&self, note: &Note, folder: &str) -> Result<Vec<Listed>> {
        let mut all = Vec::new();
        if let Some(Node::Dir { id }) = self.note_node(note, folder)? {
            self.list_below(id, &format!("{folder}/"), true, &mut all)?;
        }
        all.retain(|listed| !matches!(listed.node, Node::Dir { .. }));
        Ok(all)
    }

    fn record_of(&self, node: Option<Node>) -> Result<Option<Vec<u8>>> {
        let Some(Node::File { id, size, .. }) = node else {
            return Ok(None);
        };
        if size > RECORD_LEN_MAX {
            return Err(Error::Corrupt(format!("a note's record has {size} bytes")));
        }
        let reader = self.open_file(id)?;
        reader.check_size(size)?;
        let mut bytes = Vec::new();
        self.read_range(&reader, ByteRange::all(size), &mut |piece| {
            bytes.extend_from_slice(&piece);
            Ok(())
        })?;
        Ok(Some(bytes))
    }

    /// Changes what a door remembers of a name, in one transaction; says whether anything changed.
    /// `change` is called again, with the newer state, if another change was faster.
    ///
    /// # Errors
    /// `NotFound` if the name has no branch or tag; those of `change`; `Conflict` if others are
    /// faster each time.
    pub fn edit_note(
        &self,
        repo: &RepoName,
        door: &str,
        change: &dyn Fn(&mut NoteEditor<'_>) -> Result<()>,
    ) -> Result<bool> {
        let name = RefName::note(repo.clone(), door)?;
        self.again_if_collected(|| {
            let writer = self.block_on(self.store()?.writer(self.runtime()))?;
            for attempt in 0.. {
                if self.tips(repo)?.is_empty() {
                    return Err(Error::not_found("name", repo.short()));
                }
                let old = self.refs()?.refs.get(&name).copied();
                let mut editor = NoteEditor {
                    repo: self,
                    writer: &writer,
                    before: self.note_at(old)?,
                    edits: BTreeMap::new(),
                };
                change(&mut editor)?;
                let Some(new) = editor.finish(&name)? else {
                    writer.finish()?;
                    return Ok(false);
                };
                let change = RefChange {
                    r#ref: name.clone(),
                    old,
                    new: Some(new),
                };
                let command = format!("note {} {door}", repo.short());
                match writer.commit(self.commit(vec![change], &command)) {
                    Ok(_) => {
                        writer.finish()?;
                        return Ok(true);
                    }
                    Err(mmh_store::Error::RefConflict { .. }) if attempt < RACES_MAX => {}
                    Err(e) => return Err(e.into()),
                }
            }
            unreachable!("the loop ends by returning")
        })
    }
}

impl NoteEditor<'_> {
    /// What a path is, with what was changed so far.
    ///
    /// # Errors
    /// Those of reading.
    pub fn node(&self, path: &str) -> Result<Option<Node>> {
        match (self.edits.get(path), &self.before) {
            (Some(Edit::Put(node)), _) => Ok(Some(node.clone())),
            (Some(_), _) | (None, None) => Ok(None),
            (None, Some(note)) => self.repo.note_node(note, path),
        }
    }

    /// A record, with what was changed so far.
    ///
    /// # Errors
    /// As [`Repository::note_record`].
    pub fn record(&self, path: &str) -> Result<Option<Vec<u8>>> {
        self.repo.record_of(self.node(path)?)
    }

    /// Everything below a folder, as it was before the change.
    ///
    /// # Errors
    /// As [`Repository::note_list`].
    pub fn list(&self, folder: &str) -> Result<Vec<Listed>> {
        match &self.before {
            Some(note) => self.repo.note_list(note, folder),
            None => Ok(Vec::new()),
        }
    }

    /// Puts a node there: a file that is to be kept, or a link, whose target is a short text.
    pub fn put(&mut self, path: String, node: Node) {
        self.edits.insert(path, Edit::Put(node));
    }

    /// Writes a record there, and stores it at once, so that many take no memory.
    ///
    /// # Errors
    /// `Invalid` if it is too long; those of storing.
    pub fn write(&mut self, path: String, bytes: Vec<u8>) -> Result<()> {
        if bytes.len() as u64 > RECORD_LEN_MAX {
            let text = format!("a record has at most {RECORD_LEN_MAX} bytes");
            return Err(Error::Invalid(text));
        }
        let file = self.repo.shop.ingest_bytes(self.writer, bytes)?;
        let (id, size, executable) = (file.id, file.size, false);
        let node = Node::File {
            id,
            size,
            executable,
        };
        self.put(path, node);
        Ok(())
    }

    /// Takes away what is there, if anything.
    ///
    /// # Errors
    /// Those of reading.
    pub fn remove(&mut self, path: String) -> Result<()> {
        let was = match &self.before {
            Some(note) => self.repo.note_node(note, &path)?,
            None => None,
        };
        match was {
            Some(_) => self.edits.insert(path, Edit::Remove),
            None => self.edits.remove(&path),
        };
        Ok(())
    }

    /// The snapshot of what came of it; `None` if that is what it was.
    fn finish(self, name: &RefName) -> Result<Option<SnapshotId>> {
        let tree = self.before.map(|note| note.tree);
        if self.edits.is_empty() {
            return Ok(None);
        }
        let edits = self.edits.into_iter();
        let edits = edits.map(|(path, edit)| (path.into(), edit));
        let new = self.repo.edit_tree(self.writer, tree, &edits.collect())?;
        if Some(new) == tree {
            return Ok(None);
        }
        let said = (&*format!("note {}", name.rev()), None);
        let shop = &self.repo.shop;
        let snapshot = shop.write_snapshot(self.writer, new, Vec::new(), said)?;
        Ok(Some(snapshot))
    }
}
