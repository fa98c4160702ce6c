//! Xorbs that clients sent and that files will be put together from. Those of one session lie in a
//! folder of their own, `xorbs/NAME/SESSION/HASH`, and go when nothing came for a while.
//!
//! A xorb lies there unpacked: the bytes of its chunks, then 36 bytes for each of them (hash, and
//! length in four bytes, little-endian), then how many they are, in four bytes.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read as _, Seek as _, SeekFrom, Write as _};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::{Duration, UNIX_EPOCH};

use lru::LruCache;
use mmh_core::name::RepoName;
use mmh_xet::{FileInfo, Leaf, Segment, Span, Tree, XORB_CHUNKS_MAX, XetHash, Xorb};

use super::{Removed, Uploads};
use crate::hub::commits::hex;
use crate::hub::fail::{Fail, Outcome, of_io};

/// How long a session is kept after the last thing that came in it.
const IDLE: Duration = Duration::from_secs(60 * 60);
/// Bytes of an entry for a chunk.
const ENTRY_LEN: usize = 36;
/// Bytes of the number of chunks.
const COUNT_LEN: usize = 4;
/// Xorbs that are held open for one file, each with at most 330 KB of memory.
const OPEN_MAX: NonZeroUsize = NonZeroUsize::new(16).expect("it is not zero");
/// Bytes that are copied at once.
const PIECE_LEN: u64 = 1 << 20;

/// What one client sends for one name, from its token on.
#[derive(Debug)]
pub(crate) struct Session<'a> {
    uploads: &'a Uploads,
    name: &'a RepoName,
    folder: PathBuf,
}

/// A xorb that is read.
#[derive(Debug)]
struct Open {
    file: File,
    leaves: Vec<Leaf>,
}

impl Uploads {
    /// The session of that number.
    pub(crate) fn session<'a>(&'a self, name: &'a RepoName, number: &[u8; 16]) -> Session<'a> {
        let of_name = blake3::hash(name.as_str().as_bytes()).to_hex();
        let folder = self.root.join("xorbs").join(&of_name[..32]);
        Session {
            uploads: self,
            name,
            folder: folder.join(hex(number)),
        }
    }

    /// Throws away sessions that ended, and gives their room back.
    pub(crate) fn end_sessions(&self) -> Outcome<()> {
        let mut freed = 0;
        let swept = self.sweep_xorbs(&mut freed);
        self.used.fetch_sub(freed, Ordering::Relaxed);
        match swept {
            // Another request ends them too.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            swept => swept.map(drop).map_err(of_io("end a session")),
        }
    }

    /// Throws away sessions that ended: how many bytes are left; and how many went, also where it
    /// fails.
    pub(super) fn sweep_xorbs(&self, freed: &mut u64) -> io::Result<u64> {
        let now = Duration::from_millis(self.clock.now_ms());
        let mut kept = 0;
        for of_name in fs::read_dir(self.root.join("xorbs"))? {
            for session in fs::read_dir(of_name?.path())? {
                let session = session?.path();
                let last = fs::metadata(&session)?.modified()?;
                let last = last.duration_since(UNIX_EPOCH).unwrap_or_default();
                let ended = last + IDLE < now;
                for xorb in fs::read_dir(&session)? {
                    let xorb = xorb?;
                    let len = xorb.metadata()?.len();
                    match ended {
                        // Another request may have been faster.
                        true if fs::remove_file(xorb.path()).is_ok() => *freed += len,
                        true => {}
                        false => kept += len,
                    }
                }
                if ended {
                    // If something came meanwhile it is not empty, and stays.
                    fs::remove_dir(&session).ok();
                }
            }
        }
        Ok(kept)
    }
}

impl Session<'_> {
    /// Takes a xorb in, if it has the hash that it should have; says whether it is new.
    pub(crate) fn put(&self, bytes: &[u8], claimed: XetHash) -> Outcome<bool> {
        let xorb = Xorb::read_claimed(bytes, claimed).map_err(of_xet)?;
        let to = self.folder.join(claimed.to_string());
        if to.exists() {
            self.touch()?;
            return Ok(false);
        }
        let spans = xorb.spans();
        let raw_len: u64 = spans.iter().map(|span| u64::from(span.raw_len)).sum();
        let room = self
            .uploads
            .room(raw_len + (spans.len() * ENTRY_LEN + COUNT_LEN) as u64)?;
        let unique = self.uploads.unique()?;
        let path = Removed(self.uploads.root.join("arriving").join(unique));
        let failed = || of_io("keep a xorb");
        let file = File::create_new(path.path()).map_err(failed())?;
        write_unpacked(&file, bytes, spans)?;
        file.sync_all().map_err(failed())?;
        fs::create_dir_all(&self.folder).map_err(failed())?;
        match fs::hard_link(path.path(), &to) {
            Ok(()) => room.keep(),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
            Err(error) => return Err(failed()(error)),
        }
        let folder = File::open(&self.folder).map_err(failed())?;
        folder.sync_all().map_err(failed())?;
        Ok(true)
    }

    /// Puts a file together, compares all that is said of it with its chunks, and keeps it as an
    /// upload of its SHA-256.
    pub(crate) fn assemble(&self, file: &FileInfo) -> Outcome<()> {
        let sha256 = file.sha256;
        let sha256 = sha256.ok_or_else(|| Fail::invalid("a file comes without its SHA-256"))?;
        self.touch()?;
        let mut arriving = self.uploads.arrive(file.len())?;
        let mut tree = Tree::default();
        let mut opened = LruCache::new(OPEN_MAX);
        for segment in &file.segments {
            let xorb = opened.try_get_or_insert_mut(segment.xorb, || self.open(segment.xorb))?;
            let run = segment.run(&xorb.leaves).map_err(of_xet)?;
            run.iter().for_each(|leaf| tree.push(*leaf));
            xorb.copy(segment, &mut |bytes| arriving.write(bytes))?;
        }
        let found = tree.file_hash();
        if found != file.hash {
            let text = format!("the file has the hash {found}, not {}", file.hash);
            return Err(Fail::invalid(text));
        }
        arriving.finish(self.uploads, self.name, &sha256)?;
        self.touch()
    }

    fn open(&self, hash: XetHash) -> Outcome<Open> {
        let file = match File::open(self.folder.join(hash.to_string())) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(of_xet(mmh_xet::Error::UnknownXorb(hash)));
            }
            file => file.map_err(of_io("read a xorb"))?,
        };
        let leaves = read_leaves(&file).map_err(of_io("read a xorb"))?;
        Ok(Open { file, leaves })
    }

    /// Something came: the session goes on.
    fn touch(&self) -> Outcome<()> {
        let now = UNIX_EPOCH + Duration::from_millis(self.uploads.clock.now_ms());
        match File::open(&self.folder).and_then(|folder| folder.set_modified(now)) {
            // Nothing came in it yet.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            touched => touched.map_err(of_io("keep a session")),
        }
    }
}

impl Open {
    /// Reads the bytes of a segment that is known to be there.
    fn copy(
        &mut self,
        segment: &Segment,
        take: &mut dyn FnMut(&[u8]) -> Outcome<()>,
    ) -> Outcome<()> {
        let failed = || of_io("read a xorb");
        let before = self.leaves.iter().take(segment.chunks.start as usize);
        let start: u64 = before.map(|leaf| leaf.1).sum();
        self.file.seek(SeekFrom::Start(start)).map_err(failed())?;
        let (mut left, mut piece) = (u64::from(segment.raw_len), Vec::new());
        while left > 0 {
            piece.clear();
            let mut part = (&self.file).take(left.min(PIECE_LEN));
            let n = part.read_to_end(&mut piece).map_err(failed())?;
            if n == 0 {
                return Err(failed()(io::ErrorKind::UnexpectedEof.into()));
            }
            take(&piece)?;
            left -= n as u64;
        }
        Ok(())
    }
}

fn write_unpacked(file: &File, bytes: &[u8], spans: &[Span]) -> Outcome<()> {
    let failed = || of_io("keep a xorb");
    let mut out = BufWriter::new(file);
    for span in spans {
        let raw = span.unpack(bytes).map_err(of_xet)?;
        out.write_all(&raw).map_err(failed())?;
    }
    for span in spans {
        let entry = [&span.hash.as_bytes()[..], &span.raw_len.to_le_bytes()].concat();
        out.write_all(&entry).map_err(failed())?;
    }
    let count = u32::try_from(spans.len()).unwrap_or(u32::MAX);
    out.write_all(&count.to_le_bytes()).map_err(failed())?;
    out.flush().map_err(failed())
}

fn read_leaves(mut file: &File) -> io::Result<Vec<Leaf>> {
    let bad = || io::Error::new(io::ErrorKind::InvalidData, "a xorb was changed");
    let end = file
        .metadata()?
        .len()
        .checked_sub(COUNT_LEN as u64)
        .ok_or_else(bad)?;
    file.seek(SeekFrom::Start(end))?;
    let mut count = [0; COUNT_LEN];
    file.read_exact(&mut count)?;
    let count = u32::from_le_bytes(count) as usize;
    let len = count * ENTRY_LEN;
    let start = end.checked_sub(len as u64).ok_or_else(bad)?;
    if count > XORB_CHUNKS_MAX {
        return Err(bad());
    }
    file.seek(SeekFrom::Start(start))?;
    let mut table = vec![0; len];
    file.read_exact(&mut table)?;
    let (entries, _) = table.as_chunks::<ENTRY_LEN>();
    let leaf = |entry: &[u8; ENTRY_LEN]| {
        let (hash, len) = entry.split_first_chunk::<32>()?;
        let len = u32::from_le_bytes(len.try_into().ok()?);
        Some((XetHash::from_bytes(*hash), u64::from(len)))
    };
    let leaves: Option<Vec<Leaf>> = entries.iter().map(leaf).collect();
    let leaves = leaves.ok_or_else(bad)?;
    match leaves.iter().map(|leaf| leaf.1).sum::<u64>() == start {
        true => Ok(leaves),
        false => Err(bad()),
    }
}

/// What clients said does not hold.
pub(crate) fn of_xet(error: mmh_xet::Error) -> Fail {
    Fail::invalid(error.to_string())
}
