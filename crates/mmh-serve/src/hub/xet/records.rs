//! What is remembered of files so that clients can fetch them by Xet, and build on their chunks: which
//! chunks each is made of, as xorbs that follow one another in the file and are not stored.
//!
//! Records lie in the note `xet` of a name (FORMAT.md, "Notes of Xet"), which keeps the files too.

use mmh_core::tree::Node;
use mmh_core::{Digest, FileId};
use mmh_repo::{Error, Note, NoteEditor, Repository, Result};
use mmh_xet::{Leaf, Term, Tree, VirtualXorb, XORB_CHUNKS_MAX, XORB_LEN_MAX, XetHash, xorb_hash};

use mmh_core::name::RepoName;

use crate::hub::commits::hex;
use crate::hub::uploads::{LEAF_LEN, leaf_bytes, leaf_of};

/// The note that records are in.
pub(crate) const DOOR: &str = "xet";
/// Most xorbs of a file: 4 TiB. Longer ones have no records.
pub(crate) const XORBS_MAX: usize = 1 << 16;
/// Bytes of what stands before a xorb's chunks, and of each xorb of a file.
const HEAD_LEN: usize = 40;
/// Bytes of a part of a xorb that was sent.
const PART_LEN: usize = 44;

/// A file: which xorbs follow one another in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Made {
    pub(crate) file: FileId,
    pub(crate) size: u64,
    pub(crate) xorbs: Vec<OfFile>,
}

/// A xorb of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OfFile {
    pub(crate) hash: XetHash,
    pub(crate) n_chunks: u32,
    pub(crate) raw_len: u32,
}

/// A xorb: where its bytes begin in which file, and its chunks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) file: FileId,
    pub(crate) at: u64,
    pub(crate) leaves: Vec<Leaf>,
}

/// Chunks of a xorb that a client sent: which chunks of a xorb of a file they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    /// The first of them in the xorb that was sent.
    pub(crate) at: u32,
    pub(crate) n: u32,
    /// The xorb of a file, and the first of them there.
    pub(crate) xorb: XetHash,
    pub(crate) first: u32,
}

/// Which kind of thing a path of the note is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A file, by its id: itself.
    Files,
    /// A file, by its id: a link to its hash.
    Hashes,
    /// A file, by its hash: [`Made`].
    Made,
    /// A xorb of a file, by its hash: [`Run`].
    Xorbs,
    /// A xorb that a client sent, by its hash: [`Part`]s.
    Parts,
    /// A chunk that may be asked for, by its hash: a link to its xorb.
    Shared,
    /// A file that no branch or tag has, by its id: a link to since when.
    Gone,
}

impl Kind {
    pub(crate) fn folder(self) -> &'static str {
        match self {
            Self::Files => "files",
            Self::Hashes => "hashes",
            Self::Made => "made",
            Self::Xorbs => "xorbs",
            Self::Parts => "parts",
            Self::Shared => "shared",
            Self::Gone => "gone",
        }
    }

    /// Where it lies, by its text.
    pub(crate) fn at(self, text: &str) -> String {
        let fan = text.get(..2).unwrap_or(text);
        format!("{}/{fan}/{text}", self.folder())
    }

    pub(crate) fn of(self, hash: &XetHash) -> String {
        self.at(&hash.to_string())
    }

    pub(crate) fn of_file(self, file: &FileId) -> String {
        self.at(&hex(file.digest().as_bytes()))
    }
}

/// Reads numbers and hashes off the front of a record.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn file(&mut self) -> Option<FileId> {
        let digest = self.array().map(Digest::from_bytes)?;
        Some(FileId::from_digest(digest))
    }

    fn hash(&mut self) -> Option<XetHash> {
        self.array().map(XetHash::from_bytes)
    }
}

impl Made {
    fn write(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEAD_LEN * (1 + self.xorbs.len()));
        out.extend(self.file.digest().as_bytes());
        out.extend(self.size.to_le_bytes());
        for xorb in &self.xorbs {
            out.extend(xorb.hash.as_bytes());
            out.extend(xorb.n_chunks.to_le_bytes());
            out.extend(xorb.raw_len.to_le_bytes());
        }
        out
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        let (file, size) = (fields.file()?, fields.u64()?);
        if !bytes.len().is_multiple_of(HEAD_LEN) || bytes.len() / HEAD_LEN > XORBS_MAX + 1 {
            return None;
        }
        let mut xorbs = Vec::with_capacity(bytes.len() / HEAD_LEN - 1);
        while !fields.0.is_empty() {
            xorbs.push(OfFile {
                hash: fields.hash()?,
                n_chunks: fields.u32()?,
                raw_len: fields.u32()?,
            });
        }
        let len: u64 = xorbs.iter().map(|xorb| u64::from(xorb.raw_len)).sum();
        (len == size).then_some(Self { file, size, xorbs })
    }

    /// The file as runs of chunks of its xorbs.
    pub(crate) fn terms(&self) -> Vec<Term> {
        let term = |xorb: &OfFile| Term {
            xorb: xorb.hash,
            chunks: 0..xorb.n_chunks,
            raw_len: u64::from(xorb.raw_len),
        };
        self.xorbs.iter().map(term).collect()
    }
}

impl Run {
    fn write(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEAD_LEN + LEAF_LEN * self.leaves.len());
        out.extend(self.file.digest().as_bytes());
        out.extend(self.at.to_le_bytes());
        out.extend(self.leaves.iter().flat_map(leaf_bytes));
        out
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        let (file, at) = (fields.file()?, fields.u64()?);
        let (entries, rest) = fields.0.as_chunks::<LEAF_LEN>();
        let fits = rest.is_empty() && entries.len() <= XORB_CHUNKS_MAX;
        let leaves = entries.iter().map(leaf_of).collect();
        fits.then_some(Self { file, at, leaves })
    }

    /// The xorb as clients fetch it.
    pub(crate) fn as_xorb(&self) -> mmh_xet::Result<VirtualXorb> {
        let len = |leaf: &Leaf| u32::try_from(leaf.1).unwrap_or(u32::MAX);
        VirtualXorb::new(self.leaves.iter().map(len))
    }
}

fn write_parts(parts: &[Part]) -> Vec<u8> {
    let mut out = Vec::with_capacity(PART_LEN * parts.len());
    for part in parts {
        out.extend(part.at.to_le_bytes());
        out.extend(part.n.to_le_bytes());
        out.extend(part.xorb.as_bytes());
        out.extend(part.first.to_le_bytes());
    }
    out
}

/// Parts in order, none of which overlap.
fn read_parts(bytes: &[u8]) -> Option<Vec<Part>> {
    let (mut fields, mut parts, mut end) = (Fields(bytes), Vec::new(), 0);
    while !fields.0.is_empty() {
        let part = Part {
            at: fields.u32()?,
            n: fields.u32()?,
            xorb: fields.hash()?,
            first: fields.u32()?,
        };
        let most = XORB_CHUNKS_MAX as u64;
        let fits = |first: u32| u64::from(first) + u64::from(part.n) <= most;
        if part.n == 0 || part.at < end || !fits(part.at) || !fits(part.first) {
            return None;
        }
        end = part.at + part.n;
        parts.push(part);
    }
    Some(parts)
}

/// The records of a name, as they are now.
#[derive(Debug)]
pub(crate) struct Records<'a> {
    repo: &'a Repository,
    note: Note,
}

fn damaged(path: &str) -> Error {
    Error::Corrupt(format!("the record {path} of the note {DOOR}"))
}

impl<'a> Records<'a> {
    /// The records of a name; `None` if there are none.
    ///
    /// # Errors
    /// Those of reading.
    pub(crate) fn of(repo: &'a Repository, name: &RepoName) -> Result<Option<Self>> {
        let note = repo.note(name, DOOR)?;
        Ok(note.map(|note| Self { repo, note }))
    }

    pub(crate) fn note(&self) -> &Note {
        &self.note
    }

    fn read<T>(&self, path: &str, read: impl FnOnce(&[u8]) -> Option<T>) -> Result<Option<T>> {
        let bytes = self.repo.note_record(&self.note, path)?;
        let read = |bytes: Vec<u8>| read(&bytes).ok_or_else(|| damaged(path));
        bytes.map(read).transpose()
    }

    /// The hash of a file, if it can be fetched by it.
    ///
    /// # Errors
    /// Those of reading; `Corrupt`.
    pub(crate) fn hash_of(&self, file: &FileId) -> Result<Option<XetHash>> {
        let hash = self.link(&Kind::Hashes.of_file(file))?;
        let Some(hash) = hash else {
            return Ok(None);
        };
        let made = self.repo.note_node(&self.note, &Kind::Made.of(&hash))?;
        Ok(made.map(|_| hash))
    }

    fn link(&self, path: &str) -> Result<Option<XetHash>> {
        match self.repo.note_node(&self.note, path)? {
            Some(Node::Link { target }) => {
                let hash = target.parse::<XetHash>();
                hash.map(Some).map_err(|_| damaged(path))
            }
            Some(_) => Err(damaged(path)),
            None => Ok(None),
        }
    }

    /// The file of a hash.
    ///
    /// # Errors
    /// Those of reading; `Corrupt`.
    pub(crate) fn made(&self, hash: &XetHash) -> Result<Option<Made>> {
        self.read(&Kind::Made.of(hash), Made::read)
    }

    /// A xorb of a file.
    ///
    /// # Errors
    /// Those of reading; `Corrupt`.
    pub(crate) fn run(&self, xorb: &XetHash) -> Result<Option<Run>> {
        self.read(&Kind::Xorbs.of(xorb), Run::read)
    }

    /// What is here of a xorb that a client sent.
    ///
    /// # Errors
    /// Those of reading; `Corrupt`.
    pub(crate) fn parts(&self, xorb: &XetHash) -> Result<Option<Vec<Part>>> {
        self.read(&Kind::Parts.of(xorb), read_parts)
    }

    /// The xorb of a file that a chunk is in, if that may be asked for.
    ///
    /// # Errors
    /// Those of reading; `Corrupt`.
    pub(crate) fn shared(&self, chunk: &XetHash) -> Result<Option<XetHash>> {
        self.link(&Kind::Shared.of(chunk))
    }
}

/// What an editor of the note has of a kind that is read.
pub(crate) fn parts_in(editor: &NoteEditor<'_>, xorb: &XetHash) -> Result<Vec<Part>> {
    let path = Kind::Parts.of(xorb);
    match editor.record(&path)? {
        Some(bytes) => read_parts(&bytes).ok_or_else(|| damaged(&path)),
        None => Ok(Vec::new()),
    }
}

/// As [`parts_in`], of a file.
pub(crate) fn made_in(editor: &NoteEditor<'_>, hash: &XetHash) -> Result<Option<Made>> {
    let path = Kind::Made.of(hash);
    let read = |bytes: Vec<u8>| Made::read(&bytes).ok_or_else(|| damaged(&path));
    editor.record(&path)?.map(read).transpose()
}

/// As [`parts_in`], of a xorb of a file.
pub(crate) fn run_in(editor: &NoteEditor<'_>, xorb: &XetHash) -> Result<Option<Run>> {
    let path = Kind::Xorbs.of(xorb);
    let read = |bytes: Vec<u8>| Run::read(&bytes).ok_or_else(|| damaged(&path));
    editor.record(&path)?.map(read).transpose()
}

/// As [`parts_in`], of a link to a hash.
pub(crate) fn link_in(editor: &NoteEditor<'_>, path: &str) -> Result<Option<XetHash>> {
    match editor.node(path)? {
        Some(Node::Link { target }) => {
            let hash = target.parse::<XetHash>();
            hash.map(Some).map_err(|_| damaged(path))
        }
        _ => Ok(None),
    }
}

/// Puts a file down.
pub(crate) fn put_made(editor: &mut NoteEditor<'_>, hash: &XetHash, made: &Made) -> Result<()> {
    editor.write(Kind::Made.of(hash), made.write())
}

/// Puts a xorb of a file down.
pub(crate) fn put_run(editor: &mut NoteEditor<'_>, xorb: &XetHash, run: &Run) -> Result<()> {
    editor.write(Kind::Xorbs.of(xorb), run.write())
}

/// Puts parts of a xorb down; none removes it.
pub(crate) fn put_parts(editor: &mut NoteEditor<'_>, xorb: &XetHash, parts: &[Part]) -> Result<()> {
    let path = Kind::Parts.of(xorb);
    match parts.is_empty() {
        true => editor.remove(path),
        false => editor.write(path, write_parts(parts)),
    }
}

/// The records of one file while its chunks are told. Holds those of one xorb.
pub(crate) struct Builder<'a, 'b> {
    editor: &'a mut NoteEditor<'b>,
    file: FileId,
    size: u64,
    at: u64,
    raw_len: u64,
    leaves: Vec<Leaf>,
    tree: Tree,
    xorbs: Vec<OfFile>,
}

impl<'a, 'b> Builder<'a, 'b> {
    pub(crate) fn new(editor: &'a mut NoteEditor<'b>, file: FileId, size: u64) -> Self {
        Self {
            editor,
            file,
            size,
            at: 0,
            raw_len: 0,
            leaves: Vec::new(),
            tree: Tree::default(),
            xorbs: Vec::new(),
        }
    }

    /// The next chunk.
    ///
    /// # Errors
    /// `Invalid` for a file of too many; those of storing.
    pub(crate) fn push(&mut self, leaf: Leaf) -> Result<()> {
        let full = self.raw_len + leaf.1 > XORB_LEN_MAX as u64;
        if full || self.leaves.len() == XORB_CHUNKS_MAX {
            self.end_xorb()?;
        }
        self.tree.push(leaf);
        self.raw_len += leaf.1;
        self.leaves.push(leaf);
        Ok(())
    }

    fn end_xorb(&mut self) -> Result<()> {
        let leaves = std::mem::take(&mut self.leaves);
        if leaves.is_empty() {
            return Ok(());
        }
        if self.xorbs.len() == XORBS_MAX {
            let text = format!("a file of more than {XORBS_MAX} xorbs");
            return Err(Error::Invalid(text));
        }
        let hash = xorb_hash(&leaves);
        // The first of a file may be asked for too.
        let first = self.xorbs.is_empty();
        let shared = leaves.iter().enumerate();
        let shared = shared.filter(|(i, leaf)| leaf.0.is_shared() || first && *i == 0);
        for (_, leaf) in shared {
            let target = hash.to_string();
            self.editor
                .put(Kind::Shared.of(&leaf.0), Node::Link { target });
        }
        let count = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        self.xorbs.push(OfFile {
            hash,
            n_chunks: count(leaves.len() as u64),
            raw_len: count(self.raw_len),
        });
        let run = Run {
            file: self.file,
            at: self.at,
            leaves,
        };
        put_run(self.editor, &hash, &run)?;
        self.at += std::mem::take(&mut self.raw_len);
        Ok(())
    }

    /// All were told; gives the xorbs.
    ///
    /// # Errors
    /// `Invalid` if they are not as long as the file; those of storing.
    pub(crate) fn finish(mut self) -> Result<Vec<OfFile>> {
        self.end_xorb()?;
        if self.at != self.size || self.xorbs.is_empty() {
            let text = format!("chunks of {} bytes for a file of {}", self.at, self.size);
            return Err(Error::Invalid(text));
        }
        let hash = self.tree.file_hash();
        let made = Made {
            file: self.file,
            size: self.size,
            xorbs: self.xorbs,
        };
        put_made(self.editor, &hash, &made)?;
        let target = hash.to_string();
        self.editor
            .put(Kind::Hashes.of_file(&self.file), Node::Link { target });
        let (id, size, executable) = (self.file, self.size, false);
        let node = Node::File {
            id,
            size,
            executable,
        };
        self.editor.put(Kind::Files.of_file(&self.file), node);
        self.editor.remove(Kind::Gone.of_file(&self.file))?;
        Ok(made.xorbs)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hash(n: u32) -> XetHash {
        XetHash::of_chunk(&n.to_le_bytes())
    }

    #[test]
    fn records_come_back_and_broken_ones_do_not() {
        let made = Made {
            file: FileId::of(b"f"),
            size: 12,
            xorbs: [5, 7]
                .map(|raw_len| OfFile {
                    hash: hash(raw_len),
                    n_chunks: 2,
                    raw_len,
                })
                .to_vec(),
        };
        let bytes = made.write();
        assert_eq!(Made::read(&bytes), Some(made.clone()));
        assert_eq!(made.terms().len(), 2);
        for cut in 0..bytes.len() {
            assert_eq!(Made::read(&bytes[..cut]), None, "{cut}");
        }
        let run = Run {
            file: FileId::of(b"f"),
            at: 5,
            leaves: vec![(hash(1), 1), (hash(2), 131_072)],
        };
        let bytes = run.write();
        assert_eq!(Run::read(&bytes), Some(run.clone()));
        assert_eq!(run.as_xorb().unwrap().n_chunks(), 2);
        for cut in
            (0..bytes.len()).filter(|cut| *cut < HEAD_LEN || !(cut - HEAD_LEN).is_multiple_of(36))
        {
            assert_eq!(Run::read(&bytes[..cut]), None, "{cut}");
        }
        let empty = Run {
            leaves: Vec::new(),
            ..run
        };
        assert!(empty.as_xorb().is_err());
    }

    #[test]
    fn parts_are_in_order_and_within_xorbs() {
        let part = |at: u32, n: u32, first: u32| Part {
            at,
            n,
            xorb: hash(9),
            first,
        };
        let good = vec![part(0, 2, 5), part(2, 1, 0), part(9, 8183, 9)];
        let bytes = write_parts(&good);
        assert_eq!(read_parts(&bytes), Some(good));
        for cut in (0..bytes.len()).filter(|cut| !cut.is_multiple_of(PART_LEN)) {
            assert_eq!(read_parts(&bytes[..cut]), None, "{cut}");
        }
        for bad in [
            vec![part(0, 0, 0)],
            vec![part(0, 2, 0), part(1, 2, 0)],
            vec![part(0, 8193, 0)],
            vec![part(1, u32::MAX, 0)],
            vec![part(0, 2, 8191)],
        ] {
            assert_eq!(read_parts(&write_parts(&bad)), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes: Vec<u8>) {
            if let Some(made) = Made::read(&bytes) {
                prop_assert_eq!(made.write(), &bytes[..]);
            }
            if let Some(run) = Run::read(&bytes) {
                prop_assert_eq!(run.write(), &bytes[..]);
            }
            if let Some(parts) = read_parts(&bytes) {
                prop_assert_eq!(write_parts(&parts), &bytes[..]);
            }
        }
    }
}
