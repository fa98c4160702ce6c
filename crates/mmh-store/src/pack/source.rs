//! Reading packs from wherever they are: footers, and records one by one where there is none.

use bytes::Bytes;
use mmh_core::{ChunkId, ErrorKind, PackId};

use super::format::{
    Entry, Flaw, HEADER_LEN, Kind, PACK_ENTRY_LEN, PACK_RECORDS_MAX, PACK_SALT_LEN,
    RECORD_HEAD_LEN, Record, TRAILER_LEN, Trailer, decode_footer, parse_header,
};
use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::frame::{self, Fault, Gathered, Others as _, REFERENCED_MAX, shared_of_record};
use crate::index::Index;
use crate::names;
use crate::parity;
use crate::staging::StagedFile;
use crate::vault::{PLAIN, Vault};

/// Bytes at the end of a pack that are read at once, in the hope that they hold the whole footer.
const TAIL_GUESS: u64 = 16 << 10;

/// A pack that can be read.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Source<'a> {
    /// In the staging area.
    Staged(&'a dyn StagedFile),
    /// Published.
    Published(&'a Backend, PackId),
}

impl Source<'_> {
    /// Length in bytes.
    pub(crate) async fn len(&self) -> Result<u64> {
        match self {
            Self::Staged(file) => Ok(file.len()),
            Self::Published(backend, id) => {
                let name = names::pack(id);
                let len = backend.len(&name).await?;
                len.ok_or(Error::NoSuchObject { what: name })
            }
        }
    }

    /// Reads exactly `len` bytes, which the caller has compared with the file's length.
    pub(crate) async fn read(&self, offset: u64, len: u64) -> Result<Bytes> {
        match self {
            Self::Staged(file) => {
                let mut buf = vec![0; usize::try_from(len).unwrap_or(usize::MAX)];
                file.read_at(offset, &mut buf)
                    .map_err(Error::io(file.name()))?;
                Ok(buf.into())
            }
            Self::Published(backend, id) => backend.read_range(&names::pack(id), offset, len).await,
        }
    }

    /// What seals it: packs are opened where they are published.
    fn vault(&self) -> &Vault {
        match self {
            Self::Staged(_) => &PLAIN,
            Self::Published(backend, _) => backend.vault(),
        }
    }

    fn error(&self, flaw: Flaw, offset: u64) -> Error {
        let name = || match self {
            Self::Staged(file) => file.name(),
            Self::Published(_, id) => names::pack(id),
        };
        match (flaw, self) {
            (Flaw::Version(found), _) => {
                let newest = super::FILE_VERSION;
                Error::UnknownVersion {
                    what: name(),
                    found,
                    newest,
                }
            }
            (Flaw::Damaged(reason), Self::Published(_, pack)) => Error::CorruptPack {
                pack: *pack,
                offset,
                chunk: None,
                reason,
            },
            (Flaw::Damaged(reason), _) => Error::Corrupt {
                object: name(),
                reason,
            },
        }
    }
}

/// Reads header, trailer and footer of a pack. That the content has the digest that the trailer
/// states is not checked, but for a published pack the digest must be its name.
pub(crate) async fn read_footer(source: Source<'_>) -> Result<(Trailer, Vec<Entry>)> {
    let (end, tail) = read_tail(source).await?;
    let header = source.read(0, HEADER_LEN).await?;
    parse_header(&header, Kind::Pack).map_err(|flaw| source.error(flaw, 0))?;
    let at_end = |flaw| source.error(flaw, end - TRAILER_LEN as u64);
    let trailer = Trailer::parse(&tail, end).map_err(at_end)?;
    let most = source
        .vault()
        .stored_len((PACK_RECORDS_MAX * PACK_ENTRY_LEN + PACK_SALT_LEN) as u64);
    if trailer.footer_len > most {
        return Err(at_end(
            format!("a footer of {} bytes", trailer.footer_len).into(),
        ));
    }
    let footer = if trailer.footer_len + TRAILER_LEN as u64 <= tail.len() as u64 {
        let end = tail.len() - TRAILER_LEN;
        let start = end - usize::try_from(trailer.footer_len).unwrap_or(end);
        tail.slice(start..end)
    } else {
        source
            .read(trailer.footer_offset, trailer.footer_len)
            .await?
    };
    let in_footer = |flaw| source.error(flaw, trailer.footer_offset);
    let entries = decode_footer(&footer, &trailer, source.vault()).map_err(in_footer)?;
    if let Source::Published(_, id) = source
        && *id.digest() != trailer.content
    {
        return Err(at_end("it is another pack's content".into()));
    }
    Ok((trailer, entries))
}

/// Where the pack ends that the file begins with, which parity may follow, and the bytes before
/// that end.
async fn read_tail(source: Source<'_>) -> Result<(u64, Bytes)> {
    let file_len = source.len().await?;
    let least = HEADER_LEN + TRAILER_LEN as u64;
    let short = |len| source.error(format!("{len} bytes are no pack").into(), 0);
    if file_len < least {
        return Err(short(file_len));
    }
    let guess = file_len.min(TAIL_GUESS);
    let tail = source.read(file_len - guess, guess).await?;
    let Some(geometry) = parity::end_mark(&tail, file_len) else {
        return Ok((file_len, tail));
    };
    let end = geometry.body_len();
    if end < least {
        return Err(short(end));
    }
    let guess = end.min(TAIL_GUESS);
    Ok((end, source.read(end - guess, guess).await?))
}

/// A walk over the records of a pack whose footer is not there or damaged.
struct Scan<'a> {
    source: Source<'a>,
    /// Where the records end at the latest.
    end: u64,
    /// What was found so far.
    entries: Vec<Entry>,
    /// Packs that frames may refer to.
    backend: &'a Backend,
    index: &'a Index,
    gathered: Gathered,
}

/// What a scan met at an offset.
enum Identified {
    /// A record, and its chunk is known.
    Whole(Entry),
    /// Something as long as a record, but damaged, or what it needs is missing; its length in
    /// bytes.
    Damaged(u64),
    /// Nothing that could be a record.
    Lost,
}

impl<'a> Scan<'a> {
    async fn new(source: Source<'a>, backend: &'a Backend, index: &'a Index) -> Result<Self> {
        Ok(Self {
            source,
            end: source.len().await?,
            entries: Vec::new(),
            backend,
            index,
            gathered: Gathered::new(backend.vault().clone()),
        })
    }

    /// Reads the record at `offset`, decodes it and names its chunk.
    async fn identify(&mut self, offset: u64) -> Result<Identified> {
        if self.end - offset < RECORD_HEAD_LEN {
            return Ok(Identified::Lost);
        }
        let head = self.source.read(offset, RECORD_HEAD_LEN).await?;
        let Ok(stored_len) = Record::frame_len(&head) else {
            return Ok(Identified::Lost);
        };
        let record_len = RECORD_HEAD_LEN + u64::from(stored_len);
        if stored_len == 0 || record_len > self.end - offset {
            return Ok(Identified::Lost);
        }
        let record = self.source.read(offset, record_len).await?;
        // Whatever the frame refers to is looked up once decoding says that it is missing.
        for _ in 0..=REFERENCED_MAX {
            let (record, others) = (record.clone(), self.gathered.clone());
            let job = move || name_record(&record, offset, &others);
            match tokio::task::spawn_blocking(job).await.map_err(stopped)? {
                Ok(entry) => return Ok(Identified::Whole(entry)),
                Err(fault) => {
                    let Some(id) = fault.missing() else { break };
                    let Some(frame) = self.other(&id).await? else {
                        break;
                    };
                    self.gathered.keep(id, frame);
                }
            }
        }
        Ok(Identified::Damaged(record_len))
    }

    /// The frame of another chunk, of this pack or of one in the index.
    async fn other(&self, id: &ChunkId) -> Result<Option<Bytes>> {
        let (source, entry) = match self.entries.iter().find(|entry| entry.id == *id) {
            Some(entry) => (self.source, *entry),
            None => match self.index.locate(id).await {
                Ok(Some(at)) => (Source::Published(self.backend, at.pack), at.entry),
                Ok(None) | Err(Error::CorruptIndex { .. }) => return Ok(None),
                Err(error) => return Err(error),
            },
        };
        let record = match source.read(entry.offset, entry.record_len()).await {
            Ok(record) => record,
            Err(error) if error.kind() == ErrorKind::Corrupt || error.is_missing_object() => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        Ok(shared_of_record(&record, self.backend.vault(), id).ok())
    }
}

/// Decodes a record and names its chunk.
fn name_record(record: &[u8], offset: u64, others: &Gathered) -> std::result::Result<Entry, Fault> {
    let frame = frame::of_record(record, others.vault(), None)?;
    let (raw_len, method) = frame::head(&frame).map_err(Fault::Damaged)?;
    let id = others.vault().id(&frame::decode(&frame, others)?);
    // Where it is sealed, the frame says itself whose it is.
    frame::of_record(record, others.vault(), Some(&id))?;
    let stored_len = Record::frame_len(record).map_err(|flaw| Fault::Damaged(flaw.to_string()))?;
    Ok(Entry {
        id,
        offset,
        stored_len,
        raw_len,
        method,
    })
}

fn stopped(error: tokio::task::JoinError) -> Error {
    Error::Internal {
        what: format!("a decoding job stopped: {error}"),
    }
}

/// Finds the whole records that a writer that died left in a staged pack, and where they end. A
/// torn tail is where a scan ends, not an error.
pub(crate) async fn salvage(
    file: &dyn StagedFile,
    backend: &Backend,
    index: &Index,
) -> Result<(Vec<Entry>, u64)> {
    let source = Source::Staged(file);
    let mut scan = Scan::new(source, backend, index).await?;
    if scan.end < HEADER_LEN
        || parse_header(&source.read(0, HEADER_LEN).await?, Kind::Pack).is_err()
    {
        return Ok((Vec::new(), 0));
    }
    let mut offset = HEADER_LEN;
    while scan.entries.len() < PACK_RECORDS_MAX
        && let Identified::Whole(entry) = scan.identify(offset).await?
    {
        offset += entry.record_len();
        scan.entries.push(entry);
    }
    Ok((scan.entries, offset))
}

/// Finds the whole records of a published pack whose footer is damaged, skipping damaged ones as
/// long as their lengths lead on.
pub(crate) async fn rescue(backend: &Backend, index: &Index, id: PackId) -> Result<Vec<Entry>> {
    let mut scan = Scan::new(Source::Published(backend, id), backend, index).await?;
    let mut offset = HEADER_LEN.min(scan.end);
    while scan.entries.len() < PACK_RECORDS_MAX {
        match scan.identify(offset).await? {
            Identified::Whole(entry) => {
                offset += entry.record_len();
                scan.entries.push(entry);
            }
            Identified::Damaged(record_len) => offset += record_len,
            Identified::Lost => break,
        }
    }
    Ok(scan.entries)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use mmh_core::ErrorKind;

    use super::*;
    use crate::conformance::{frame as frame_of, noise};
    use crate::pack::{Growing, publish};

    /// A staged pack of `n` chunks, not yet ended.
    fn growing(backend: &Backend, n: u64) -> (Arc<dyn StagedFile>, Growing, Vec<Entry>) {
        let file: Arc<dyn StagedFile> = backend.staging().create().unwrap().into();
        let mut growing = Growing::begin(Arc::clone(&file), Kind::Pack).unwrap();
        let put = |seed| {
            let raw = noise(seed, 30);
            let coded = frame_of(&raw);
            let offset = growing.append(&coded).unwrap();
            let (raw_len, method) = frame::head(&coded).unwrap();
            let stored_len = u32::try_from(coded.len()).unwrap();
            Entry {
                id: ChunkId::of(&raw),
                offset,
                stored_len,
                raw_len,
                method,
            }
        };
        let entries = (0..n).map(put).collect();
        (file, growing, entries)
    }

    async fn published(backend: &Backend, n: u64) -> (PackId, Vec<Entry>) {
        let (file, growing, entries) = growing(backend, n);
        let id = growing
            .seal(&entries, &PLAIN, (0, [7; PACK_SALT_LEN]))
            .unwrap();
        publish(backend, &*file, &id).await.unwrap();
        (id, entries)
    }

    /// Short footers come with the first read, long ones need a second.
    #[tokio::test]
    async fn footers_short_and_long_are_read() {
        for n in [0, 1, 3, 406, 407, 408, 2000] {
            let backend = Backend::memory();
            let (id, entries) = published(&backend, n).await;
            let (trailer, read) = read_footer(Source::Published(&backend, id)).await.unwrap();
            assert_eq!(read, entries);
            assert_eq!(trailer.content, *id.digest());
        }
    }

    /// What a scan finds is what the footer says.
    #[tokio::test]
    async fn salvage_finds_what_was_appended() {
        let backend = Backend::memory();
        let index = Index::open(backend.clone(), Arc::new(crate::entropy::SystemEntropy))
            .await
            .unwrap();
        let (file, growing, entries) = growing(&backend, 20);
        let len = growing.len();
        assert_eq!(
            salvage(&*file, &backend, &index).await.unwrap(),
            (entries.clone(), len)
        );
        growing
            .seal(&entries, &PLAIN, (0, [7; PACK_SALT_LEN]))
            .unwrap();
        assert_eq!(
            salvage(&*file, &backend, &index).await.unwrap(),
            (entries, len),
            "the footer is no record"
        );
    }

    #[tokio::test]
    async fn a_rescue_steps_over_a_damaged_record() {
        let backend = Backend::memory();
        let index = Index::open(backend.clone(), Arc::new(crate::entropy::SystemEntropy))
            .await
            .unwrap();
        let (id, entries) = published(&backend, 10).await;
        let name = names::pack(&id);
        let mut bytes = backend
            .read(&name, 1 << 20)
            .await
            .unwrap()
            .unwrap()
            .to_vec();
        bytes[usize::try_from(entries[4].offset).unwrap() + 10] ^= 1;
        backend.write(&name, bytes.clone()).await.unwrap();
        let mut rest = entries.clone();
        rest.remove(4);
        assert_eq!(rescue(&backend, &index, id).await.unwrap(), rest);
        // A length that leads nowhere ends the rescue.
        bytes[usize::try_from(entries[6].offset).unwrap() + 3] = 0xff;
        backend.write(&name, bytes).await.unwrap();
        rest.truncate(5);
        assert_eq!(rescue(&backend, &index, id).await.unwrap(), rest);
    }

    #[tokio::test]
    async fn a_pack_under_another_name_is_refused() {
        let backend = Backend::memory();
        let (id, _) = published(&backend, 3).await;
        let bytes = backend
            .read(&names::pack(&id), 1 << 20)
            .await
            .unwrap()
            .unwrap();
        let other = PackId::of(b"other");
        backend.write(&names::pack(&other), bytes).await.unwrap();
        let error = read_footer(Source::Published(&backend, other))
            .await
            .unwrap_err();
        assert!(
            matches!(error, Error::CorruptPack { pack, .. } if pack == other),
            "{error}"
        );
    }

    #[tokio::test]
    async fn a_pack_that_is_not_there_is_not_found() {
        let backend = Backend::memory();
        let source = Source::Published(&backend, PackId::of(b"none"));
        assert_eq!(
            read_footer(source).await.unwrap_err().kind(),
            ErrorKind::NotFound
        );
    }

    #[tokio::test]
    async fn garbage_is_no_pack() {
        let backend = Backend::memory();
        let index = Index::open(backend.clone(), Arc::new(crate::entropy::SystemEntropy))
            .await
            .unwrap();
        let id = PackId::of(b"p");
        for len in [0, 1, 16, 119, 120, 5000] {
            backend
                .write(&names::pack(&id), noise(7, len))
                .await
                .unwrap();
            let error = read_footer(Source::Published(&backend, id))
                .await
                .unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{len} bytes: {error}");
            assert!(rescue(&backend, &index, id).await.unwrap().is_empty());
        }
    }
}
