//! Writing objects of a stripe: everything goes to all stores before it counts.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::{BoxFuture, join_all, try_join_all};
use object_store::path::Path;
use object_store::{
    MultipartUpload, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, Result,
};

use super::layout::{Layout, SHARD_BLOCK_LEN};
use super::read::{Fault, beyond, failure};
use super::shard::{Head, SHARD_PIECE_LEN, to_usize};
use super::{Stripe, is_of_log, shard_path};
use crate::backend::Backend;
use crate::names;

/// Bytes of a part of a shard that is sent; engines want at least 5 MiB.
const PART_LEN: usize = 8 << 20;
/// Bytes of an object that are coded at once, unless a row is longer.
const BATCH_LEN: u64 = 8 << 20;

/// Where the bytes of an object come from: a range of them at a time.
pub(super) type Origin<'a> = dyn Fn(u64, u64) -> BoxFuture<'a, Result<Bytes>> + Send + Sync + 'a;

impl Stripe {
    /// The store of a number, which must be there.
    fn member(&self, number: usize) -> Result<&Backend> {
        let member = &self.members[number];
        (member.backend.as_ref())
            .map_err(|why| failure(io::ErrorKind::Other, format!("{}: {why}", member.place)))
    }

    /// Refuses to write unless all stores are there.
    pub(super) fn check_writable(&self) -> Result<()> {
        match self.unwritable() {
            None => Ok(()),
            Some(why) => Err(failure(io::ErrorKind::Other, why)),
        }
    }

    fn path(name: &str) -> Result<Path> {
        shard_path(name).ok_or_else(|| object_store::Error::NotSupported {
            source: format!("a stripe holds no object `{name}`").into(),
        })
    }

    /// Writes the shards of these numbers of an object that `origin` gives.
    pub(super) async fn spread(
        &self,
        name: &str,
        len: u64,
        numbers: &[usize],
        origin: &Origin<'_>,
    ) -> Result<()> {
        let (layout, path) = (self.layout(name, len), Self::path(name)?);
        self.metas().pop(name);
        let mut uploads = Vec::new();
        for number in numbers {
            let objects = Arc::clone(self.member(*number)?.objects());
            let head = self.head(name, &layout, *number);
            uploads.push(Upload::new(objects, path.clone(), &head));
        }
        let heads: Arc<Vec<Head>> = Arc::new(
            (numbers.iter())
                .map(|number| self.head(name, &layout, *number))
                .collect(),
        );
        let rows_at_once = (BATCH_LEN / (SHARD_BLOCK_LEN * layout.data as u64)).max(1);
        let mut done = Ok(());
        let mut first = 0;
        while first < layout.n_rows() && done.is_ok() {
            let end = (first + rows_at_once).min(layout.n_rows());
            done = batch(&layout, (first, end), &heads, &mut uploads, origin).await;
            first = end;
        }
        if done.is_ok() {
            done = try_join_all(uploads.iter_mut().map(Upload::finish))
                .await
                .map(drop);
        }
        if done.is_err() {
            join_all(uploads.iter_mut().map(Upload::abort)).await;
        }
        done
    }

    /// Writes an object that lies in memory to all stores, replacing what is there.
    pub(super) async fn put(&self, name: &str, bytes: &Bytes) -> Result<()> {
        self.check_writable()?;
        let all: Vec<usize> = (0..self.n()).collect();
        let origin = in_memory(bytes);
        self.spread(name, bytes.len() as u64, &all, &origin).await
    }

    /// Makes an object if there is none of that name: the home decides, and only what is on all
    /// stores counts. What another began to make is completed first. With `again` the same bytes
    /// may be there already.
    pub(super) async fn create(&self, name: &str, bytes: &Bytes, again: bool) -> Result<()> {
        self.check_writable()?;
        let home = self.home();
        if !self.create_at(home, name, bytes).await? {
            let same =
                again && matches!(&self.copy_at(home, name).await, Ok(there) if there == bytes);
            if !same {
                self.settle(name).await?;
                return Err(object_store::Error::AlreadyExists {
                    path: name.to_owned(),
                    source: "it is taken".into(),
                });
            }
        }
        let others = (0..self.n()).filter(|number| *number != home);
        try_join_all(others.map(|number| self.agree(number, name, bytes))).await?;
        // Whatever is acknowledged ends with an entry of the log.
        match super::is_below(name, names::LOG) {
            true => self.check_epoch().await,
            false => Ok(()),
        }
    }

    /// Makes sure that a copied object which is there is on all stores, and the same on all.
    pub(super) async fn settle(&self, name: &str) -> Result<()> {
        let order = self.order(name);
        let copies = join_all(order.iter().map(|number| self.copy_at(*number, name))).await;
        let Some(bytes) = copies.iter().find_map(|copy| copy.as_ref().ok()) else {
            let faults = copies.into_iter().filter_map(std::result::Result::err);
            return match beyond(name, faults.collect()) {
                object_store::Error::NotFound { .. } => Ok(()),
                error => Err(error),
            };
        };
        let wanting = order.iter().zip(&copies);
        let wanting = wanting.filter(|(_, copy)| !matches!(copy, Ok(copy) if copy == bytes));
        let wanting: Vec<usize> = wanting.map(|(number, _)| *number).collect();
        if wanting.is_empty() {
            return Ok(());
        }
        self.check_writable()?;
        let agreed = wanting
            .iter()
            .map(|number| self.agree(*number, name, bytes));
        try_join_all(agreed).await.map(drop)
    }

    /// Makes a copy in one store, or sees that there is the same.
    async fn agree(&self, number: usize, name: &str, bytes: &Bytes) -> Result<()> {
        if self.create_at(number, name, bytes).await? {
            return Ok(());
        }
        match self.copy_at(number, name).await {
            Ok(there) if there == *bytes => Ok(()),
            Ok(_) => {
                let (home, other) = (
                    &self.members[self.home()].place,
                    &self.members[number].place,
                );
                let what = format!(
                    "{home} and {other} do not agree about {name}: a store was replaced                      meanwhile, or one is older than the rest; open it again, or run `mmh repair`"
                );
                Err(failure(io::ErrorKind::AlreadyExists, what))
            }
            Err(Fault::Bad(_)) => {
                let origin = in_memory(bytes);
                let len = bytes.len() as u64;
                self.spread(name, len, &[number], &origin).await
            }
            Err(fault) => Err(beyond(name, vec![fault])),
        }
    }

    /// Makes a copy in one store; `false` if there is one.
    async fn create_at(&self, number: usize, name: &str, bytes: &Bytes) -> Result<bool> {
        let layout = self.layout(name, bytes.len() as u64);
        let head = self.head(name, &layout, number);
        let mut file = head.encode().to_vec();
        head.append_pieces(&mut file, 0, bytes);
        let objects = self.member(number)?.objects();
        let options = PutOptions::from(PutMode::Create);
        match objects
            .put_opts(&Self::path(name)?, file.into(), options)
            .await
        {
            Ok(_) => Ok(true),
            Err(
                object_store::Error::AlreadyExists { .. }
                | object_store::Error::Precondition { .. },
            ) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Reads a whole copy from one store.
    pub(super) async fn copy_at(
        &self,
        number: usize,
        name: &str,
    ) -> std::result::Result<Bytes, Fault> {
        let found = self.start(number, name).await?;
        if let Some(bytes) = found.bytes {
            return Ok(bytes);
        }
        let layout = self.layout(name, found.meta.size);
        let all = 0..found.meta.size;
        Ok(self.payload(number, name, &layout, all).await?.into())
    }

    /// Refuses if somebody has replaced a store since this stripe was opened.
    async fn check_epoch(&self) -> Result<()> {
        let next = Path::from(names::stripe(self.note.epoch + 1));
        let members: Result<Vec<&Backend>> = (0..self.n()).map(|n| self.member(n)).collect();
        let looks = members?.into_iter().map(|member| {
            let next = &next;
            async move {
                match member.objects().head(next).await {
                    Err(object_store::Error::NotFound { .. }) => Ok(()),
                    Err(error) => Err(error),
                    Ok(_) => {
                        let what = "a store of the stripe was replaced meanwhile; open it again";
                        Err(failure(io::ErrorKind::Other, what))
                    }
                }
            }
        });
        try_join_all(looks).await.map(drop)
    }

    /// Writes an object. Of the log nothing is ever replaced: the same bytes are made sure of.
    pub(super) async fn put_as(&self, name: &str, bytes: &Bytes, mode: &PutMode) -> Result<()> {
        match mode {
            PutMode::Overwrite if !is_of_log(name) => self.put(name, bytes).await,
            PutMode::Overwrite => self.create(name, bytes, true).await,
            PutMode::Create => self.create(name, bytes, false).await,
            PutMode::Update(_) => Err(object_store::Error::NotSupported {
                source: "a stripe replaces no versions".into(),
            }),
        }
    }

    /// Deletes an object everywhere, at its home last, so that it can be done again.
    pub(super) async fn delete(&self, name: &str) -> Result<()> {
        self.check_writable()?;
        self.metas().pop(name);
        let path = Self::path(name)?;
        let delete = |number: usize| {
            let path = &path;
            async move {
                match self.member(number)?.objects().delete(path).await {
                    Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
                    Err(error) => Err(error),
                }
            }
        };
        let others = (0..self.n()).filter(|number| *number != self.home());
        try_join_all(others.map(delete)).await?;
        delete(self.home()).await
    }
}

/// An object that lies in memory.
pub(super) fn in_memory(
    bytes: &Bytes,
) -> impl Fn(u64, u64) -> BoxFuture<'static, Result<Bytes>> + use<> {
    let bytes = bytes.clone();
    move |start, len| {
        let part = bytes.slice(to_usize(start)..to_usize(start + len));
        Box::pin(std::future::ready(Ok(part)))
    }
}

/// Codes some rows and adds their blocks to the shards.
async fn batch(
    layout: &Layout,
    (first, end): (u64, u64),
    heads: &Arc<Vec<Head>>,
    uploads: &mut [Upload],
    origin: &Origin<'_>,
) -> Result<()> {
    let start = layout.row(first).start;
    let last = layout.row(end - 1);
    let bytes = origin(start, last.start + last.len - start).await?;
    let (layout, heads) = (*layout, Arc::clone(heads));
    let code = move || {
        let mut files = vec![Vec::new(); heads.len()];
        for no in first..end {
            let row = layout.row(no);
            let from = to_usize(row.start - start);
            let blocks = layout.encode(&row, &bytes[from..from + to_usize(row.len)]);
            for (file, head) in files.iter_mut().zip(heads.iter()) {
                let block = &blocks[usize::from(head.number)];
                head.append_pieces(file, row.at / SHARD_PIECE_LEN, block);
            }
        }
        files
    };
    let files = tokio::task::spawn_blocking(code).await?;
    let sent = uploads
        .iter_mut()
        .zip(files)
        .map(|(upload, file)| upload.push(file));
    try_join_all(sent).await.map(drop)
}

/// A shard on its way to its store.
struct Upload {
    objects: Arc<dyn ObjectStore>,
    path: Path,
    /// What is to be sent yet.
    buffer: Vec<u8>,
    parts: Option<Box<dyn MultipartUpload>>,
}

impl Upload {
    fn new(objects: Arc<dyn ObjectStore>, path: Path, head: &Head) -> Self {
        Self {
            objects,
            path,
            buffer: head.encode().to_vec(),
            parts: None,
        }
    }

    async fn push(&mut self, file: Vec<u8>) -> Result<()> {
        self.buffer.extend_from_slice(&file);
        while self.buffer.len() > PART_LEN {
            let rest = self.buffer.split_off(PART_LEN);
            let part = std::mem::replace(&mut self.buffer, rest);
            self.send(part).await?;
        }
        Ok(())
    }

    async fn send(&mut self, part: Vec<u8>) -> Result<()> {
        let parts = match &mut self.parts {
            Some(parts) => parts,
            None => {
                let parts = self.objects.put_multipart(&self.path).await?;
                self.parts.insert(parts)
            }
        };
        parts.put_part(PutPayload::from(part)).await
    }

    async fn finish(&mut self) -> Result<()> {
        let rest = std::mem::take(&mut self.buffer);
        if self.parts.is_none() {
            return self.objects.put(&self.path, rest.into()).await.map(drop);
        }
        self.send(rest).await?;
        match &mut self.parts {
            Some(parts) => parts.complete().await.map(drop),
            None => Ok(()),
        }
    }

    async fn abort(&mut self) {
        if let Some(parts) = &mut self.parts {
            // Parts that stay are removed by the bucket's rules; no more can be done.
            let _stays = parts.abort().await.is_err();
        }
    }
}
