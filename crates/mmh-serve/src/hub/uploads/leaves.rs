//! Which chunks of Xet an upload is made of, kept beside it until a commit wants both.
//!
//! The number of runs of chunks that a client referred to (four bytes, little-endian), then 40 bytes
//! for each (hash of the xorb, first chunk, and one after the last); then 36 bytes for each chunk of
//! the file (hash, and length in four bytes).

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read as _, Write as _};
use std::ops::Range;
use std::path::Path;

use mmh_xet::{Chunker, Leaf, XetHash};

use super::Removed;
use crate::hub::fail::{Outcome, of_io};

/// Bytes of an entry for a chunk.
pub(crate) const LEAF_LEN: usize = 36;
/// Bytes of an entry for a run.
const RUN_LEN: usize = 40;

/// A run of chunks of a xorb that a client referred to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Referred {
    pub(crate) xorb: XetHash,
    pub(crate) chunks: Range<u32>,
}

/// The entry of a chunk; no chunk is as long as 4 GiB.
pub(crate) fn leaf_bytes((hash, len): &Leaf) -> [u8; LEAF_LEN] {
    let mut bytes = [0; LEAF_LEN];
    bytes[..32].copy_from_slice(hash.as_bytes());
    let len = u32::try_from(*len).unwrap_or(u32::MAX);
    bytes[32..].copy_from_slice(&len.to_le_bytes());
    bytes
}

/// The chunk of an entry.
pub(crate) fn leaf_of(entry: &[u8; LEAF_LEN]) -> Leaf {
    let (hash, len) = entry.split_at(32);
    let (mut bytes, mut number) = ([0; 32], [0; 4]);
    bytes.copy_from_slice(hash);
    number.copy_from_slice(len);
    let len = u32::from_le_bytes(number);
    (XetHash::from_bytes(bytes), u64::from(len))
}

/// A list that is being written.
#[derive(Debug)]
pub(crate) struct LeavesWriter {
    out: BufWriter<File>,
    path: Removed,
    /// What cuts the bytes, if nobody says where the chunks are.
    chunker: Option<Chunker>,
    failed: io::Result<()>,
}

impl LeavesWriter {
    /// Begins a list at that place, of chunks that are told; or that are cut out of the bytes, if
    /// `told` is `None`.
    pub(crate) fn create(path: Removed, told: Option<&[Referred]>) -> Outcome<Self> {
        let begin = || {
            let mut out = BufWriter::new(File::create_new(path.path())?);
            let runs = told.unwrap_or_default();
            let count = u32::try_from(runs.len()).map_err(io::Error::other)?;
            out.write_all(&count.to_le_bytes())?;
            for run in runs {
                out.write_all(run.xorb.as_bytes())?;
                out.write_all(&run.chunks.start.to_le_bytes())?;
                out.write_all(&run.chunks.end.to_le_bytes())?;
            }
            Ok(out)
        };
        let out = begin().map_err(of_io("keep an upload"))?;
        Ok(Self {
            out,
            path,
            chunker: told.is_none().then(Chunker::default),
            failed: Ok(()),
        })
    }

    /// The next chunk.
    pub(crate) fn leaf(&mut self, leaf: &Leaf) -> Outcome<()> {
        let written = self.out.write_all(&leaf_bytes(leaf));
        written.map_err(of_io("keep an upload"))
    }

    /// The next bytes, out of which chunks are cut unless they are told.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Outcome<()> {
        let Some(chunker) = &mut self.chunker else {
            return Ok(());
        };
        let (out, failed) = (&mut self.out, &mut self.failed);
        chunker.push(bytes, &mut |chunk| put_cut(out, failed, chunk));
        self.check()
    }

    fn check(&mut self) -> Outcome<()> {
        let failed = std::mem::replace(&mut self.failed, Ok(()));
        failed.map_err(of_io("keep an upload"))
    }

    /// All came: the list is whole at its place, for as long as what is returned.
    pub(crate) fn finish(mut self) -> Outcome<Removed> {
        if let Some(chunker) = self.chunker.take() {
            let (out, failed) = (&mut self.out, &mut self.failed);
            chunker.finish(&mut |chunk| put_cut(out, failed, chunk));
            self.check()?;
        }
        self.out.flush().map_err(of_io("keep an upload"))?;
        Ok(self.path)
    }
}

fn put_cut(out: &mut BufWriter<File>, failed: &mut io::Result<()>, chunk: &[u8]) {
    if failed.is_ok() {
        let leaf = (XetHash::of_chunk(chunk), chunk.len() as u64);
        *failed = out.write_all(&leaf_bytes(&leaf));
    }
}

/// Reads a list: gives the runs, and hands each chunk on.
///
/// # Errors
/// Those of reading; `InvalidData` for what is no list; those of `take`.
pub(crate) fn read_list(
    path: &Path,
    take: &mut dyn FnMut(Leaf) -> io::Result<()>,
) -> io::Result<Vec<Referred>> {
    let file = File::open(path)?;
    let len = file.metadata()?.len();
    let mut file = BufReader::new(file);
    let mut count = [0; 4];
    file.read_exact(&mut count)?;
    let count = u32::from_le_bytes(count);
    let rest = (len - 4).checked_sub(u64::from(count) * RUN_LEN as u64);
    if rest.is_none_or(|rest| !rest.is_multiple_of(LEAF_LEN as u64)) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut runs = Vec::new();
    for _ in 0..count {
        let (mut hash, mut start, mut end) = ([0; 32], [0; 4], [0; 4]);
        file.read_exact(&mut hash)?;
        file.read_exact(&mut start)?;
        file.read_exact(&mut end)?;
        runs.push(Referred {
            xorb: XetHash::from_bytes(hash),
            chunks: u32::from_le_bytes(start)..u32::from_le_bytes(end),
        });
    }
    for _ in 0..rest.unwrap_or_default() / LEAF_LEN as u64 {
        let mut entry = [0; LEAF_LEN];
        file.read_exact(&mut entry)?;
        take(leaf_of(&entry))?;
    }
    Ok(runs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &Path) -> io::Result<(Vec<Referred>, Vec<Leaf>)> {
        let mut leaves = Vec::new();
        let runs = read_list(path, &mut |leaf| {
            leaves.push(leaf);
            Ok(())
        })?;
        Ok((runs, leaves))
    }

    #[test]
    fn what_is_told_comes_back_and_bytes_change_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().join("list");
        let runs = [Referred {
            xorb: XetHash::of_chunk(b"x"),
            chunks: 3..5,
        }];
        let leaves = [
            (XetHash::of_chunk(b"a"), 1),
            (XetHash::of_chunk(b"bc"), 131_072),
        ];
        let mut writer = LeavesWriter::create(Removed(at.clone()), Some(&runs)).unwrap();
        for leaf in &leaves {
            writer.leaf(leaf).unwrap();
            writer.bytes(b"whatever").unwrap();
        }
        let kept = writer.finish().unwrap();
        assert_eq!(read(&at).unwrap(), (runs.to_vec(), leaves.to_vec()));
        let bytes = std::fs::read(&at).unwrap();
        for cut in (0..bytes.len()).filter(|cut| *cut < 44 || !(cut - 44).is_multiple_of(LEAF_LEN))
        {
            std::fs::write(&at, &bytes[..cut]).unwrap();
            read(&at).unwrap_err();
        }
        drop(kept);
        assert!(!at.exists());
    }

    #[test]
    fn bytes_are_cut_as_clients_cut_them() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().join("list");
        let mut bytes = vec![0; 300_000];
        blake3::Hasher::new().finalize_xof().fill(&mut bytes);
        let mut writer = LeavesWriter::create(Removed(at.clone()), None).unwrap();
        for piece in bytes.chunks(7_777) {
            writer.bytes(piece).unwrap();
        }
        let _kept = writer.finish().unwrap();
        let (runs, leaves) = read(&at).unwrap();
        assert_eq!(runs, []);
        let (mut rest, mut expected) = (&bytes[..], Vec::new());
        while !rest.is_empty() {
            let (chunk, after) = rest.split_at(mmh_xet::cut(rest));
            expected.push((XetHash::of_chunk(chunk), chunk.len() as u64));
            rest = after;
        }
        assert_eq!(leaves, expected);
    }
}
