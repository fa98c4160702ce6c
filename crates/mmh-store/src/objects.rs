//! Reading, writing and listing of whole objects and ranges, with errors that name the object.

use std::fs::File;

use bytes::Bytes;
use futures::TryStreamExt;
use futures::stream::BoxStream;
use mmh_core::Digest;
use mmh_core::canonical::{self, Canonical};
use object_store::path::Path;
use object_store::{GetOptions, ObjectMeta, ObjectStoreExt, PutMode, PutOptions, PutPayload};

use crate::backend::Backend;
use crate::buffer::Buffer;
use crate::error::{Error, Result};
use crate::staging::read_exact_at;

/// Length in bytes of the BLAKE3 digest that follows the encoding of a small object.
pub const SEAL_LEN: usize = 32;

/// Longest piece in bytes that is read in the thread that wants it: more than any record.
const HERE_MAX: usize = 8 << 20;

/// An object's name and length in bytes.
pub(crate) type Listed = (String, u64);

impl Backend {
    /// Reads a whole object of at most `len_max` bytes; `None` if there is none.
    pub(crate) async fn read(&self, name: &str, len_max: usize) -> Result<Option<Bytes>> {
        let got = match self
            .objects()
            .get_opts(&Path::from(name), GetOptions::default())
            .await
        {
            Ok(got) => got,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(source) => return Err(Error::engine(self.place(name))(source)),
        };
        if got.meta.size > len_max as u64 {
            let reason = format!("{} bytes, more than {len_max}", got.meta.size);
            return Err(Error::Corrupt {
                object: name.to_owned(),
                reason,
            });
        }
        got.bytes()
            .await
            .map(Some)
            .map_err(Error::engine(self.place(name)))
    }

    /// Reads exactly `len` bytes from `offset`.
    pub(crate) async fn read_range(&self, name: &str, offset: u64, len: u64) -> Result<Bytes> {
        if let Some(bytes) = self.read_here(name, offset, len) {
            return Ok(bytes);
        }
        let path = Path::from(name);
        let end = offset.saturating_add(len);
        let short = |size: u64| Error::Corrupt {
            object: name.to_owned(),
            reason: format!("bytes {offset}..{end} are needed, but it ends at {size}"),
        };
        match self.objects().get_range(&path, offset..end).await {
            Ok(bytes) if bytes.len() as u64 == len => Ok(bytes),
            Ok(bytes) => Err(short(offset + bytes.len() as u64)),
            // Engines differ in what they say beyond the end; the length decides.
            Err(source) => match self.objects().head(&path).await {
                Ok(meta) if meta.size < end => Err(short(meta.size)),
                _ => Err(Error::engine(self.place(name))(source)),
            },
        }
    }

    /// Reads a piece of a file of this machine in the thread that wants it: handing it to another
    /// thread and back takes ten times as long, if it is short. `None` if it cannot be had like that;
    /// the engine then says why.
    pub(crate) fn read_here(&self, name: &str, offset: u64, len: u64) -> Option<Bytes> {
        let len = usize::try_from(len).ok().filter(|len| *len <= HERE_MAX)?;
        let file = File::open(self.root()?.join(name)).ok()?;
        let mut bytes = Buffer::of_len(len);
        read_exact_at(&file, &mut bytes, offset).ok()?;
        Some(bytes.share())
    }

    /// Like [`Backend::read_range`], from the cache if it is there. The caller proves the bytes and
    /// then calls [`Backend::keep`].
    pub(crate) async fn read_piece(&self, name: &str, offset: u64, len: u64) -> Result<Bytes> {
        if let Some(piece) = self.cache().and_then(|cache| cache.get(name, offset, len)) {
            return Ok(piece);
        }
        self.read_range(name, offset, len).await
    }

    /// Keeps a piece of an object that never changes in the cache, if there is one. The bytes
    /// have been compared with a digest.
    pub(crate) fn keep(&self, name: &str, offset: u64, piece: &[u8]) {
        if let Some(cache) = self.cache() {
            cache.put(name, offset, piece);
        }
    }

    /// The object's length in bytes; `None` if there is none.
    pub(crate) async fn len(&self, name: &str) -> Result<Option<u64>> {
        match self.objects().head(&Path::from(name)).await {
            Ok(meta) => Ok(Some(meta.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(source) => Err(Error::engine(self.place(name))(source)),
        }
    }

    /// Writes an object, replacing what is there.
    pub(crate) async fn write(&self, name: &str, bytes: impl Into<PutPayload>) -> Result<()> {
        let put = self.objects().put(&Path::from(name), bytes.into()).await;
        put.map(drop).map_err(Error::engine(self.place(name)))
    }

    /// Writes an object if there is none of that name; otherwise the engine says AlreadyExists.
    pub(crate) async fn create(
        &self,
        name: &str,
        bytes: impl Into<PutPayload>,
    ) -> std::result::Result<(), object_store::Error> {
        let options = PutOptions::from(PutMode::Create);
        self.objects()
            .put_opts(&Path::from(name), bytes.into(), options)
            .await
            .map(drop)
    }

    /// Copies an object, replacing what has the other name.
    pub(crate) async fn copy(&self, from: &str, to: &str) -> Result<()> {
        let copied = self
            .objects()
            .copy(&Path::from(from), &Path::from(to))
            .await;
        copied.map_err(Error::engine(self.place(from)))
    }

    /// Deletes an object; that there is none is no error.
    pub(crate) async fn delete(&self, name: &str) -> Result<()> {
        match self.objects().delete(&Path::from(name)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(source) => Err(Error::engine(self.place(name))(source)),
        }
    }

    /// Lists all objects below `prefix`, sorted by name.
    pub(crate) async fn list(&self, prefix: &str) -> Result<Vec<Listed>> {
        let stream = self.objects().list(Some(&Path::from(prefix)));
        self.sorted(prefix, stream).await
    }

    /// Like [`Backend::list`], but only those after the name `after`.
    pub(crate) async fn list_after(&self, prefix: &str, after: &str) -> Result<Vec<Listed>> {
        if let Some(all) = self.list_here(prefix, after) {
            return Ok(all);
        }
        let (prefix_path, after) = (Path::from(prefix), Path::from(after));
        let stream = self.objects().list_with_offset(Some(&prefix_path), &after);
        self.sorted(prefix, stream).await
    }

    /// Lists a folder of this machine that has no folders in it, such as the log. The engine would
    /// look at each file, also of those before: a hundred thousand of them take a second. `None` if
    /// it cannot be had like that.
    fn list_here(&self, prefix: &str, after: &str) -> Option<Vec<Listed>> {
        let mut all = Vec::new();
        for entry in std::fs::read_dir(self.root()?.join(prefix)).ok()? {
            let entry = entry.ok()?;
            let name = format!("{prefix}/{}", entry.file_name().to_str()?);
            // The engine writes under names with `#` before it renames.
            if name.as_str() > after && !name.contains('#') {
                let meta = entry.metadata().ok().filter(std::fs::Metadata::is_file)?;
                all.push((name, meta.len()));
            }
        }
        all.sort_unstable();
        Some(all)
    }

    async fn sorted(
        &self,
        prefix: &str,
        stream: BoxStream<'static, object_store::Result<ObjectMeta>>,
    ) -> Result<Vec<Listed>> {
        let named = stream.map_ok(|meta| (String::from(meta.location), meta.size));
        let mut all: Vec<Listed> = named
            .try_collect()
            .await
            .map_err(Error::engine(self.place(prefix)))?;
        all.sort_unstable();
        Ok(all)
    }

    /// Makes sure that an object which another process may have published a moment ago lasts.
    pub(crate) async fn settle(&self, name: &str) -> Result<()> {
        if let Some(stripe) = self.stripe() {
            return stripe.complete(name).await;
        }
        let settled = self.staging().settle(name);
        settled.map_err(Error::io(self.place(name)))
    }

    /// The same for objects of one folder.
    pub(crate) async fn settle_all(&self, names: &[&String]) -> Result<()> {
        if self.stripe().is_none() {
            // Syncing the folder settles all of them.
            return match names.last() {
                Some(name) => self.settle(name).await,
                None => Ok(()),
            };
        }
        for name in names {
            self.settle(name).await?;
        }
        Ok(())
    }

    /// The object's name with the repository's, for messages.
    pub(crate) fn place(&self, name: &str) -> String {
        format!("{}/{name}", self.name())
    }
}

/// Whether the engine says that the name is taken.
pub(crate) fn is_taken(error: &object_store::Error) -> bool {
    use object_store::Error as E;
    matches!(error, E::AlreadyExists { .. } | E::Precondition { .. })
}

/// Encodes a small object for storing under its own name: canonical bytes, then their digest, so
/// that a flipped bit never becomes another valid object. Returns the digest too.
pub(crate) fn seal<T: Canonical>(value: &T) -> Result<(Bytes, Digest)> {
    let mut bytes = canonical::encode(value)?;
    let digest = Digest::of(&bytes);
    bytes.extend_from_slice(digest.as_bytes());
    Ok((bytes.into(), digest))
}

/// Checks the digest of a sealed object and returns its canonical bytes with the digest.
pub(crate) fn unseal<'a>(bytes: &'a [u8], object: &str) -> Result<(&'a [u8], Digest)> {
    let corrupt = |reason: &str| Error::Corrupt {
        object: object.to_owned(),
        reason: reason.into(),
    };
    let (body, seal) = bytes
        .split_last_chunk::<SEAL_LEN>()
        .ok_or_else(|| corrupt("shorter than its digest"))?;
    let digest = Digest::of(body);
    if digest.as_bytes() != seal {
        return Err(corrupt("its digest does not match"));
    }
    Ok((body, digest))
}

/// Reads and decodes a sealed object.
pub(crate) fn open_sealed<T: Canonical>(bytes: &[u8], object: &str) -> Result<(T, Digest)> {
    let (body, digest) = unseal(bytes, object)?;
    let corrupt = |e: mmh_core::Error| Error::Corrupt {
        object: object.to_owned(),
        reason: e.to_string(),
    };
    Ok((canonical::decode(body).map_err(corrupt)?, digest))
}

#[cfg(test)]
mod tests {
    use mmh_core::object::{Checkpoint, CheckpointTag};
    use mmh_core::{ErrorKind, SnapshotId};
    use proptest::prelude::*;

    use super::*;

    fn sample() -> Checkpoint {
        let refs = [("models/m@heads/main".to_owned(), SnapshotId::of(b"s"))].into();
        Checkpoint {
            r#type: CheckpointTag::Tag,
            seq: 64,
            head: Digest::of(b"h"),
            refs,
        }
    }

    #[test]
    fn a_sealed_object_opens_with_the_digest_of_its_encoding() {
        let (bytes, digest) = seal(&sample()).unwrap();
        assert_eq!(digest, Digest::of(&bytes[..bytes.len() - SEAL_LEN]));
        let (opened, again): (Checkpoint, _) = open_sealed(&bytes, "x").unwrap();
        assert_eq!((opened, again), (sample(), digest));
    }

    #[test]
    fn every_bit_of_a_sealed_object_counts() {
        let (bytes, _) = seal(&sample()).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.to_vec();
            bad[bit / 8] ^= 1 << (bit % 8);
            let error = unseal(&bad, "mmh/x").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "bit {bit}");
            assert!(error.to_string().contains("mmh/x"));
        }
        for len in 0..bytes.len() {
            assert!(unseal(&bytes[..len], "x").is_err(), "cut to {len}");
        }
    }

    /// A good digest over bytes that are no object: damage by a program, not by a disk.
    #[test]
    fn a_sealed_object_of_another_type_is_corrupt() {
        let mut bytes = b"not cbor".to_vec();
        bytes.extend_from_slice(Digest::of(b"not cbor").as_bytes());
        let error = open_sealed::<Checkpoint>(&bytes, "x").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
    }

    #[tokio::test]
    async fn folders_are_listed_as_the_engine_lists_them() {
        let dir = tempfile::tempdir().unwrap();
        let backend = Backend::local(dir.path()).unwrap();
        assert_eq!(
            backend.list_after("mmh/log", "mmh/log/1").await.unwrap(),
            []
        );
        for n in 1..30u8 {
            let name = format!("mmh/log/{n:02}");
            backend.write(&name, vec![0; usize::from(n)]).await.unwrap();
        }
        std::fs::write(dir.path().join("mmh/log/25#1"), b"on its way").unwrap();
        let expected: Vec<Listed> = (21..30).map(|n| (format!("mmh/log/{n}"), n)).collect();
        assert_eq!(
            backend.list_here("mmh/log", "mmh/log/20"),
            Some(expected.clone())
        );
        assert_eq!(
            backend.list_after("mmh/log", "mmh/log/20").await.unwrap(),
            expected
        );
        // A folder in it is left to the engine.
        backend
            .write("mmh/log/26/deep", &b"x"[..])
            .await
            .unwrap_err();
        backend.write("mmh/log/99/deep", &b"x"[..]).await.unwrap();
        assert_eq!(backend.list_here("mmh/log", "mmh/log/20"), None);
        assert_eq!(
            backend
                .list_after("mmh/log", "mmh/log/20")
                .await
                .unwrap()
                .len(),
            10
        );
    }

    /// Files are read in two ways, which must agree on what is there, what is cut off and what is
    /// not there.
    #[tokio::test]
    async fn pieces_of_files_are_read_as_the_engine_reads_them() {
        let dir = tempfile::tempdir().unwrap();
        let backend = Backend::local(dir.path()).unwrap();
        let content: Vec<u8> = (0..200_000u32).map(|n| n.to_le_bytes()[0]).collect();
        backend.write("mmh/x", content.clone()).await.unwrap();
        for (offset, len) in [(0usize, 1usize), (7, 0), (100, 70_000), (0, 200_000)] {
            let read = |len: usize| backend.read_range("mmh/x", offset as u64, len as u64);
            assert_eq!(read(len).await.unwrap(), content[offset..offset + len]);
            let here = backend.read_here("mmh/x", offset as u64, len as u64);
            assert_eq!(here.unwrap(), content[offset..offset + len]);
        }
        assert_eq!(backend.read_here("mmh/x", 199_999, 2), None);
        let short = backend.read_range("mmh/x", 199_999, 2).await.unwrap_err();
        assert_eq!(short.kind(), ErrorKind::Corrupt, "{short}");
        let missing = backend.read_range("mmh/y", 0, 1).await.unwrap_err();
        assert!(missing.is_missing_object(), "{missing}");
        let huge = backend.read_range("mmh/x", 0, u64::MAX / 2).await;
        assert!(huge.is_err(), "and nothing so long is allocated");
        assert_eq!(Backend::memory().read_here("mmh/x", 0, 1), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes: Vec<u8>) {
            let mut sealed = bytes.clone();
            sealed.extend_from_slice(Digest::of(&bytes).as_bytes());
            let _ = open_sealed::<Checkpoint>(&bytes, "x").is_ok();
            let _ = open_sealed::<Checkpoint>(&sealed, "x").is_ok();
        }
    }
}
