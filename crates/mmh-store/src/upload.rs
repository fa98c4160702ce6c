//! Publishing a staged file on an engine elsewhere: in parts, a few at a time, read back from the
//! disk piece by piece, so that memory does not grow with the file.

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStoreExt};

use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::staging::StagedFile;

/// Bytes of a part; the engines want at least 5 MiB and at most 10,000 parts. What fits into one
/// goes in one request.
const PART_LEN: u64 = 8 << 20;
/// Parts under way at once for one file.
const PARTS_PARALLEL: usize = 4;

/// Uploads a synced staged file under an object name, replacing what is there. The object is
/// durable, of the file's length, when this returns; before, it cannot be seen.
pub(crate) async fn upload(backend: &Backend, file: &dyn StagedFile, name: &str) -> Result<()> {
    let len = file.len();
    if let Some(stripe) = backend.stripe() {
        let published = stripe.publish(file, name).await;
        return published.map_err(Error::engine(backend.place(name)));
    }
    if len <= PART_LEN {
        return backend.write(name, read(file, 0, len)?).await;
    }
    let failed = |e| Error::engine(backend.place(name))(e);
    let multipart = backend.objects().put_multipart(&Path::from(name)).await;
    let mut multipart = multipart.map_err(failed)?;
    let completed = match send_parts(&mut *multipart, file, len, &failed).await {
        Ok(()) => multipart.complete().await.map(drop).map_err(failed),
        Err(error) => Err(error),
    };
    if let Err(error) = completed {
        // Parts that stay cost money until the bucket's rules remove them; no more can be done.
        let _stays = multipart.abort().await.is_err();
        return Err(error);
    }
    match backend.len(name).await? {
        Some(there) if there == len => Ok(()),
        there => Err(Error::Corrupt {
            object: backend.place(name),
            reason: format!(
                "{len} bytes were uploaded, {} are there",
                there.unwrap_or(0)
            ),
        }),
    }
}

/// Sends the file's parts, which are numbered in the order of the calls.
async fn send_parts(
    multipart: &mut dyn MultipartUpload,
    file: &dyn StagedFile,
    len: u64,
    failed: &(dyn Fn(object_store::Error) -> Error + Sync),
) -> Result<()> {
    let mut under_way = FuturesUnordered::new();
    let mut offset = 0;
    while offset < len {
        let part = read(file, offset, PART_LEN.min(len - offset))?;
        offset += part.len() as u64;
        under_way.push(multipart.put_part(part.into()));
        if under_way.len() >= PARTS_PARALLEL
            && let Some(done) = under_way.next().await
        {
            done.map_err(failed)?;
        }
    }
    while let Some(done) = under_way.next().await {
        done.map_err(failed)?;
    }
    Ok(())
}

fn read(file: &dyn StagedFile, offset: u64, len: u64) -> Result<Bytes> {
    let len = usize::try_from(len).map_err(|_| Error::Internal {
        what: format!("{} is longer than memory", file.name()),
    })?;
    let mut bytes = vec![0; len];
    file.read_at(offset, &mut bytes)
        .map_err(Error::io(file.name()))?;
    Ok(bytes.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn staged(backend: &Backend, len: u64) -> Box<dyn StagedFile> {
        let file = backend.staging().create().unwrap();
        let bytes = crate::conformance::noise(len, usize::try_from(len).unwrap());
        file.append(&[&bytes]).unwrap();
        file
    }

    #[tokio::test]
    async fn files_of_every_number_of_parts_arrive_whole() {
        let backend = Backend::memory();
        for len in [0, 1, PART_LEN, PART_LEN + 1, 3 * PART_LEN, 5 * PART_LEN + 7] {
            let file = staged(&backend, len);
            upload(&backend, &*file, "mmh/packs/aa/x").await.unwrap();
            let there = backend
                .read("mmh/packs/aa/x", usize::MAX)
                .await
                .unwrap()
                .unwrap();
            assert_eq!(there, read(&*file, 0, len).unwrap(), "{len}");
        }
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_read_is_not_published() {
        let backend = Backend::memory();
        let file = staged(&backend, 3 * PART_LEN);
        let short = Short(file);
        upload(&backend, &short, "x").await.unwrap_err();
        assert_eq!(backend.len("x").await.unwrap(), None);
    }

    /// Says that it is longer than it is.
    #[derive(Debug)]
    struct Short(Box<dyn StagedFile>);

    impl StagedFile for Short {
        fn name(&self) -> String {
            self.0.name()
        }
        fn len(&self) -> u64 {
            self.0.len() + 1
        }
        fn append(&self, parts: &[&[u8]]) -> std::io::Result<()> {
            self.0.append(parts)
        }
        fn read_at(&self, offset: u64, buf: &mut [u8]) -> std::io::Result<()> {
            self.0.read_at(offset, buf)
        }
        fn truncate(&self, len: u64) -> std::io::Result<()> {
            self.0.truncate(len)
        }
        fn sync(&self) -> std::io::Result<()> {
            self.0.sync()
        }
        fn publish(&self, object: &str) -> std::io::Result<bool> {
            self.0.publish(object)
        }
        fn discard(&self) -> std::io::Result<()> {
            self.0.discard()
        }
    }
}
