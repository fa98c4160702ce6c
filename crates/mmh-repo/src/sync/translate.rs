//! Between repositories with different keys, or one with and one without: ids are made with the
//! keys, so every chunk, and every object that names others, gets another one.
//!
//! Chunks are decoded, because their ids are made of their bytes, but never coded again: the frame
//! goes over as it is, with the ids of what it refers to replaced. Objects are written anew. The
//! result depends on nothing but content and keys: whoever does it gets the same ids.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use mmh_codec::References;
use mmh_core::canonical::Canonical;
use mmh_core::object::{ChunkRef, File, PageRef, SegmentPage, Segments, Snapshot};
use mmh_core::tree::{Body, Node, Page, Tree};
use mmh_core::{ChunkId, Digest, FileId, ObjectId, SnapshotId, TreeId, limits};
use mmh_store::{ChunkSink, Reader, Store, Writer};
use rayon::prelude::*;

use super::past::{Known, is_damage};
use super::{Result, Sent};
use crate::error::Error;
use crate::objects;
use crate::repository::Repository;

/// Names what one repository holds with the keys of another, and puts what is missing there.
pub(super) struct Translator<'a> {
    source: &'a Repository,
    dest: &'a Repository,
    reader: Reader,
    sink: Counted,
    /// What was named, by its old name; nothing for what cannot be had.
    chunks: Mutex<HashMap<ChunkId, Option<ChunkId>>>,
    objects: HashMap<ObjectId, Option<ObjectId>>,
    snapshots: HashMap<SnapshotId, Known>,
    lost: Mutex<BTreeMap<ChunkId, String>>,
}

impl<'a> Translator<'a> {
    /// Puts by way of `writer`, or only counts without one.
    pub(super) fn new(
        source: &'a Repository,
        dest: &'a Repository,
        writer: Option<Arc<Writer>>,
    ) -> Result<Self> {
        // Who has a read key may carry, and not make anything new.
        dest.store()?.chunker_key()?;
        let runtime = source.shop.components.runtime.clone();
        Ok(Self {
            source,
            dest,
            reader: source.store()?.reader(runtime.clone()),
            sink: Counted {
                ids: dest.store()?.reader(runtime.clone()),
                store: dest.store()?.clone(),
                runtime,
                writer,
                new: Mutex::default(),
                chunks: AtomicU64::new(0),
                bytes: AtomicU64::new(0),
            },
            chunks: Mutex::default(),
            objects: HashMap::new(),
            snapshots: HashMap::new(),
            lost: Mutex::default(),
        })
    }

    /// Snapshots that were named, by their new names.
    pub(super) fn snapshots(&self) -> impl Iterator<Item = (SnapshotId, Known)> {
        self.snapshots
            .iter()
            .map(|(id, known)| (*id, known.clone()))
    }

    pub(super) fn sent(self) -> Sent {
        Sent {
            chunks: self.sink.chunks.into_inner(),
            bytes: self.sink.bytes.into_inner(),
            lost: self.lost.into_inner().unwrap_or_default(),
            ..Sent::default()
        }
    }

    /// Names a snapshot and all it came from, oldest first. `None` if it is not whole here. History
    /// beyond snapshots whose files were given up is left out: their trees have no new names.
    pub(super) fn history(&mut self, tip: SnapshotId) -> Result<Option<SnapshotId>> {
        let mut pruned = self.source.pruned()?;
        for tip in self.source.refs()?.refs.values() {
            pruned.remove(tip);
        }
        let mut open = vec![tip];
        while let Some(&id) = open.last() {
            if self.objects.contains_key(&id.object()) {
                open.pop();
                continue;
            }
            self.source.shop.components.cancel.check()?;
            let Some(snapshot) = self.read::<Snapshot>(id.object())? else {
                open.pop();
                continue;
            };
            let parents = snapshot.parents.iter().filter(|id| !pruned.contains(id));
            let parents: Vec<SnapshotId> = parents.copied().collect();
            let unnamed = parents
                .iter()
                .filter(|id| !self.objects.contains_key(&id.object()));
            let before = open.len();
            open.extend(unnamed);
            if open.len() > before {
                continue;
            }
            open.pop();
            self.snapshot(id, snapshot, &parents)?;
        }
        let named = self.objects.get(&tip.object()).copied().flatten();
        Ok(named.map(SnapshotId::from_object))
    }

    fn snapshot(
        &mut self,
        id: SnapshotId,
        snapshot: Snapshot,
        parents: &[SnapshotId],
    ) -> Result<()> {
        let mut whole = true;
        let mut new_parents = Vec::new();
        for parent in parents {
            match self.objects.get(&parent.object()).copied().flatten() {
                Some(new) => new_parents.push(SnapshotId::from_object(new)),
                None => whole = false,
            }
        }
        let tree = self.tree(snapshot.tree, 0)?;
        let (Some(tree), true) = (tree, whole) else {
            self.objects.insert(id.object(), None);
            return Ok(());
        };
        let snapshot = Snapshot {
            tree,
            parents: new_parents,
            ..snapshot
        };
        let new = self.write(id.object(), &snapshot)?;
        let known = Known::from(snapshot);
        self.snapshots.insert(SnapshotId::from_object(new), known);
        Ok(())
    }

    /// Reads an object; takes note if it cannot be read.
    fn read<T: Canonical>(&mut self, id: ObjectId) -> Result<Option<T>> {
        match objects::read(self.source.source(), id) {
            Ok(value) => Ok(Some(value)),
            Err(error) if is_damage(&error) => {
                self.lose(id.chunk(), error.to_string());
                self.objects.insert(id, None);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Writes the object that takes the place of another.
    fn write<T: Canonical>(&mut self, old: ObjectId, value: &T) -> Result<ObjectId> {
        let new = objects::write(&self.sink, &self.dest.shop.encoders, value)?;
        self.objects.insert(old, Some(new));
        Ok(new)
    }

    fn lose(&self, id: ChunkId, reason: String) {
        let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        lost.insert(id, reason);
    }

    /// Names a page of a folder and everything below. `None` if something there is not whole.
    fn tree(&mut self, page: TreeId, depth: usize) -> Result<Option<TreeId>> {
        if let Some(known) = self.objects.get(&page.object()) {
            return Ok(known.map(TreeId::from_object));
        }
        self.source.shop.components.cancel.check()?;
        let deepest = limits::TREE_DEPTH_MAX * (limits::TREE_PAGE_DEPTH_MAX + 1);
        if depth > deepest {
            self.lose(
                page.object().chunk(),
                format!("tree {page} is nested too deep"),
            );
            return Ok(None);
        }
        let Some(mut tree) = self.read::<Tree>(page.object())? else {
            return Ok(None);
        };
        let mut whole = true;
        match &mut tree.body {
            Body::Pages(pages) => {
                for Page(_, id) in pages {
                    match self.tree(*id, depth + 1)? {
                        Some(new) => *id = new,
                        None => whole = false,
                    }
                }
            }
            Body::Entries(entries) => {
                for entry in entries {
                    let named = match &mut entry.node {
                        Node::Dir { id } => self.tree(*id, depth + 1)?.map(|new| *id = new),
                        Node::File { id, .. } => self.file(*id)?.map(|new| *id = new),
                        Node::Link { .. } => Some(()),
                    };
                    whole &= named.is_some();
                }
            }
        }
        if !whole {
            self.objects.insert(page.object(), None);
            return Ok(None);
        }
        Ok(Some(TreeId::from_object(self.write(page.object(), &tree)?)))
    }

    fn file(&mut self, id: FileId) -> Result<Option<FileId>> {
        if let Some(known) = self.objects.get(&id.object()) {
            return Ok(known.map(FileId::from_object));
        }
        let Some(mut file) = self.read::<File>(id.object())? else {
            return Ok(None);
        };
        let whole = match &mut file.segments {
            Segments::Inline(segments) => {
                self.chunk_refs(segments.iter_mut().flat_map(|s| s.chunks.iter_mut()))?
            }
            Segments::Pages(pages) => {
                let mut whole = true;
                for PageRef(page, _) in pages {
                    match self.page(*page)? {
                        Some(new) => *page = new,
                        None => whole = false,
                    }
                }
                whole
            }
        };
        if !whole {
            self.objects.insert(id.object(), None);
            return Ok(None);
        }
        Ok(Some(FileId::from_object(self.write(id.object(), &file)?)))
    }

    fn page(&mut self, id: ObjectId) -> Result<Option<ObjectId>> {
        if let Some(known) = self.objects.get(&id) {
            return Ok(*known);
        }
        let Some(mut page) = self.read::<SegmentPage>(id)? else {
            return Ok(None);
        };
        let chunks = page.segments.iter_mut().flat_map(|s| s.chunks.iter_mut());
        if !self.chunk_refs(chunks)? {
            self.objects.insert(id, None);
            return Ok(None);
        }
        Ok(Some(self.write(id, &page)?))
    }

    /// Puts the new ids in the place of the old ones; `false` if a chunk cannot be had.
    fn chunk_refs<'b>(&self, refs: impl Iterator<Item = &'b mut ChunkRef>) -> Result<bool> {
        let mut refs: Vec<&mut ChunkRef> = refs.collect();
        let one = |r: &mut &mut ChunkRef| -> Result<bool> {
            let new = self.chunk(r.0, 0)?;
            if let Some(new) = new {
                r.0 = new;
            }
            Ok(new.is_some())
        };
        let pool = &self.source.shop.components.pool;
        let done = pool.install(|| refs.par_iter_mut().map(one).collect::<Result<Vec<_>>>())?;
        Ok(done.into_iter().all(|whole| whole))
    }

    /// Names a chunk and puts it if it is missing; `None` if it cannot be had.
    fn chunk(&self, id: ChunkId, depth: usize) -> Result<Option<ChunkId>> {
        let known = || self.chunks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known().get(&id) {
            return Ok(*known);
        }
        self.source.shop.components.cancel.check()?;
        let new = match self.put(id, depth) {
            Ok(new) => Some(new),
            Err(error) if is_damage(&error) => {
                self.lose(id, error.to_string());
                None
            }
            Err(error) => return Err(error),
        };
        known().insert(id, new);
        Ok(new)
    }

    fn put(&self, id: ChunkId, depth: usize) -> Result<ChunkId> {
        let raw = self.source.source().get(&id)?;
        let new = self.sink.id(&raw);
        if self.sink.contains(&new)? {
            return Ok(new);
        }
        let frame = self.reader.frame(&id)?;
        let old = mmh_codec::references(&frame)?;
        let raw_len = u32::try_from(raw.len()).map_err(|_| too_deep(&id))?;
        if old.is_empty() {
            self.sink.put(new, raw_len, &frame)?;
            return Ok(new);
        }
        if depth > mmh_store::REFERENCE_DEPTH_MAX {
            return Err(too_deep(&id));
        }
        let other = |old: Option<[u8; 32]>| -> Result<Option<[u8; 32]>> {
            let Some(old) = old else { return Ok(None) };
            let old = ChunkId::from_digest(Digest::from_bytes(old));
            let new = self.chunk(old, depth + 1)?;
            let new = new.ok_or_else(|| {
                Error::Corrupt(format!("chunk {id} needs chunk {old}, which is damaged"))
            })?;
            Ok(Some(*new.as_bytes()))
        };
        let references = References {
            base: other(old.base)?,
        };
        let frame = mmh_codec::with_references(&frame, &references)?;
        self.sink.put(new, raw_len, &frame)?;
        Ok(new)
    }
}

fn too_deep(id: &ChunkId) -> Error {
    Error::Corrupt(format!("chunk {id} refers to others beyond the limits"))
}

/// Counts what is put, and puts it if there is a writer.
struct Counted {
    ids: Reader,
    store: Store,
    runtime: tokio::runtime::Handle,
    writer: Option<Arc<Writer>>,
    /// What was counted and not put.
    new: Mutex<std::collections::HashSet<ChunkId>>,
    chunks: AtomicU64,
    bytes: AtomicU64,
}

impl ChunkSink for Counted {
    fn id(&self, raw: &[u8]) -> ChunkId {
        self.ids.id(raw)
    }

    fn contains(&self, id: &ChunkId) -> mmh_store::Result<bool> {
        match &self.writer {
            Some(writer) => writer.contains(id),
            None => {
                let new = self.new.lock().unwrap_or_else(PoisonError::into_inner);
                let counted = new.contains(id);
                drop(new);
                let missing = || self.runtime.block_on(self.store.missing_by_index(&[*id]));
                Ok(counted || missing()?.is_empty())
            }
        }
    }

    fn put(&self, id: ChunkId, raw_len: u32, frame: &[u8]) -> mmh_store::Result<bool> {
        let new = match &self.writer {
            Some(writer) => writer.put(id, raw_len, frame)?,
            None => {
                let mut new = self.new.lock().unwrap_or_else(PoisonError::into_inner);
                new.insert(id)
            }
        };
        if new {
            self.chunks.fetch_add(1, Ordering::Relaxed);
            self.bytes.fetch_add(frame.len() as u64, Ordering::Relaxed);
        }
        Ok(new)
    }
}
