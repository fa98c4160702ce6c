//! The engine as one simulated process sees it.

use std::fmt;
use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use super::disk::{Effect, folder};
use super::weather::{Fault, Kind};
use super::world::{Process, State};

/// Operations of one life of a process; each is a step of the world.
#[derive(Debug, Clone)]
pub(super) struct SimEngine {
    pub(super) process: Process,
    /// A create replaces what is there, and says that all is well.
    pub(super) ignores_conditions: bool,
}

pub(super) fn planned() -> Error {
    Error::Generic {
        store: "simulated",
        source: "planned fault".into(),
    }
}

fn unused(what: &str) -> Error {
    Error::NotSupported {
        source: format!("the simulated engine has no {what}").into(),
    }
}

impl fmt::Display for SimEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "simulated engine of {}", self.process)
    }
}

impl SimEngine {
    /// Reads something from the engine unless a fault strikes.
    fn read<T>(&self, op: &'static str, name: &str, f: impl FnOnce(&State) -> T) -> Result<T> {
        self.process
            .step(Kind::Read, op, name, |state, fault| match fault {
                Fault::None => Ok(f(state)),
                _ => Err(planned()),
            })
    }

    fn write(&self, op: &'static str, effect: Effect) -> Result<()> {
        let name = effect.name().to_owned();
        let deletes = matches!(effect, Effect::Delete { .. });
        let life = self.process.clone();
        self.process
            .step(Kind::Write, op, &name, move |state, fault| {
                state.write(&life, effect, fault)
            })?;
        if deletes || !self.process.is_local() {
            return Ok(());
        }
        self.process
            .sync_folder(folder(&name))
            .map_err(|_| planned())
    }
}

#[async_trait]
impl ObjectStore for SimEngine {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        let create = matches!(opts.mode, PutMode::Create) && !self.ignores_conditions;
        let effect = Effect::Put {
            name: location.to_string(),
            bytes: payload.into(),
            create,
        };
        self.write(if create { "create" } else { "put" }, effect)?;
        Ok(PutResult {
            e_tag: None,
            version: None,
            extensions: Default::default(),
        })
    }

    async fn put_multipart_opts(
        &self,
        _location: &Path,
        _opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        Err(unused("uploads in parts"))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let op = if options.head { "head" } else { "get" };
        self.read(op, location.as_ref(), |state| {
            let got = state.disk().objects().get_opts(location, options);
            got.now_or_never().unwrap_or_else(|| Err(planned()))
        })?
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.read("get ranges", location.as_ref(), |state| {
            let got = state.disk().objects().get_ranges(location, ranges);
            got.now_or_never().unwrap_or_else(|| Err(planned()))
        })?
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let engine = self.clone();
        locations
            .map(move |location| {
                let location = location?;
                let name = location.to_string();
                engine.write("delete", Effect::Delete { name })?;
                Ok(location)
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let prefix = prefix.map(Path::to_string).unwrap_or_default();
        let listed = self
            .process
            .step(Kind::List, "list", &prefix, |state, fault| match fault {
                Fault::None => Ok(state.disk().list(&prefix)),
                Fault::OldList => Ok(state.list_of_the_past(&prefix)),
                Fault::ShortList => {
                    let mut names = state.disk().list(&prefix);
                    let kept = state.rng().index(names.len() + 1);
                    names.truncate(kept);
                    Ok(names)
                }
                _ => Err(planned()),
            });
        let meta = |(name, size): (String, u64)| ObjectMeta {
            location: Path::from(name),
            last_modified: Default::default(),
            size,
            e_tag: None,
            version: None,
        };
        let all = match listed {
            Ok(names) => names.into_iter().map(|name| Ok(meta(name))).collect(),
            Err(error) => vec![Err(error)],
        };
        futures::stream::iter(all).boxed()
    }

    async fn list_with_delimiter(&self, _prefix: Option<&Path>) -> Result<ListResult> {
        Err(unused("folders"))
    }

    async fn copy_opts(&self, _from: &Path, _to: &Path, _options: CopyOptions) -> Result<()> {
        Err(unused("copies"))
    }
}
