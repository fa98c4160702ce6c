//! Xorbs that clients sent and that no commit made part of the repository yet, `xorbs/NAME/HASH`; and
//! the addresses that they were sent to.
//!
//! A xorb lies there unpacked: the bytes of its chunks, then 36 bytes for each of them (hash, and
//! length in four bytes, little-endian), then how many they are, in four bytes.
//!
//! Clients remember for three weeks which xorbs an address has. So a name has one address for as long
//! as all that was sent to it can be found, and another one after something of it was thrown away.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, UNIX_EPOCH};

use axum::http::StatusCode;
use mmh_core::name::RepoName;
use mmh_xet::{Leaf, Segment, Span, XORB_CHUNKS_MAX, XetHash, Xorb};

use super::leaves::{LEAF_LEN, leaf_bytes, leaf_of};
use super::{KEPT, Removed, Uploads, folder_of};
use crate::error::random;
use crate::hub::commits::{hex, unhex};
use crate::hub::fail::{Fail, Outcome, of_io};

/// Bytes of the number of chunks.
const COUNT_LEN: usize = 4;
/// Bytes that are copied at once.
const PIECE_LEN: u64 = 1 << 20;

/// Part of the place to which xorbs of a name are sent.
pub(crate) type Address = [u8; 16];

/// The xorbs that were sent for one name.
#[derive(Debug)]
pub(crate) struct Xorbs<'a> {
    uploads: &'a Uploads,
    folder: PathBuf,
}

/// A xorb that is read.
#[derive(Debug)]
pub(crate) struct Open {
    file: File,
    leaves: Vec<Leaf>,
}

impl Uploads {
    /// The xorbs of a name.
    pub(crate) fn xorbs(&self, name: &RepoName) -> Xorbs<'_> {
        Xorbs {
            uploads: self,
            folder: self.root.join("xorbs").join(folder_of(name)),
        }
    }

    /// Where xorbs of a name are sent now.
    ///
    /// # Errors
    /// Those of the folder; 503 without random bytes.
    pub(crate) fn address(&self, name: &RepoName) -> Outcome<Address> {
        let _one_at_a_time = self.addresses();
        let at = self.root.join("addresses").join(folder_of(name));
        let text = fs::read_to_string(&at).ok();
        if let Some(address) = text.and_then(|text| unhex(&text)) {
            return Ok(address);
        }
        let address = random::<16>();
        let address = address
            .map_err(|error| Fail::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string()))?;
        let new = Removed(self.root.join("arriving").join(self.unique()?));
        let written = fs::write(new.path(), hex(&address))
            .and_then(|()| File::open(new.path())?.sync_all())
            .and_then(|()| fs::rename(new.path(), at));
        written.map_err(of_io("keep an address"))?;
        Ok(address)
    }

    /// What was sent to this address of a name is not all there any more: clients get another one.
    pub(crate) fn give_up(&self, name: &RepoName, address: &Address) {
        let _one_at_a_time = self.addresses();
        let at = self.root.join("addresses").join(folder_of(name));
        let text = fs::read_to_string(&at).ok();
        if text.and_then(|text| unhex(&text)).as_ref() == Some(address) {
            fs::remove_file(at).ok();
        }
    }

    /// The name was made or went: whatever clients remember of it does not hold.
    pub(crate) fn give_up_all(&self, name: &RepoName) {
        let _one_at_a_time = self.addresses();
        let at = self.root.join("addresses").join(folder_of(name));
        fs::remove_file(at).ok();
    }

    /// Throws away xorbs that no commit wanted in time, and gives their room back.
    pub(crate) fn end_xorbs(&self) -> Outcome<()> {
        let mut freed = 0;
        let swept = self.sweep_xorbs(&mut freed);
        self.used.fetch_sub(freed, Ordering::Relaxed);
        match swept {
            // Another request ends them too.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            swept => swept.map(drop).map_err(of_io("throw xorbs away")),
        }
    }

    /// Throws away old xorbs: how many bytes are left; and how many went, also where it fails.
    pub(super) fn sweep_xorbs(&self, freed: &mut u64) -> io::Result<u64> {
        let now = Duration::from_millis(self.clock.now_ms());
        let mut kept = 0;
        for of_name in fs::read_dir(self.root.join("xorbs"))? {
            let of_name = of_name?;
            for xorb in fs::read_dir(of_name.path())? {
                let xorb = xorb?;
                let meta = xorb.metadata()?;
                let last = meta.modified()?.duration_since(UNIX_EPOCH);
                if last.unwrap_or_default() + KEPT >= now {
                    kept += meta.len();
                    continue;
                }
                {
                    let _one_at_a_time = self.addresses();
                    let address = self.root.join("addresses").join(of_name.file_name());
                    fs::remove_file(address).ok();
                }
                // Another request may have been faster.
                if fs::remove_file(xorb.path()).is_ok() {
                    *freed += meta.len();
                }
            }
        }
        Ok(kept)
    }
}

impl Xorbs<'_> {
    fn at(&self, hash: &XetHash) -> PathBuf {
        self.folder.join(hash.to_string())
    }

    /// Takes a xorb in, if it has the hash that it should have; says whether it is new.
    pub(crate) fn put(&self, bytes: &[u8], claimed: XetHash) -> Outcome<bool> {
        let xorb = Xorb::read_claimed(bytes, claimed).map_err(of_xet)?;
        let to = self.at(&claimed);
        if self.touch(&to) {
            return Ok(false);
        }
        let spans = xorb.spans();
        let raw_len: u64 = spans.iter().map(|span| u64::from(span.raw_len)).sum();
        let room = self
            .uploads
            .room(raw_len + (spans.len() * LEAF_LEN + COUNT_LEN) as u64)?;
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
        self.touch(&to);
        let folder = File::open(&self.folder).map_err(failed())?;
        folder.sync_all().map_err(failed())?;
        Ok(true)
    }

    /// Opens a xorb, which stays for its time again; `None` if it is not here.
    pub(crate) fn open(&self, hash: &XetHash) -> Outcome<Option<Open>> {
        let at = self.at(hash);
        let file = match File::open(&at) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(of_io("read a xorb"))?,
        };
        self.touch(&at);
        let leaves = read_leaves(&file).map_err(of_io("read a xorb"))?;
        Ok(Some(Open { file, leaves }))
    }

    /// How many chunks a xorb has; `None` if it is not here.
    pub(crate) fn n_chunks(&self, hash: &XetHash) -> Option<usize> {
        let open = self.open(hash).ok()??;
        Some(open.leaves.len())
    }

    /// The repository has all of a xorb.
    pub(crate) fn done(&self, hash: &XetHash) {
        let at = self.at(hash);
        let Ok(meta) = fs::metadata(&at) else {
            return;
        };
        // Another commit may have been faster.
        if fs::remove_file(at).is_ok() {
            self.uploads.used.fetch_sub(meta.len(), Ordering::Relaxed);
        }
    }

    /// A xorb is wanted: its time begins again. Says whether it is there.
    fn touch(&self, at: &Path) -> bool {
        let now = UNIX_EPOCH + Duration::from_millis(self.uploads.clock.now_ms());
        let file = File::options().write(true).open(at);
        file.and_then(|file| file.set_modified(now)).is_ok()
    }
}

impl Open {
    pub(crate) fn leaves(&self) -> &[Leaf] {
        &self.leaves
    }

    /// Reads the bytes of a segment that is known to be there.
    pub(crate) fn copy(
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
        out.write_all(&leaf_bytes(&span.leaf())).map_err(failed())?;
    }
    let count = u32::try_from(spans.len()).unwrap_or(u32::MAX);
    out.write_all(&count.to_le_bytes()).map_err(failed())?;
    out.flush().map_err(failed())
}

fn read_leaves(mut file: &File) -> io::Result<Vec<Leaf>> {
    let bad = || io::Error::new(io::ErrorKind::InvalidData, "a xorb was changed");
    let end = file.seek(SeekFrom::End(0))?;
    let count_at = end.checked_sub(COUNT_LEN as u64).ok_or_else(bad)?;
    file.seek(SeekFrom::Start(count_at))?;
    let mut count = [0; COUNT_LEN];
    file.read_exact(&mut count)?;
    let count = u32::from_le_bytes(count) as usize;
    let len = count * LEAF_LEN;
    let start = count_at.checked_sub(len as u64).ok_or_else(bad)?;
    if count > XORB_CHUNKS_MAX {
        return Err(bad());
    }
    file.seek(SeekFrom::Start(start))?;
    let mut table = vec![0; len];
    file.read_exact(&mut table)?;
    let (entries, _) = table.as_chunks::<LEAF_LEN>();
    let leaves: Vec<Leaf> = entries.iter().map(leaf_of).collect();
    match leaves.iter().map(|leaf| leaf.1).sum::<u64>() == start {
        true => Ok(leaves),
        false => Err(bad()),
    }
}

/// What clients said does not hold.
pub(crate) fn of_xet(error: mmh_xet::Error) -> Fail {
    Fail::invalid(error.to_string())
}
