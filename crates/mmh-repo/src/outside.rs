//! Files outside any repository as bases: cut as a repository would cut them, so that both sides
//! of a packed file name the same chunks.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::path::PathBuf;

use bytes::Bytes;
use mmh_codec::References;
use mmh_core::{ChunkId, TensorInfo, Verified};
use mmh_formats::read_at::FileSource;
use mmh_formats::{Part, PartKind, ReadAt};
use mmh_store::{ChunkInfo, ChunkSource};
use rayon::prelude::*;

use crate::base::BaseSet;
use crate::cut::{Chunking, SMALL_PART_LEN};
use crate::error::{Error, Result};
use crate::repository::Components;
use crate::walk::{Kind, WalkOptions, walk};

/// Where a chunk lies in a file.
#[derive(Debug, Clone, Copy)]
struct Place {
    file: usize,
    offset: u64,
    len: u32,
}

/// The tensor chunks of some files, read from the files when they are asked for.
pub(crate) struct Outside {
    files: Vec<(PathBuf, FileSource)>,
    chunks: HashMap<ChunkId, Place>,
}

impl fmt::Debug for Outside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outside")
            .field("files", &self.files.len())
            .field("chunks", &self.chunks.len())
            .finish()
    }
}

impl Outside {
    /// Reads files and folders once, and describes their tensors.
    ///
    /// # Errors
    /// NotFound, Denied; Unavailable when the user cancels.
    pub(crate) fn open(
        paths: &[PathBuf],
        chunking: Chunking,
        components: &Components,
    ) -> Result<(Self, BaseSet)> {
        let (mut outside, mut set) = (
            Self {
                files: Vec::new(),
                chunks: HashMap::new(),
            },
            BaseSet::default(),
        );
        let (found, _) = walk(paths, WalkOptions { follow: true })?;
        let files = found.iter().filter(|f| matches!(f.kind, Kind::File { .. }));
        components.progress.begin("reading bases", None);
        for file in files {
            let path = file.path();
            let opened = File::open(&path).map_err(Error::io("open", &path))?;
            let source = FileSource::new(opened).map_err(Error::io("read", &path))?;
            let name = file.name.rsplit('/').next().unwrap_or_default();
            let layout = mmh_formats::probe(&source, name)?;
            let at = outside.files.len();
            for (part, info) in layout.tensors() {
                if part.len >= SMALL_PART_LEN || layout.parts().len() == 1 {
                    let cut = hash(&source, (part, info), chunking, components)?;
                    let chunks = cut.iter().map(|(id, _, len)| (*id, *len)).collect();
                    set.push(info.clone(), chunks);
                    let place = |(id, offset, len)| {
                        (
                            id,
                            Place {
                                file: at,
                                offset,
                                len,
                            },
                        )
                    };
                    outside.chunks.extend(cut.into_iter().map(place));
                }
            }
            outside.files.push((path, source));
        }
        components.progress.end();
        Ok((outside, set))
    }
}

/// Ids, offsets and lengths of the chunks of a tensor.
fn hash(
    source: &FileSource,
    (part, info): (&Part, &TensorInfo),
    chunking: Chunking,
    components: &Components,
) -> Result<Vec<(ChunkId, u64, u32)>> {
    debug_assert!(matches!(part.kind, PartKind::Tensor(_)));
    let most = chunking.tensor_len(info.dtype);
    let one = |no: u64| -> Result<(ChunkId, u64, u32)> {
        components.cancel.check()?;
        let start = no * most;
        let len = most.min(part.len - start);
        let raw = mmh_formats::read_vec(source, part.offset + start, len)?;
        components.progress.advance(len);
        let len = u32::try_from(len).expect("chunks are shorter than 4 GiB");
        Ok((ChunkId::of(&raw), part.offset + start, len))
    };
    let all = || {
        (0..part.len.div_ceil(most))
            .into_par_iter()
            .map(one)
            .collect()
    };
    components.pool.install(all)
}

impl ChunkSource for Outside {
    fn locate(&self, id: &ChunkId) -> mmh_store::Result<Option<ChunkInfo>> {
        Ok(self.chunks.get(id).map(|place| ChunkInfo {
            pack: None,
            offset: place.offset,
            stored_len: place.len,
            raw_len: place.len,
            method: 0,
        }))
    }

    fn get(&self, id: &ChunkId) -> mmh_store::Result<Verified<Bytes>> {
        let missing = || mmh_store::Error::NoSuchChunk { chunk: *id };
        let place = self.chunks.get(id).ok_or_else(missing)?;
        let (path, source) = &self.files[place.file];
        let mut raw = vec![0; place.len as usize];
        let read = source.read_exact_at(&mut raw, place.offset);
        read.map_err(|source| mmh_store::Error::Io {
            place: path.display().to_string(),
            source,
        })?;
        Ok(Verified::chunk(id, raw.into())?)
    }

    fn references(&self, id: &ChunkId) -> mmh_store::Result<References> {
        let known = self.chunks.contains_key(id);
        let missing = mmh_store::Error::NoSuchChunk { chunk: *id };
        known.then(References::default).ok_or(missing)
    }
}
