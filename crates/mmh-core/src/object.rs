//! The objects of the Merkle DAG: files, snapshots, operations, checkpoints and records.
//!
//! FORMAT.md, "Objects", gives each field. Trees have a module of their own.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::canonical::Canonical;
use crate::error::{Error, Result};
use crate::id::{ChunkId, Digest, ObjectId, PackId, SnapshotId, TreeId};
use crate::limits;
use crate::name::RefName;
use crate::tensor::{TensorInfo, limits_check};

/// Makes the zero-sized `type` field of an object, which has exactly one value.
macro_rules! tag {
    ($name:ident, $text:literal) => {
        #[doc = concat!("The value `\"", $text, "\"` of the `type` field.")]
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
        pub enum $name {
            /// The only value.
            #[default]
            #[serde(rename = $text)]
            Tag,
        }
    };
}
pub(crate) use tag;

tag!(FileTag, "file");
tag!(SegmentPageTag, "segments");
tag!(SnapshotTag, "snapshot");
tag!(OperationTag, "operation");
tag!(CheckpointTag, "checkpoint");
tag!(RecordTag, "record");

/// Raw bytes of a chunk: `(id, start, len)`. Usually all of them; small parts of a file that are
/// not adjacent share a chunk and refer to slices of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkRef(pub ChunkId, pub u32, pub u32);

impl ChunkRef {
    /// The chunk's id.
    #[must_use]
    pub const fn id(&self) -> &ChunkId {
        &self.0
    }

    /// Offset of the first byte meant, within the raw chunk.
    #[must_use]
    pub const fn start(&self) -> u32 {
        self.1
    }

    /// Number of bytes meant; never 0.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "never empty")]
    pub const fn len(&self) -> u32 {
        self.2
    }
}

/// Where a tensor lies relative to a segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TensorSpan {
    /// Name, element type, shape.
    pub info: TensorInfo,
    /// Offset in the segment of the tensor's first byte that lies in it.
    pub start: u64,
    /// Bytes of the tensor that lie in earlier segments.
    pub skip: u64,
}

/// A run of chunks of a file, with the tensors that lie in it.
///
/// A tensor of some size has a segment of its own, so that equal tensors are equal chunks; small
/// ones share a segment with their neighbours; very large ones continue in the next segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Segment {
    /// Bytes of the file that this segment covers: the sum of its chunks.
    pub len: u64,
    /// The tensors in it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tensors: Vec<TensorSpan>,
    /// The chunks, in order.
    pub chunks: Vec<ChunkRef>,
}

impl Segment {
    fn check(&self) -> Result<()> {
        let bad = |reason: String| Error::BadObject {
            what: "segment",
            reason,
        };
        let mut sum = 0u64;
        for ChunkRef(id, start, len) in &self.chunks {
            let end = u64::from(*start) + u64::from(*len);
            if *len == 0 || end > limits::CHUNK_LEN_MAX as u64 {
                return Err(bad(format!(
                    "bytes {start}..{end} of chunk {id} are no part of it"
                )));
            }
            sum += u64::from(*len);
        }
        if sum != self.len {
            return Err(bad(format!(
                "chunks add up to {sum} bytes, not {}",
                self.len
            )));
        }
        for span in &self.tensors {
            span.info.check()?;
            if span.start >= self.len {
                return Err(bad(format!(
                    "tensor `{}` begins after its end",
                    span.info.name
                )));
            }
        }
        Ok(())
    }

    /// Chunks and tensors together, what the page limit counts.
    #[must_use]
    pub fn items(&self) -> usize {
        self.chunks.len() + self.tensors.len()
    }
}

/// Checks that a list of segments fits one page and returns the bytes it covers.
fn check_segments(segments: &[Segment]) -> Result<u64> {
    segments.iter().try_for_each(Segment::check)?;
    let items = segments.iter().map(Segment::items).sum();
    limits_check("items in a file page", items, limits::FILE_PAGE_ITEMS_MAX)?;
    let overflow = || Error::BadObject {
        what: "file",
        reason: "length overflows".to_owned(),
    };
    segments
        .iter()
        .try_fold(0u64, |n, s| n.checked_add(s.len))
        .ok_or_else(overflow)
}

/// A page of the segments of a large file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SegmentPage {
    /// Always `"segments"`.
    pub r#type: SegmentPageTag,
    /// The segments, in order.
    pub segments: Vec<Segment>,
}

impl Canonical for SegmentPage {
    const WHAT: &'static str = "segment page";

    fn check(&self) -> Result<()> {
        check_segments(&self.segments).map(drop)
    }
}

/// A link to a [`SegmentPage`] and the bytes it covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageRef(pub ObjectId, pub u64);

/// The segments of a file: in the object itself while they are few, else in pages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Segments {
    /// All segments.
    Inline(Vec<Segment>),
    /// Links to pages, in order.
    Pages(Vec<PageRef>),
}

/// The content of one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// Always `"file"`.
    pub r#type: FileTag,
    /// Length in bytes.
    pub size: u64,
    /// BLAKE3 of the whole content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blake3: Option<Digest>,
    /// SHA-256 of the whole content, by which hubs and LFS know it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Digest>,
    /// The container that was recognised, such as `safetensors`; `unknown` for plain bytes.
    pub container: String,
    /// Why a file that looked like a container is kept as bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// What the file is made of.
    pub segments: Segments,
}

impl Canonical for File {
    const WHAT: &'static str = "file";

    fn check(&self) -> Result<()> {
        let covered = match &self.segments {
            Segments::Inline(segments) => check_segments(segments)?,
            Segments::Pages(pages) => {
                limits_check("pages of a file", pages.len(), limits::FILE_PAGES_MAX)?;
                let sum = pages.iter().try_fold(0u64, |n, p| n.checked_add(p.1));
                sum.ok_or_else(|| Error::BadObject {
                    what: Self::WHAT,
                    reason: "length overflows".to_owned(),
                })?
            }
        };
        if covered != self.size {
            let reason = format!("segments cover {covered} of {} bytes", self.size);
            return Err(Error::BadObject {
                what: Self::WHAT,
                reason,
            });
        }
        limits_check(
            "container name length",
            self.container.len(),
            limits::NAME_LEN_MAX,
        )?;
        let note = self.note.as_ref().map_or(0, String::len);
        limits_check("note length", note, limits::PATH_LEN_MAX)
    }
}

/// A state of a tree with its history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    /// Always `"snapshot"`.
    pub r#type: SnapshotTag,
    /// The root of the tree.
    pub tree: TreeId,
    /// The snapshots it came from; none for the first.
    pub parents: Vec<SnapshotId>,
    /// Who made it, as given by the caller.
    pub author: String,
    /// Milliseconds since 1970-01-01 UTC.
    pub time_ms: u64,
    /// Why it was made.
    pub message: String,
}

impl Canonical for Snapshot {
    const WHAT: &'static str = "snapshot";

    fn check(&self) -> Result<()> {
        limits_check(
            "parents of a snapshot",
            self.parents.len(),
            limits::PARENTS_MAX,
        )?;
        limits_check("author length", self.author.len(), limits::NAME_LEN_MAX)?;
        limits_check(
            "message length",
            self.message.len(),
            limits::MESSAGE_LEN_MAX,
        )
    }
}

/// The change of one ref inside an operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RefChange {
    /// Which ref.
    pub r#ref: RefName,
    /// What it must have named before; `None` if it must not have existed.
    pub old: Option<SnapshotId>,
    /// What it names afterwards; `None` if it is removed.
    pub new: Option<SnapshotId>,
}

/// One entry of the operation log: a transaction over any number of refs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Operation {
    /// Always `"operation"`.
    pub r#type: OperationTag,
    /// Position in the log, from 1.
    pub seq: u64,
    /// Digest of the entry before; `None` for the first.
    pub prev: Option<Digest>,
    /// Random bytes of the writer, by which it recognises its own entry after a timeout.
    pub writer: Digest,
    /// Milliseconds since 1970-01-01 UTC.
    pub time_ms: u64,
    /// Who did it, as given by the caller.
    pub author: String,
    /// What was done, for people: `add models/acme/minilm`.
    pub command: String,
    /// The operation that this one takes back, if it is an undo.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undoes: Option<u64>,
    /// The changes; each ref at most once, in order of name.
    pub changes: Vec<RefChange>,
    /// What garbage collection takes away once this entry is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collected: Option<Collected>,
}

/// Packs that are deleted, for an entry that changes no refs. Whoever began before it and relies
/// on one of them cannot commit after it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Collected {
    /// Operations with smaller numbers cannot be undone any more: what they replaced may be gone.
    pub floor: u64,
    /// The packs, sorted, each once.
    pub packs: Vec<PackId>,
}

impl Canonical for Operation {
    const WHAT: &'static str = "operation";

    fn check(&self) -> Result<()> {
        let bad = |reason: &str| Error::BadObject {
            what: Self::WHAT,
            reason: reason.to_owned(),
        };
        limits_check(
            "changes of an operation",
            self.changes.len(),
            limits::CHANGES_MAX,
        )?;
        limits_check("author length", self.author.len(), limits::NAME_LEN_MAX)?;
        limits_check(
            "command length",
            self.command.len(),
            limits::MESSAGE_LEN_MAX,
        )?;
        if self.seq == 0 || (self.seq == 1) != self.prev.is_none() {
            return Err(bad(
                "the first entry has number 1 and alone has no predecessor",
            ));
        }
        if self.undoes.is_some_and(|seq| seq >= self.seq) {
            return Err(bad("an undo names an earlier entry"));
        }
        if !self.changes.is_sorted_by(|a, b| a.r#ref < b.r#ref) {
            return Err(bad("changes are sorted by ref, each ref once"));
        }
        let Some(Collected { floor, packs }) = &self.collected else {
            return Ok(());
        };
        if !self.changes.is_empty() || self.undoes.is_some() || *floor > self.seq {
            return Err(bad("an entry that collects does nothing else"));
        }
        limits_check(
            "packs that are collected",
            packs.len(),
            limits::COLLECTED_MAX,
        )?;
        if packs.is_empty() || !packs.is_sorted_by(|a, b| a < b) {
            return Err(bad("packs are sorted, each once"));
        }
        Ok(())
    }
}

/// All refs after the log entry `seq`, so that readers need not start at entry 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checkpoint {
    /// Always `"checkpoint"`.
    pub r#type: CheckpointTag,
    /// The last log entry that is folded in.
    pub seq: u64,
    /// Digest of that entry.
    pub head: Digest,
    /// Every ref and what it names.
    pub refs: BTreeMap<String, SnapshotId>,
}

impl Canonical for Checkpoint {
    const WHAT: &'static str = "checkpoint";
    const LEN_MAX: usize = 256 << 20;

    fn check(&self) -> Result<()> {
        self.refs
            .keys()
            .try_for_each(|key| key.parse::<RefName>().map(drop))
    }
}

/// A statement about an object, signed or not: the DSSE envelope of an in-toto Statement.
///
/// <https://github.com/secure-systems-lab/dsse/blob/master/envelope.md>
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Always `"record"`.
    pub r#type: RecordTag,
    /// What the statement is about.
    pub subject: ObjectId,
    /// The payload's media type, such as `application/vnd.in-toto+json`.
    pub payload_type: String,
    /// The statement.
    pub payload: serde_bytes::ByteBuf,
    /// Signatures over payload type and payload.
    pub signatures: Vec<RecordSignature>,
}

/// One signature of a [`Record`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordSignature {
    /// The algorithm, such as `MLDSA65-Ed25519-SHA512`.
    pub algorithm: String,
    /// Which key, as the signer names it.
    pub key_id: String,
    /// The signature's bytes.
    pub signature: serde_bytes::ByteBuf,
    /// What a root says of the key, for readers who know the root alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<serde_bytes::ByteBuf>,
}

impl Canonical for Record {
    const WHAT: &'static str = "record";

    fn check(&self) -> Result<()> {
        limits_check(
            "payload type length",
            self.payload_type.len(),
            limits::NAME_LEN_MAX,
        )?;
        limits_check(
            "signatures of a record",
            self.signatures.len(),
            limits::PARENTS_MAX,
        )?;
        self.signatures.iter().try_for_each(|s| {
            limits_check("algorithm length", s.algorithm.len(), limits::NAME_LEN_MAX)?;
            limits_check("key id length", s.key_id.len(), limits::NAME_LEN_MAX)
        })
    }
}
