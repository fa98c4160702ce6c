//! The archive: one portable file that holds chunks, their index and named roots.
//!
//! Header, records and trailer are those of a pack without its limit on size; the footer is
//! sorted by id, so that a lookup reads one block of it. FORMAT.md, "Archives".

mod table;
mod write;

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use mmh_codec::References;
use mmh_codec::entropy::{Engine, best};
use mmh_core::canonical::{self, Canonical};
use mmh_core::name::RefName;
use mmh_core::ports::{Cancel, Progress};
use mmh_core::{ChunkId, Digest, PackId, SnapshotId, Verified};
use serde::{Deserialize, Serialize};

pub use table::fuzz_archive_table;
pub use write::ArchiveWriter;

use crate::buffer::Buffer;
use crate::chunk::{ChunkInfo, ChunkSource};
use crate::error::{Error, Result};
use crate::frame::{self, Found, Others};
use crate::pack::{
    ARCHIVE_ENTRY_LEN, Entry, FILE_MAGIC, FILE_VERSION, Flaw, HEADER_LEN, Kind, TRAILER_LEN,
    Trailer, parse_header,
};
use crate::reader::{check_record, info, record_references};
use crate::staging::read_exact_at;
use crate::verify::{Damage, VerifyReport, check_window, windows};
use table::{TABLE_BLOCK_LEN, TableScan, find, parse_entry};

/// The value `"archive"` of the `type` field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
enum RootTag {
    #[default]
    #[serde(rename = "archive")]
    Tag,
}

/// What follows the table in an archive's footer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Root {
    r#type: RootTag,
    /// The named roots.
    refs: BTreeMap<String, SnapshotId>,
}

impl Canonical for Root {
    const WHAT: &'static str = "archive";

    fn check(&self) -> mmh_core::Result<()> {
        self.refs
            .keys()
            .try_for_each(|name| name.parse::<RefName>().map(drop))
    }
}

/// Reads an archive. Holds 32 bytes of memory for every 256 chunks.
pub struct Archive {
    file: File,
    path: PathBuf,
    trailer: Trailer,
    /// First id of every block of the table.
    fences: Vec<ChunkId>,
    refs: Vec<(RefName, SnapshotId)>,
    /// Where chunks are looked for that are not in the file.
    bases: Option<Arc<dyn ChunkSource>>,
    engine: &'static dyn Engine,
}

impl fmt::Debug for Archive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Archive")
            .field("path", &self.path)
            .field("trailer", &self.trailer)
            .finish_non_exhaustive()
    }
}

impl Archive {
    /// Opens the archive at `path` and checks its footer; chunks are checked when they are read.
    ///
    /// # Errors
    /// NotFound; Invalid if it is no archive; Unsupported for a newer version; Corrupt.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref().to_owned();
        let place = path.display().to_string();
        let file = File::open(&path).map_err(Error::io(&place))?;
        let len = file.metadata().map_err(Error::io(&place))?.len();
        let not_one = |reason: &str| Error::NotAnArchive {
            place: place.clone(),
            reason: reason.into(),
        };
        if len < HEADER_LEN + TRAILER_LEN as u64 {
            return Err(not_one("it is too short"));
        }
        let header = read(&file, &place, 0, HEADER_LEN)?;
        if !header.starts_with(&FILE_MAGIC) {
            return Err(not_one("it does not begin with the magic bytes"));
        }
        let flaw = |flaw: Flaw| flawed(&place, flaw);
        parse_header(&header, Kind::Archive).map_err(flaw)?;
        let tail = read(&file, &place, len - TRAILER_LEN as u64, TRAILER_LEN as u64)?;
        let trailer = Trailer::parse(&tail, len).map_err(flaw)?;
        let (fences, root) = scan_footer(&file, &place, &trailer)?;
        let corrupt = |e: mmh_core::Error| flaw(e.to_string().into());
        let root: Root = canonical::decode(&root).map_err(corrupt)?;
        let named = |(name, id): (String, SnapshotId)| Ok((name.parse::<RefName>()?, id));
        let refs: mmh_core::Result<Vec<_>> = root.refs.into_iter().map(named).collect();
        Ok(Self {
            refs: refs.map_err(corrupt)?,
            file,
            path,
            trailer,
            fences,
            bases: None,
            engine: best(),
        })
    }

    /// Looks in `bases` too for chunks, and for what frames refer to: an archive that was made on
    /// top of other files does not hold what they have.
    #[must_use]
    pub fn with_bases(mut self, bases: Arc<dyn ChunkSource>) -> Self {
        self.bases = Some(bases);
        self
    }

    /// Decodes with this engine.
    #[must_use]
    pub fn with_engine(mut self, engine: &'static dyn Engine) -> Self {
        self.engine = engine;
        self
    }

    /// The named roots.
    #[must_use]
    pub fn refs(&self) -> &[(RefName, SnapshotId)] {
        &self.refs
    }

    /// How many chunks there are.
    #[must_use]
    pub fn n_chunks(&self) -> u64 {
        self.trailer.n_records
    }

    /// BLAKE3 of header and footer, which say what is in the archive and where.
    #[must_use]
    pub fn content(&self) -> PackId {
        PackId::from_digest(self.trailer.content)
    }

    /// Checks every byte: header and footer against their digest, every record against its
    /// checksum and every chunk against its id; records and footer leave no byte between them.
    ///
    /// # Errors
    /// Unavailable; cancelled. Damage is in the report, not an error.
    pub fn verify(&self, progress: &dyn Progress, cancel: &Cancel) -> Result<VerifyReport> {
        let place = self.path.display().to_string();
        let mut report = VerifyReport {
            packs: 1,
            ..VerifyReport::default()
        };
        report.stored_bytes =
            self.trailer.footer_offset + self.trailer.footer_len + TRAILER_LEN as u64;
        progress.begin("verify", Some(report.stored_bytes));
        let entries = self.entries_by_offset()?;
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.read(0, HEADER_LEN)?);
        for window in windows(&entries) {
            cancel.check()?;
            let start = window.first().map_or(HEADER_LEN, |entry| entry.offset);
            let len: u64 = window.iter().map(Entry::record_len).sum();
            let bytes = self.read(start, len)?.share();
            for (entry, reason) in check_window(&bytes, start, window, (self, true))? {
                let (offset, chunk) = (Some(entry.offset), Some(entry.id));
                report.damage.push(Damage {
                    object: place.clone(),
                    pack: None,
                    offset,
                    chunk,
                    reason,
                });
            }
            report.chunks += window.len() as u64;
            report.raw_bytes += window
                .iter()
                .map(|entry| u64::from(entry.raw_len))
                .sum::<u64>();
            progress.advance(len);
        }
        let mut offset = self.trailer.footer_offset;
        let end = offset + self.trailer.footer_len;
        while offset < end {
            let len = (TABLE_BLOCK_LEN as u64).min(end - offset);
            hasher.update(&self.read(offset, len)?);
            offset += len;
        }
        if *hasher.finalize().as_bytes() != *self.trailer.content.as_bytes() {
            let reason = "the digest of header and footer does not match".to_owned();
            let (pack, offset, chunk) = (None, None, None);
            report.damage.push(Damage {
                object: place,
                pack,
                offset,
                chunk,
                reason,
            });
        }
        progress.end();
        Ok(report)
    }

    /// All entries in order of offset. They tile the file, or it is damaged.
    fn entries_by_offset(&self) -> Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for block in 0..self.fences.len() {
            let bytes = self.read_block(block)?;
            let parse = |bytes| parse_entry(bytes, self.trailer.footer_offset);
            let parsed: Option<Vec<Entry>> =
                bytes.chunks_exact(ARCHIVE_ENTRY_LEN).map(parse).collect();
            entries.extend(parsed.ok_or_else(|| self.flaw("an entry is beyond the limits"))?);
        }
        entries.sort_unstable_by_key(|entry| entry.offset);
        let mut offset = HEADER_LEN;
        for entry in &entries {
            if entry.offset != offset {
                return Err(self.flaw("the records do not tile the file"));
            }
            offset += entry.record_len();
        }
        if offset != self.trailer.footer_offset {
            return Err(self.flaw("the records do not tile the file"));
        }
        Ok(entries)
    }

    fn entry(&self, id: &ChunkId) -> Result<Option<Entry>> {
        let after = self.fences.partition_point(|first| first <= id);
        let Some(block) = after.checked_sub(1) else {
            return Ok(None);
        };
        let bytes = self.read_block(block)?;
        let Some(bytes) = find(&bytes, id) else {
            return Ok(None);
        };
        let entry = parse_entry(bytes, self.trailer.footer_offset);
        entry
            .map(Some)
            .ok_or_else(|| self.flaw("an entry is beyond the limits"))
    }

    fn read_block(&self, block: usize) -> Result<Buffer> {
        let start = block as u64 * TABLE_BLOCK_LEN as u64;
        let table_len = self.trailer.n_records * ARCHIVE_ENTRY_LEN as u64;
        let len = (TABLE_BLOCK_LEN as u64).min(table_len - start);
        self.read(self.trailer.footer_offset + start, len)
    }

    fn read(&self, offset: u64, len: u64) -> Result<Buffer> {
        read(&self.file, &self.path.display().to_string(), offset, len)
    }

    /// Where a chunk may be that is not in the file.
    fn bases(&self, id: &ChunkId) -> Result<&dyn ChunkSource> {
        let bases = self.bases.as_deref();
        bases.ok_or(Error::NoSuchChunk { chunk: *id })
    }

    fn damaged(&self, entry: &Entry, reason: &str) -> Error {
        let Entry { offset, id, .. } = entry;
        self.flaw(&format!("at offset {offset}, chunk {id}: {reason}"))
    }

    fn flaw(&self, reason: &str) -> Error {
        Error::Corrupt {
            object: self.path.display().to_string(),
            reason: reason.to_owned(),
        }
    }
}

impl ChunkSource for Archive {
    fn locate(&self, id: &ChunkId) -> Result<Option<ChunkInfo>> {
        match (self.entry(id)?, &self.bases) {
            (Some(entry), _) => Ok(Some(info(Some(self.content()), &entry))),
            (None, Some(bases)) => bases.locate(id),
            (None, None) => Ok(None),
        }
    }

    fn get(&self, id: &ChunkId) -> Result<Verified<Bytes>> {
        let Some(entry) = self.entry(id)? else {
            return self.bases(id)?.get(id);
        };
        let record = self.read(entry.offset, entry.record_len())?;
        check_record(&record, &entry, self)
            .map_err(|fault| fault.of(*id, |reason| self.damaged(&entry, &reason)))
    }

    fn references(&self, id: &ChunkId) -> Result<References> {
        let Some(entry) = self.entry(id)? else {
            return self.bases(id)?.references(id);
        };
        if !frame::has_references(entry.method) {
            return Ok(References::default());
        }
        let record = self.read(entry.offset, entry.record_len())?;
        record_references(&record, &entry, self.vault())
            .map_err(|fault| fault.of(*id, |reason| self.damaged(&entry, &reason)))
    }
}

impl Others for Archive {
    fn engine(&self) -> &'static dyn Engine {
        self.engine
    }

    fn find(&self, id: &ChunkId) -> Result<Found> {
        let Some(entry) = self.entry(id)? else {
            return self.bases(id)?.get(id).map(Found::Content);
        };
        let record = self.read(entry.offset, entry.record_len())?.share();
        match frame::shared_of_record(&record, self.vault(), id) {
            Ok(frame) => Ok(Found::Frame(frame)),
            Err(fault) => Err(self.damaged(&entry, &fault.to_string())),
        }
    }
}

fn flawed(place: &str, flaw: Flaw) -> Error {
    let what = place.to_owned();
    match flaw {
        Flaw::Version(found) => Error::UnknownVersion {
            what,
            found,
            newest: FILE_VERSION,
        },
        Flaw::Damaged(reason) => Error::Corrupt {
            object: what,
            reason,
        },
    }
}

/// Reads exactly `len` bytes, which lie within the file unless it shrank since it was opened.
fn read(file: &File, place: &str, offset: u64, len: u64) -> Result<Buffer> {
    let mut bytes = Buffer::of_len(usize::try_from(len).unwrap_or(usize::MAX));
    read_exact_at(file, &mut bytes, offset).map_err(Error::io(place))?;
    Ok(bytes)
}

/// Streams through the footer, checks its digest and order, and returns the first id of every
/// block of the table and the encoded root.
fn scan_footer(file: &File, place: &str, trailer: &Trailer) -> Result<(Vec<ChunkId>, Buffer)> {
    let flaw = |flaw: Flaw| flawed(place, flaw);
    let table_len = trailer.n_records.checked_mul(ARCHIVE_ENTRY_LEN as u64);
    let root_len = table_len.and_then(|len| trailer.footer_len.checked_sub(len));
    let (Some(table_len), Some(root_len)) = (table_len, root_len) else {
        return Err(flaw("the footer is too short for its records".into()));
    };
    if root_len > Root::LEN_MAX as u64 {
        return Err(flaw(format!("a root of {root_len} bytes").into()));
    }
    let mut hasher = blake3::Hasher::new();
    let mut scan = TableScan::default();
    let mut done = 0;
    while done < table_len {
        let len = (TABLE_BLOCK_LEN as u64).min(table_len - done);
        let bytes = read(file, place, trailer.footer_offset + done, len)?;
        hasher.update(&bytes);
        scan.block(&bytes, trailer.footer_offset).map_err(flaw)?;
        done += len;
    }
    let root = read(file, place, trailer.footer_offset + table_len, root_len)?;
    hasher.update(&root);
    if Digest::from_bytes(*hasher.finalize().as_bytes()) != trailer.footer_digest {
        return Err(flaw("the footer's digest does not match".into()));
    }
    Ok((scan.fences, root))
}
