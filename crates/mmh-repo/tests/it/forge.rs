//! Repositories made by hand: each object is canonical, together they may lie.

use std::path::PathBuf;

use mmh_codec::{Encoder, Hint};
use mmh_core::canonical::{self, Canonical};
use mmh_core::name::RefName;
use mmh_core::object::{ChunkRef, File, FileTag, Segment, Segments, Snapshot, SnapshotTag};
use mmh_core::tree::{Body, Entry, Node, Tree, TreeTag};
use mmh_core::{ChunkId, Digest, FileId, ObjectId, SnapshotId, TreeId};
use mmh_repo::{Components, Repository};
use mmh_store::{ArchiveWriter, ChunkSink};

use crate::scratch::{Scratch, settings};

/// Writes objects into an archive without asking whether they make sense together.
pub(crate) struct Forger {
    pub(crate) path: PathBuf,
    out: ArchiveWriter,
}

impl Forger {
    pub(crate) fn new(scratch: &Scratch) -> Self {
        let path = scratch.path("forged.mmh");
        let out = ArchiveWriter::create(&path).unwrap();
        Self { path, out }
    }

    pub(crate) fn bytes(&self, bytes: &[u8]) -> ChunkId {
        let (id, mut frame) = (ChunkId::of(bytes), Vec::new());
        let mut encoder = Encoder::new(mmh_codec::Settings::default());
        encoder.encode(bytes, &Hint::bytes(), &mut frame).unwrap();
        let len = bytes.len().try_into().unwrap();
        self.out.put(id, len, &frame).unwrap();
        id
    }

    pub(crate) fn object<T: Canonical>(&self, value: &T) -> ObjectId {
        let bytes = canonical::encode(value).unwrap();
        self.bytes(&bytes);
        ObjectId::of(&bytes)
    }

    pub(crate) fn dir(&self, entries: Vec<(&str, Node)>) -> TreeId {
        let entry = |(name, node): (&str, Node)| Entry {
            name: name.to_owned(),
            node,
        };
        TreeId::from_object(self.object(&Tree {
            r#type: TreeTag::Tag,
            body: Body::Entries(entries.into_iter().map(entry).collect()),
        }))
    }

    /// A file of one chunk that claims to have the digest of `claimed`.
    pub(crate) fn file(&self, content: &[u8], claimed: &[u8]) -> FileId {
        let (chunk, size) = (self.bytes(content), content.len() as u64);
        let segments = vec![segment(&[chunk], content.len())];
        self.whole_file(size, claimed, Segments::Inline(segments))
    }

    pub(crate) fn whole_file(&self, size: u64, claimed: &[u8], segments: Segments) -> FileId {
        FileId::from_object(self.object(&File {
            r#type: FileTag::Tag,
            size,
            blake3: Some(Digest::of(claimed)),
            sha256: Some(Digest::of(claimed)),
            container: "unknown".to_owned(),
            note: None,
            segments,
        }))
    }

    /// A snapshot of a tree with a history and a time of its own.
    pub(crate) fn snapshot(
        &self,
        tree: TreeId,
        parents: &[SnapshotId],
        time_ms: u64,
    ) -> SnapshotId {
        SnapshotId::from_object(self.object(&Snapshot {
            r#type: SnapshotTag::Tag,
            tree,
            parents: parents.to_vec(),
            author: String::new(),
            time_ms,
            message: String::new(),
        }))
    }

    pub(crate) fn finish(self, names: &[(&str, TreeId)], components: Components) -> Repository {
        let snapshot = |(name, tree): &(&str, TreeId)| {
            let name = RefName::branch(name.parse().unwrap(), "main").unwrap();
            (name, self.snapshot(*tree, &[], 0))
        };
        let refs: Vec<_> = names.iter().map(snapshot).collect();
        self.finish_refs(&refs, components)
    }

    pub(crate) fn finish_refs(
        self,
        refs: &[(RefName, SnapshotId)],
        components: Components,
    ) -> Repository {
        self.out.finish(refs).unwrap();
        Repository::open_archive(&self.path, settings(), components).unwrap()
    }
}

pub(crate) fn segment(chunks: &[ChunkId], each: usize) -> Segment {
    let n = u32::try_from(each).unwrap();
    Segment {
        len: (each * chunks.len()) as u64,
        tensors: Vec::new(),
        chunks: chunks.iter().map(|id| ChunkRef(*id, 0, n)).collect(),
    }
}

pub(crate) fn plain(id: FileId, size: u64) -> Node {
    Node::File {
        id,
        size,
        executable: false,
    }
}
