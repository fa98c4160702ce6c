//! Bases: which tensor that is kept already a new tensor is coded as the difference from.
//!
//! Tensors are matched by name, shape and type; where no name fits, by a sketch: sampled exponents
//! agree far more often between a tensor and its fine-tuned successor than between strangers.
//! Chunk `i` of a tensor has chunk `i` of its base as base, for both are cut alike. Whether the
//! difference pays is for the codec to say: a wrong base costs time, never size.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use mmh_codec::ContentId;
use mmh_core::object::Segment;
use mmh_core::tree::Node;
use mmh_core::{
    ByteRange, ChunkId, Digest, Dtype, ErrorKind, FileId, TensorInfo, TreeId, Verified,
};
use mmh_formats::{Layout, PartKind, ReadAt};
use mmh_store::ChunkSource;

use crate::cut::{Chunking, Of};
use crate::error::{Error, Result};
use crate::objects;
use crate::read::FileReader;

/// Numbers that a sketch samples from the first chunk of a tensor.
const SKETCH_LEN: usize = 1024;
/// Fewest numbers that are worth a sketch.
const SKETCH_LEN_MIN: usize = 256;
/// Percent of sampled exponents that agree between a tensor and a base for it. Weights of two
/// trainings agree in a third of them, those of a fine-tune in nine of ten.
const AGREEMENT_MIN: usize = 60;

/// Where bases are looked for while files are added.
pub(crate) struct Bases<'a> {
    /// Where their chunks are.
    pub(crate) source: &'a dyn ChunkSource,
    /// The tree in which a file of the same path is the first candidate, and the folder in it that
    /// files are put below.
    pub(crate) before: Option<(TreeId, Option<String>)>,
    /// Candidates for every file, best first.
    pub(crate) sets: Vec<Arc<BaseSet>>,
}

impl fmt::Debug for Bases<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bases")
            .field("before", &self.before)
            .field("sets", &self.sets.len())
            .finish_non_exhaustive()
    }
}

impl Bases<'_> {
    /// The candidates for the file that will be `path`.
    ///
    /// # Errors
    /// Unavailable; what is damaged is no candidate.
    pub(crate) fn for_file(&self, path: &str) -> Result<Vec<Arc<BaseSet>>> {
        let mut sets = Vec::new();
        if let Some((tree, below)) = &self.before {
            let path = crate::add::place(path, below.as_deref());
            let set = objects::find(self.source, *tree, &path).and_then(|node| match node {
                Some(Node::File { id, .. }) => {
                    let mut set = BaseSet::default();
                    set.add_file(self.source, id)?;
                    Ok(Some(set))
                }
                _ => Ok(None),
            });
            sets.extend(unless_damaged(set)?.flatten().map(Arc::new));
        }
        sets.extend(self.sets.iter().cloned());
        sets.retain(|set| !set.tensors.is_empty());
        Ok(sets)
    }
}

/// Turns damage of what is kept already into nothing: it must not keep new files out.
fn unless_damaged<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(e) if matches!(e.kind(), ErrorKind::Corrupt | ErrorKind::NotFound) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Whether numbers of this type may be coded as differences.
fn may_differ(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::BF16 | Dtype::F16 | Dtype::F32 | Dtype::F64)
}

/// A chunk's id and length in bytes.
type Chunk = (ChunkId, u32);

/// The tensors of some files, as candidates.
#[derive(Debug, Default)]
pub(crate) struct BaseSet {
    tensors: Vec<BaseTensor>,
    by_name: HashMap<String, usize>,
    by_shape: HashMap<(Dtype, Vec<u64>), Vec<usize>>,
}

/// A tensor with chunks of its own.
#[derive(Debug)]
pub(crate) struct BaseTensor {
    /// What it is.
    pub(crate) info: TensorInfo,
    chunks: Vec<Chunk>,
    /// Made when it is asked for; empty where none can be made.
    sketch: OnceLock<Vec<u16>>,
}

impl BaseSet {
    /// Adds a tensor with its chunks' ids and lengths. Of several of one name the first counts.
    pub(crate) fn push(&mut self, info: TensorInfo, chunks: Vec<Chunk>) {
        if !may_differ(info.dtype) {
            return;
        }
        let at = self.tensors.len();
        self.by_name.entry(info.name.clone()).or_insert(at);
        let shape = (info.dtype, info.shape.clone());
        self.by_shape.entry(shape).or_default().push(at);
        self.tensors.push(BaseTensor {
            info,
            chunks,
            sketch: OnceLock::new(),
        });
    }

    /// Adds the tensors of a stored file.
    ///
    /// # Errors
    /// Those of reading.
    pub(crate) fn add_file(&mut self, source: &dyn ChunkSource, id: FileId) -> Result<()> {
        let reader = FileReader::new(source, objects::file(source, id)?);
        let mut open: Option<(TensorInfo, u64, Vec<Chunk>)> = None;
        reader.for_each_segment(ByteRange::all(reader.size()), &mut |_, segment| {
            let Some((info, skip)) = own_tensor(segment) else {
                return Ok(());
            };
            let chunks = segment.chunks.iter().map(|c| (*c.id(), c.len()));
            match &mut open {
                Some((before, len, all)) if *before == *info && *len == skip => {
                    *len += segment.len;
                    all.extend(chunks);
                }
                _ => {
                    if let Some((info, _, chunks)) = open.take() {
                        self.push(info, chunks);
                    }
                    if skip == 0 {
                        open = Some((info.clone(), segment.len, chunks.collect()));
                    }
                }
            }
            Ok(())
        })?;
        if let Some((info, _, chunks)) = open {
            self.push(info, chunks);
        }
        Ok(())
    }

    fn named(&self, info: &TensorInfo) -> Option<usize> {
        let at = *self.by_name.get(&info.name)?;
        let found = &self.tensors[at].info;
        (found.dtype == info.dtype && found.shape == info.shape).then_some(at)
    }

    /// The tensor of the same type and shape whose sketch agrees best, if any does well enough.
    fn alike(
        &self,
        source: &dyn ChunkSource,
        info: &TensorInfo,
        sketch: &[u16],
    ) -> Result<Option<usize>> {
        let candidates = self.by_shape.get(&(info.dtype, info.shape.clone()));
        let mut best = (AGREEMENT_MIN * sketch.len() / 100, None);
        for &at in candidates.into_iter().flatten() {
            let agreed = agreement(self.tensors[at].sketch(source)?, sketch);
            if agreed > best.0 {
                best = (agreed, Some(at));
            }
        }
        Ok(best.1)
    }
}

impl BaseTensor {
    fn sketch(&self, source: &dyn ChunkSource) -> Result<&[u16]> {
        if let Some(made) = self.sketch.get() {
            return Ok(made);
        }
        let first = match self.chunks.first() {
            Some((id, _)) => unless_damaged(source.get(id).map_err(Error::from))?,
            None => None,
        };
        let made = first.map_or_else(Vec::new, |raw| sketch(self.info.dtype, &raw));
        Ok(self.sketch.get_or_init(|| made))
    }
}

/// The tensor that a segment holds alone, and how many of its bytes come in earlier segments. What
/// begins within a chunk shares it with other small parts.
fn own_tensor(segment: &Segment) -> Option<(&TensorInfo, u64)> {
    match &segment.tensors[..] {
        [span] if span.start == 0 && segment.chunks.iter().all(|chunk| chunk.start() == 0) => {
            Some((&span.info, span.skip))
        }
        _ => None,
    }
}

/// The exponents of numbers at even distances; none for types and lengths that are not compared.
fn sketch(dtype: Dtype, raw: &[u8]) -> Vec<u16> {
    let (width, shift, mask) = match dtype {
        Dtype::BF16 => (2, 7, 0xff),
        Dtype::F16 => (2, 10, 0x1f),
        Dtype::F32 => (4, 7, 0xff),
        _ => return Vec::new(),
    };
    let n = raw.len() / width;
    if n < SKETCH_LEN_MIN {
        return Vec::new();
    }
    let len = n.min(SKETCH_LEN);
    let top = |i: usize| {
        let end = (i * n / len + 1) * width;
        u16::from_le_bytes([raw[end - 2], raw[end - 1]])
    };
    (0..len).map(|i| top(i) >> shift & mask).collect()
}

/// How many exponents of two sketches agree.
fn agreement(a: &[u16], b: &[u16]) -> usize {
    if a.len() != b.len() {
        return 0;
    }
    a.iter().zip(b).filter(|(a, b)| a == b).count()
}

/// A base for one chunk.
#[derive(Debug)]
pub(crate) struct Match {
    /// Its id, as frames name it.
    pub(crate) id: ContentId,
    /// Its bytes.
    pub(crate) raw: Verified<Bytes>,
    /// The tensor it is of.
    pub(crate) tensor: TensorInfo,
}

/// Finds the candidates for a file, best first; asked only if there is something to match.
pub(crate) type Candidates<'a> = &'a (dyn Fn() -> Result<Vec<Arc<BaseSet>>> + Sync);

/// Finds the bases of one file's chunks.
pub(crate) struct Matcher<'a> {
    source: &'a dyn ChunkSource,
    candidates: Candidates<'a>,
    sets: OnceLock<Vec<Arc<BaseSet>>>,
    file: &'a dyn ReadAt,
    layout: &'a Layout,
    chunking: Chunking,
    /// The set and tensor that a part was matched with, by the part's place in the layout.
    parts: Mutex<HashMap<usize, Option<(usize, usize)>>>,
}

impl<'a> Matcher<'a> {
    /// A matcher for the chunks of `file`.
    pub(crate) fn new(
        (source, candidates): (&'a dyn ChunkSource, Candidates<'a>),
        (file, layout): (&'a dyn ReadAt, &'a Layout),
        chunking: Chunking,
    ) -> Self {
        let parts = Mutex::default();
        Self {
            source,
            candidates,
            sets: OnceLock::new(),
            file,
            layout,
            chunking,
            parts,
        }
    }

    fn sets(&self) -> Result<&[Arc<BaseSet>]> {
        if let Some(sets) = self.sets.get() {
            return Ok(sets);
        }
        let sets = (self.candidates)()?;
        Ok(self.sets.get_or_init(|| sets))
    }

    /// The base of a chunk of `raw_len` bytes, if there is one.
    ///
    /// # Errors
    /// Unavailable; a base that is damaged is none.
    pub(crate) fn base(&self, of: Of, raw_len: usize) -> Result<Option<Match>> {
        let Some((set, tensor)) = self.tensor(of.part)? else {
            return Ok(None);
        };
        let tensor = &self.sets()?[set].tensors[tensor];
        match tensor.chunks.get(of.chunk) {
            Some((id, len)) if *len as usize == raw_len => {
                let found = unless_damaged(self.read(id))?;
                Ok(found.map(|(id, raw)| Match {
                    id,
                    raw,
                    tensor: tensor.info.clone(),
                }))
            }
            _ => Ok(None),
        }
    }

    /// Reads a base. One that is itself two differences away from whole content gives its own base,
    /// so that no chunk is ever further than two.
    fn read(&self, id: &ChunkId) -> Result<(ContentId, Verified<Bytes>)> {
        let mut chunk = *id;
        if let Some(base) = self.source.references(&chunk)?.base {
            let base = ChunkId::from_digest(Digest::from_bytes(base));
            if self.source.references(&base)?.base.is_some() {
                chunk = base;
            }
        }
        let raw = self.source.get(&chunk)?;
        Ok((*chunk.digest().as_bytes(), raw))
    }

    /// The set and tensor that the tensor in this part of the layout is matched with.
    fn tensor(&self, part: usize) -> Result<Option<(usize, usize)>> {
        let known = |parts: &HashMap<_, _>| parts.get(&part).copied();
        if let Some(known) = known(&self.parts.lock().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(known);
        }
        let found = self.find(part)?;
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        parts.insert(part, found);
        Ok(found)
    }

    fn find(&self, part: usize) -> Result<Option<(usize, usize)>> {
        let Some(part) = self.layout.parts().get(part) else {
            return Ok(None);
        };
        let PartKind::Tensor(info) = &part.kind else {
            return Ok(None);
        };
        if !may_differ(info.dtype) {
            return Ok(None);
        }
        let sets = self.sets()?;
        if sets.is_empty() {
            return Ok(None);
        }
        for (set, tensors) in sets.iter().enumerate() {
            if let Some(at) = tensors.named(info) {
                return Ok(Some((set, at)));
            }
        }
        let len = self.chunking.tensor_len(info.dtype).min(part.len);
        let first = mmh_formats::read_vec(self.file, part.offset, len)?;
        let sketch = sketch(info.dtype, &first);
        if sketch.is_empty() {
            return Ok(None);
        }
        for (set, tensors) in sets.iter().enumerate() {
            if let Some(at) = tensors.alike(self.source, info, &sketch)? {
                return Ok(Some((set, at)));
            }
        }
        Ok(None)
    }
}

impl fmt::Debug for Matcher<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Matcher")
            .field("sets", &self.sets)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
