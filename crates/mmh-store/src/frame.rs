//! Where the store meets the codec: what a frame says of itself, and decoding to verified bytes.
//!
//! A frame may refer to another chunk, its base: that is found, decoded
//! and compared with its id first. How deep and how many is limited, so that no chain of
//! hostile frames, and no circle of them, costs more than a few chunks. FORMAT.md, "Packs".

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use mmh_codec::entropy::{Engine, best};
use mmh_codec::{Base, ContentId, Context, Decoder, References, frame_info, references};
use mmh_core::{ChunkId, Digest, ErrorKind, Verified, limits};

use crate::buffer::Buffer;
use crate::error::{Error, Result};
use crate::pack::Record;
use crate::vault::{PLAIN, Passed, Vault};

/// Longest frame of a chunk that is stored or read, in bytes: a raw chunk and its frame's head.
pub const FRAME_LEN_MAX: usize = limits::CHUNK_LEN_MAX + 4096;
/// Longest frame as it is stored: sealing pads, and adds an id, a tag and a salt.
pub const STORED_LEN_MAX: usize = (4 << 20) + (260 << 10);
/// Most references from frame to frame on the way to one that needs nothing else.
pub const REFERENCE_DEPTH_MAX: usize = 4;
/// Most chunks that are read for the sake of one.
pub const REFERENCED_MAX: usize = 16;

/// Length of the chunk, and the frame's second byte: method, and which references it has.
pub(crate) fn head(frame: &[u8]) -> std::result::Result<(u32, u8), String> {
    let info = frame_info(frame).map_err(|e| e.to_string())?;
    let raw_len = u32::try_from(info.raw_len).map_err(|_| "the chunk is too long".to_owned())?;
    Ok((raw_len, frame[1]))
}

/// Whether the word that an index keeps of a frame says that it refers to others.
pub(crate) fn has_references(method: u8) -> bool {
    method & !mmh_codec::METHOD_BITS != 0
}

/// The frame in a record, after comparing length and checksum and, where it is sealed, the tag
/// and `id`, if that is given.
pub(crate) fn of_record<'a>(
    record: &'a [u8],
    vault: &Vault,
    id: Option<&ChunkId>,
) -> std::result::Result<Passed<'a>, Fault> {
    let stored = Record::frame(record).map_err(|flaw| Fault::Damaged(flaw.to_string()))?;
    vault.open_frame(stored, id).map_err(Fault::Damaged)
}

/// The same for a record that is shared, without copying what is not sealed.
pub(crate) fn shared_of_record(
    record: &Bytes,
    vault: &Vault,
    id: &ChunkId,
) -> std::result::Result<Bytes, Fault> {
    Ok(match of_record(record, vault, Some(id))? {
        Passed::Same(frame) => record.slice_ref(frame),
        Passed::Other(frame) => frame.share(),
    })
}

/// The chunk that a frame knows by this name.
pub(crate) fn chunk_of(id: &ContentId) -> ChunkId {
    ChunkId::from_digest(Digest::from_bytes(*id))
}

/// What a frame refers to, with what each is to it.
pub(crate) fn named(references: &References) -> impl Iterator<Item = (&'static str, ChunkId)> {
    references.iter().map(|id| ("base", chunk_of(id)))
}

/// Where the chunks are found that frames refer to.
pub(crate) trait Others {
    /// What decodes them, and the frame itself.
    fn engine(&self) -> &'static dyn Engine;

    /// How chunks are named and sealed there.
    fn vault(&self) -> &Vault {
        &PLAIN
    }

    /// Finds a chunk, whose frame or record was checked as far as that goes without decoding.
    ///
    /// # Errors
    /// NotFound; those of reading.
    fn find(&self, id: &ChunkId) -> Result<Found>;
}

/// A chunk that a frame refers to.
#[derive(Debug, Clone)]
pub(crate) enum Found {
    /// Its frame.
    Frame(Bytes),
    /// Itself.
    Content(Verified<Bytes>),
}

/// Frames that were looked up before, by their chunks.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gathered {
    frames: BTreeMap<ChunkId, Bytes>,
    vault: Vault,
}

impl Gathered {
    pub(crate) fn new(vault: Vault) -> Self {
        let frames = BTreeMap::new();
        Self { frames, vault }
    }

    /// Keeps a frame; of more than a few the others are forgotten first.
    pub(crate) fn keep(&mut self, id: ChunkId, frame: Bytes) {
        if self.frames.len() > 2 * REFERENCED_MAX {
            self.frames.clear();
        }
        self.frames.insert(id, frame);
    }
}

impl Others for Gathered {
    fn engine(&self) -> &'static dyn Engine {
        best()
    }

    fn vault(&self) -> &Vault {
        &self.vault
    }

    fn find(&self, id: &ChunkId) -> Result<Found> {
        let frame = self.frames.get(id).cloned();
        frame
            .map(Found::Frame)
            .ok_or(Error::NoSuchChunk { chunk: *id })
    }
}

/// Why a frame does not give its chunk.
#[derive(Debug)]
pub(crate) enum Fault {
    /// It is wrong.
    Damaged(String),
    /// A newer version wrote it.
    Newer(String),
    /// Another chunk that it needs cannot be had.
    Other {
        /// What the other is to it.
        what: &'static str,
        /// The other.
        id: ChunkId,
        /// Why.
        source: Box<Error>,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damaged(reason) | Self::Newer(reason) => f.write_str(reason),
            Self::Other { what, id, source } => write!(f, "it needs its {what} {id}: {source}"),
        }
    }
}

impl From<mmh_codec::Error> for Fault {
    fn from(error: mmh_codec::Error) -> Self {
        match error.kind() {
            ErrorKind::Unsupported => Self::Newer(error.to_string()),
            _ => Self::Damaged(error.to_string()),
        }
    }
}

impl Fault {
    /// The error for a chunk; `damaged` tells where the frame lies.
    pub(crate) fn of(self, chunk: ChunkId, damaged: impl FnOnce(String) -> Error) -> Error {
        match self {
            Self::Damaged(reason) => damaged(reason),
            Self::Newer(reason) => Error::UnknownFrame { chunk, reason },
            Self::Other { what, id, source } => Error::Reference {
                chunk,
                what,
                reference: id,
                source,
            },
        }
    }

    /// The chunk that is not there, if that is all that is wrong.
    pub(crate) fn missing(&self) -> Option<ChunkId> {
        let Self::Other { source, .. } = self else {
            return None;
        };
        let mut error = &**source;
        loop {
            match error {
                Error::NoSuchChunk { chunk } => return Some(*chunk),
                Error::Reference { source, .. } => error = source,
                _ => return None,
            }
        }
    }

    /// The failure to look at another chunk, if that is what this is: it says nothing of the frame.
    pub(crate) fn into_failure(self) -> std::result::Result<Error, Self> {
        let tells = |kind| {
            use ErrorKind as K;
            matches!(kind, K::Corrupt | K::NotFound | K::Unsupported | K::Invalid)
        };
        match self {
            Self::Other { source, .. } if !tells(source.kind()) => Ok(*source),
            fault => Err(fault),
        }
    }
}

/// Idle decoders with their contexts and buffers, each with its engine's name. They belong to no
/// thread: a runtime may take another one for every task.
static DECODERS: Mutex<Vec<(&'static str, Decoder)>> = Mutex::new(Vec::new());

/// Runs `work` with a decoder that was used before, if one is idle.
fn with_decoder<T>(engine: &'static dyn Engine, work: impl FnOnce(&mut Decoder) -> T) -> T {
    let idle = || DECODERS.lock().unwrap_or_else(PoisonError::into_inner);
    let kept = idle().pop().filter(|(name, _)| *name == engine.name());
    let mut decoder = kept.map_or_else(|| Decoder::with_engine(engine), |(_, decoder)| decoder);
    let done = work(&mut decoder);
    idle().push((engine.name(), decoder));
    done
}

/// One chunk's decoding, and that of the chunks it needs.
struct Resolver<'a> {
    others: &'a dyn Others,
    /// How many more chunks may be read.
    left: Cell<usize>,
}

impl Resolver<'_> {
    fn decode(&self, frame: &[u8], depth: usize) -> std::result::Result<Buffer, Fault> {
        let found = references(frame)?;
        let content = |id: ContentId| self.content("base", chunk_of(&id), depth);
        let base = found.base.map(content).transpose()?;
        let context = Context {
            base: given(found.base, base.as_ref()),
        };
        let raw_len = frame_info(frame)?.raw_len;
        let mut raw = Buffer::idle(raw_len);
        with_decoder(self.others.engine(), |decoder| {
            decoder.decode_with(frame, &context, limits::CHUNK_LEN_MAX, &mut raw)
        })?;
        Ok(raw)
    }

    /// A chunk that a frame refers to.
    fn content(
        &self,
        what: &'static str,
        id: ChunkId,
        depth: usize,
    ) -> std::result::Result<Verified<Bytes>, Fault> {
        let Some(left) = self.left.get().checked_sub(1) else {
            let reason = format!("it needs more than {REFERENCED_MAX} other chunks");
            return Err(Fault::Damaged(reason));
        };
        self.left.set(left);
        if depth == REFERENCE_DEPTH_MAX {
            let reason = format!("it refers to others more than {REFERENCE_DEPTH_MAX} deep");
            return Err(Fault::Damaged(reason));
        }
        let other = |source: Error| Fault::Other {
            what,
            id,
            source: Box::new(source),
        };
        let frame = match self.others.find(&id).map_err(other)? {
            Found::Content(content) => return Ok(content),
            Found::Frame(frame) => frame,
        };
        let damaged = |reason| Error::Corrupt {
            object: format!("chunk {id}"),
            reason,
        };
        let raw = self.decode(&frame, depth + 1);
        let raw = raw.map_err(|fault| other(fault.of(id, damaged)))?;
        Verified::chunk_by(self.others.vault(), &id, raw.share())
            .map_err(|e| other(damaged(e.to_string())))
    }
}

fn given(id: Option<ContentId>, raw: Option<&Verified<Bytes>>) -> Option<Base<'_>> {
    let (id, raw) = (id?, raw?);
    Some(Base { id, raw })
}

/// Decodes a frame of a chunk of at most [`limits::CHUNK_LEN_MAX`] bytes.
pub(crate) fn decode(frame: &[u8], others: &dyn Others) -> std::result::Result<Buffer, Fault> {
    let left = Cell::new(REFERENCED_MAX);
    Resolver { others, left }.decode(frame, 0)
}

/// Decodes a frame and compares the bytes with the id.
pub(crate) fn verified(
    frame: &[u8],
    id: &ChunkId,
    others: &dyn Others,
) -> std::result::Result<Verified<Bytes>, Fault> {
    let raw = decode(frame, others)?;
    Verified::chunk_by(others.vault(), id, raw.share()).map_err(|e| Fault::Damaged(e.to_string()))
}

/// Decodes a frame piece by piece, compares the digest with the id, and returns the chunk's length:
/// as [`verified`], for those who need no more than the proof.
pub(crate) fn prove(
    frame: &[u8],
    id: &ChunkId,
    others: &dyn Others,
) -> std::result::Result<u64, Fault> {
    if references(frame)?.base.is_some() {
        return Ok(verified(frame, id, others)?.len() as u64);
    }
    let mut hasher = others.vault().hasher();
    with_decoder(others.engine(), |decoder| {
        let (context, limit) = (Context::default(), limits::CHUNK_LEN_MAX);
        decoder.decode_pieces(frame, &context, limit, &mut |piece| {
            hasher.update(piece);
        })
    })?;
    let actual = ChunkId::from_digest(Digest::from_bytes(*hasher.finalize().as_bytes()));
    if actual != *id {
        let mismatch = mmh_core::Error::DigestMismatch {
            what: ChunkId::WHAT,
            expected: id.to_string(),
            actual: actual.to_string(),
        };
        return Err(Fault::Damaged(mismatch.to_string()));
    }
    Ok(hasher.count())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A whole frame of a later version is not damage: another copy would not help.
    #[test]
    fn frames_of_later_versions_are_unsupported_and_not_corrupt() {
        let id = ChunkId::of(b"x");
        for later in [[200, 0, 1, b'x'], [1, 31, 1, b'x']] {
            let fault = decode(&later, &Gathered::default()).unwrap_err();
            let error = fault.of(id, |reason| panic!("not damage: {reason}"));
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        }
        let whole = decode(&[1, 0, 1, b'x'], &Gathered::default()).unwrap();
        assert_eq!(whole[..], *b"x");
        let fault = verified(&[1, 0, 1, b'y'], &id, &Gathered::default()).unwrap_err();
        assert!(matches!(fault, Fault::Damaged(_)), "{fault}");
    }

    /// A proof without the bytes says what one with them says.
    #[test]
    fn a_proof_holds_where_the_verified_bytes_do() {
        let raw = vec![7; 100_000];
        let mut frame = Vec::new();
        let mut encoder = mmh_codec::Encoder::new(mmh_codec::Settings::default());
        let hint = mmh_codec::Hint::default();
        encoder.encode(&raw, &hint, &mut frame).unwrap();
        let sealed = Gathered::new(crate::vault::tests::sealed(1));
        for others in [&Gathered::default(), &sealed] {
            let id = others.vault().id(&raw);
            assert_eq!(prove(&frame, &id, others).unwrap(), 100_000);
            assert_eq!(verified(&frame, &id, others).unwrap()[..], raw);
            let wrong = ChunkId::of(b"other");
            let faults = [
                prove(&frame, &wrong, others).unwrap_err().to_string(),
                verified(&frame, &wrong, others).unwrap_err().to_string(),
            ];
            assert_eq!(faults[0], faults[1]);
        }
    }

    /// The longest frame fits, with its id and all padding.
    #[test]
    fn the_longest_frame_can_be_sealed() {
        let stored = crate::vault::tests::sealed(1).stored_len((FRAME_LEN_MAX + 32) as u64);
        assert!(stored <= STORED_LEN_MAX as u64, "{stored}");
    }

    /// Only that something is not there can be mended by looking for it.
    #[test]
    fn a_missing_chunk_is_told_from_damage_through_every_reference() {
        let (a, b) = (ChunkId::of(b"a"), ChunkId::of(b"b"));
        let other = |source| Fault::Other {
            what: "base",
            id: a,
            source: Box::new(source),
        };
        let missing = || Error::NoSuchChunk { chunk: b };
        assert_eq!(other(missing()).missing(), Some(b));
        let through = other(missing()).of(a, |_| panic!("not damage"));
        assert_eq!(through.kind(), ErrorKind::NotFound);
        assert_eq!(other(through).missing(), Some(b));
        let corrupt = || Error::Corrupt {
            object: "o".to_owned(),
            reason: "torn".to_owned(),
        };
        assert_eq!(other(corrupt()).missing(), None);
        assert_eq!(Fault::Damaged(String::new()).missing(), None);
        assert!(
            other(corrupt()).into_failure().is_err(),
            "says it of the base"
        );
        let busy = Error::Busy { attempts: 1 };
        let failure = other(busy).into_failure().unwrap();
        assert_eq!(failure.kind(), ErrorKind::Unavailable);
    }

    #[test]
    fn gathered_frames_stay_few() {
        let mut gathered = Gathered::default();
        for n in 0..100u8 {
            let id = ChunkId::of(&[n]);
            gathered.keep(id, Bytes::copy_from_slice(&[n]));
            assert!(gathered.find(&id).is_ok() && gathered.frames.len() <= 2 * REFERENCED_MAX + 1);
        }
    }

    #[test]
    fn the_word_of_an_index_tells_whether_a_frame_refers_to_others() {
        for method in mmh_codec::Method::ALL {
            let code = method.code();
            assert!(!has_references(code));
            assert!(has_references(code | 0x40) && has_references(code | 0x80));
        }
    }
}
