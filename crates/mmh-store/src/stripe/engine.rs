//! The stripe as an engine, for the store that knows of no shards.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::join_all;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyMode, CopyOptions, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use super::read::{failure, not_found};
use super::shard::{file_len, payload_len};
use super::{Stripe, is_coded, object_of, shard_path};
use crate::staging::StagedFile;

/// Objects that are deleted at the same time.
const PARALLEL: usize = 8;

/// The engine; without a stripe one that refuses, for stores that were named and not opened yet.
#[derive(Debug, Clone)]
pub(crate) struct StripeEngine(pub(crate) Option<Arc<Stripe>>);

/// The shards of one object that were listed: number and length of each, and one of them.
struct Listed {
    shards: Vec<(usize, u64)>,
    meta: ObjectMeta,
}

impl Stripe {
    /// Publishes a staged file on all stores.
    ///
    /// # Errors
    /// Unavailable unless all stores are there; their own.
    pub(crate) async fn publish(&self, file: &dyn StagedFile, name: &str) -> Result<()> {
        self.check_writable()?;
        let origin = |start: u64, len: u64| {
            let read = move || {
                let mut bytes = vec![0; super::shard::to_usize(len)];
                file.read_at(start, &mut bytes)?;
                Ok(Bytes::from(bytes))
            };
            let read = read().map_err(|e: io::Error| failure(e.kind(), e.to_string()));
            Box::pin(std::future::ready(read)) as futures::future::BoxFuture<'_, _>
        };
        let all: Vec<usize> = (0..self.n()).collect();
        self.spread(name, file.len(), &all, &origin).await
    }

    /// All objects below a prefix, after a name if one is given: those of which enough stores have
    /// their part. What a crash left of the making or deleting of others is passed over.
    pub(super) async fn list_all(
        &self,
        prefix: &str,
        after: Option<&str>,
    ) -> Result<Vec<ObjectMeta>> {
        let (found, answers) = self.listed(prefix, after).await?;
        let mut metas = Vec::with_capacity(found.len());
        for (name, listed) in found {
            let there = match is_coded(&name) {
                true => listed.shards.len() >= self.note.data as usize,
                false => 2 * listed.shards.len() >= answers,
            };
            if !there {
                continue;
            }
            let mut meta = listed.meta;
            meta.location = Path::from(name.as_str());
            if let Some(len) = self.len_of(&name, &listed.shards) {
                meta.size = len;
            } else if let Some(found) = self.find(&name).await? {
                meta = found.meta;
            } else {
                continue;
            }
            metas.push(meta);
        }
        Ok(metas)
    }

    /// The length of an object, from the lengths of its shards alone, if they all agree.
    fn len_of(&self, name: &str, shards: &[(usize, u64)]) -> Option<u64> {
        let data = self.layout(name, 0).data;
        let payloads = shards.iter().filter(|(number, _)| *number < data);
        let payloads: Option<Vec<u64>> = payloads.map(|(_, len)| payload_len(*len)).collect();
        let payloads = payloads?;
        let len = match data {
            // Any copy tells.
            1 => payload_len(shards.first()?.1)?,
            _ if payloads.len() == data => payloads.iter().sum(),
            _ => return None,
        };
        let layout = self.layout(name, len);
        let agree = |(number, len): &(usize, u64)| *len == file_len(layout.payload_len(*number));
        shards.iter().all(agree).then_some(len)
    }

    /// The shards below a prefix by object, and how many stores told. A store that does not hold
    /// everything yet is not asked; with fewer than hold all data nothing is known.
    async fn listed(
        &self,
        prefix: &str,
        after: Option<&str>,
    ) -> Result<(BTreeMap<String, Listed>, usize)> {
        let below = match prefix {
            "mmh" => Path::from(crate::names::SHARDS),
            _ => shard_path(prefix).ok_or_else(|| not_found(prefix))?,
        };
        let (below, after) = (&below, &after.and_then(shard_path));
        let lists = self
            .whole()
            .into_iter()
            .map(|(number, backend)| async move {
                let list = match after {
                    Some(after) => backend.objects().list_with_offset(Some(below), after),
                    None => backend.objects().list(Some(below)),
                };
                (number, list.try_collect::<Vec<ObjectMeta>>().await)
            });
        let (mut found, mut answers, mut failed) = (BTreeMap::<String, Listed>::new(), 0, None);
        for (number, list) in join_all(lists).await {
            let metas = match list {
                Ok(metas) => metas,
                Err(error) => {
                    failed = Some(error);
                    continue;
                }
            };
            answers += 1;
            for meta in metas {
                let Some(name) = object_of(meta.location.as_ref()) else {
                    continue;
                };
                let shard = (number, meta.size);
                let shards = Vec::new();
                let listed = found.entry(name).or_insert_with(|| Listed { shards, meta });
                listed.shards.push(shard);
            }
        }
        match failed {
            Some(error) if answers < self.note.data as usize => Err(error),
            _ => Ok((found, answers)),
        }
    }
}

impl StripeEngine {
    fn open(&self) -> Result<&Arc<Stripe>> {
        self.0.as_ref().ok_or_else(|| {
            let what = "stores of a stripe were named, but the stripe was not opened";
            failure(io::ErrorKind::Unsupported, what)
        })
    }
}

impl fmt::Display for StripeEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(stripe) => write!(f, "stripe {}", stripe.shape()),
            None => f.write_str("stripe"),
        }
    }
}

#[async_trait]
impl ObjectStore for StripeEngine {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        let bytes = Bytes::from(payload);
        let stripe = self.open()?;
        stripe.put_as(location.as_ref(), &bytes, &opts.mode).await?;
        Ok(PutResult {
            e_tag: None,
            version: None,
            extensions: Default::default(),
        })
    }

    async fn put_multipart_opts(
        &self,
        _: &Path,
        _: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        // The shards of an object depend on its length: see `Stripe::publish`.
        Err(object_store::Error::NotSupported {
            source: "a stripe takes whole objects".into(),
        })
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let (stripe, name) = (Arc::clone(self.open()?), location.to_string());
        let found = match options.head {
            true => stripe.find(&name).await?.ok_or_else(|| not_found(&name))?,
            false => stripe.find_for_reading(&name).await?,
        };
        options.check_preconditions(&found.meta)?;
        let len = found.meta.size;
        let range = match &options.range {
            Some(range) => range
                .as_range(len)
                .map_err(|e| failure(io::ErrorKind::InvalidInput, e.to_string()))?,
            None => 0..len,
        };
        let wanted = range.clone();
        let read = async move {
            match found.bytes {
                Some(bytes) => Ok(slice(&bytes, &wanted)),
                None => stripe.read(&name, len, wanted).await,
            }
        };
        Ok(GetResult {
            payload: GetResultPayload::Stream(futures::stream::once(read).boxed()),
            meta: found.meta,
            range,
            attributes: Default::default(),
            extensions: Default::default(),
        })
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let engine = self.clone();
        let delete = move |location: Result<Path>| {
            let engine = engine.clone();
            async move {
                let location = location?;
                engine.open()?.delete(location.as_ref()).await?;
                Ok(location)
            }
        };
        locations.map(delete).buffered(PARALLEL).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        listing(self.clone(), prefix, None)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        listing(self.clone(), prefix, Some(offset.to_string()))
    }

    async fn list_with_delimiter(&self, _: Option<&Path>) -> Result<ListResult> {
        Err(object_store::Error::NotSupported {
            source: "a stripe lists whole names".into(),
        })
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let (stripe, name) = (self.open()?, from.as_ref());
        if !matches!(options.mode, CopyMode::Overwrite) {
            return Err(object_store::Error::NotSupported {
                source: "a stripe copies over what is there".into(),
            });
        }
        stripe.check_writable()?;
        let found = stripe.find(name).await?.ok_or_else(|| not_found(name))?;
        let len = found.meta.size;
        let origin = |start: u64, n: u64| {
            // What is set aside is damaged: what is left of it is kept.
            let read = stripe.read_rest(name, len, start..start + n);
            Box::pin(read) as futures::future::BoxFuture<'_, _>
        };
        let all: Vec<usize> = (0..stripe.n()).collect();
        stripe.spread(to.as_ref(), len, &all, &origin).await
    }
}

fn slice(bytes: &Bytes, range: &Range<u64>) -> Bytes {
    bytes.slice(super::shard::to_usize(range.start)..super::shard::to_usize(range.end))
}

fn listing(
    engine: StripeEngine,
    prefix: Option<&Path>,
    after: Option<String>,
) -> BoxStream<'static, Result<ObjectMeta>> {
    let prefix = prefix.map_or_else(|| "mmh".to_owned(), ToString::to_string);
    let list = async move {
        let metas = engine.open()?.list_all(&prefix, after.as_deref()).await?;
        Ok::<_, object_store::Error>(futures::stream::iter(metas.into_iter().map(Ok)))
    };
    futures::stream::once(list).try_flatten().boxed()
}
