//! Where a repository lives: an object store for what is published, a staging area for what grows,
//! and, beyond this machine, a cache of what was read.

pub(crate) mod place;
mod remote;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use mmh_core::Digest;
use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;

use crate::access::Access;
use crate::cache::{Cache, private_folder};
use crate::error::{Error, Result};
use crate::log_engine::{LogEngine, ObjectLog};
use crate::staging::{LocalStaging, MemoryStaging, Staging};
use crate::stripe::{Away, Given, Stripe, StripeEngine};
use crate::sync::Peer;
use crate::vault::Vault;
use place::Place;
pub(crate) use place::without_user;
#[allow(unused_imports, reason = "for logs elsewhere")]
pub(crate) use remote::is_loopback;

/// A place for a repository: an engine for published objects and a staging area for the packs
/// that a writer is filling. Cheap to clone; clones share the place.
#[derive(Debug, Clone)]
pub struct Backend {
    name: String,
    objects: Arc<dyn ObjectStore>,
    staging: Arc<dyn Staging>,
    /// Where the log lives, if not beside the packs.
    log: Option<Arc<dyn LogEngine>>,
    root: Option<PathBuf>,
    /// What seals the repository in this place, once that is known.
    vault: Vault,
    /// What was read from an engine elsewhere.
    cache: Option<Arc<Cache>>,
    /// How engines elsewhere, the log's among them, are reached.
    access: Arc<Access>,
    elsewhere: bool,
    /// Whom to ask what only a node can tell.
    #[cfg(feature = "node")]
    node: Option<crate::node::client::Node>,
    /// Who answers for the repository, if it is alive there.
    peer: Option<Arc<dyn Peer>>,
    /// Stores of a stripe that were named, until it is opened.
    given: Arc<[Given]>,
    /// The stripe, once it is opened.
    stripe: Option<Arc<Stripe>>,
}

impl Backend {
    /// A directory. Every object is synced with its directory before it counts; growing packs
    /// lie in `mmh/staging` and are published by renaming. The directory is made if needed.
    ///
    /// # Errors
    /// Denied or Unavailable if it cannot be made; Invalid if a file is in its place.
    pub fn local(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let name = path.display().to_string();
        std::fs::create_dir_all(path).map_err(Error::io(&name))?;
        Self::existing(path)
    }

    /// A directory that must exist already, for opening.
    fn existing(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let root = path.canonicalize().map_err(Error::io(&name))?;
        let engine = LocalFileSystem::new_with_prefix(&root).map_err(Error::engine(&name))?;
        let objects: Arc<dyn ObjectStore> = Arc::new(engine.with_fsync(true));
        let staging: Arc<dyn Staging> = Arc::new(LocalStaging::in_repository(&root));
        Ok(Self {
            name,
            objects,
            staging,
            log: None,
            root: Some(root),
            vault: Vault::default(),
            cache: None,
            access: Arc::default(),
            elsewhere: false,
            #[cfg(feature = "node")]
            node: None,
            peer: None,
            given: Arc::default(),
            stripe: None,
        })
    }

    /// Memory, for tests: gone when the last clone is.
    #[must_use]
    pub fn memory() -> Self {
        Self::custom(
            "memory",
            Arc::new(InMemory::new()),
            Arc::new(MemoryStaging::default()),
        )
    }

    /// Any engine with any staging area; `name` is for messages.
    #[must_use]
    pub fn custom(name: &str, objects: Arc<dyn ObjectStore>, staging: Arc<dyn Staging>) -> Self {
        Self {
            name: name.to_owned(),
            objects,
            staging,
            log: None,
            root: None,
            vault: Vault::default(),
            cache: None,
            access: Arc::default(),
            elsewhere: false,
            #[cfg(feature = "node")]
            node: None,
            peer: None,
            given: Arc::default(),
            stripe: None,
        }
    }

    /// Stores of one stripe, in any order. What was written lies on all of them.
    #[must_use]
    pub fn stripe_of(stores: Vec<Self>) -> Self {
        Self::of_given(stores.into_iter().map(Given::store).collect())
    }

    fn of_given(given: Vec<Given>) -> Self {
        let places: Vec<&str> = given.iter().map(|one| one.place.as_str()).collect();
        let name = places.join(",");
        // Nothing is read or written before the stripe is opened.
        let (closed, staging) = (StripeEngine(None), MemoryStaging::default());
        Self {
            given: given.into(),
            ..Self::custom(&name, Arc::new(closed), Arc::new(staging))
        }
    }

    /// The same place, spread over the stores of a stripe.
    pub(crate) fn spread_over(
        &self,
        name: &str,
        engine: Arc<StripeEngine>,
        staging: Arc<dyn Staging>,
        (elsewhere, cache): (bool, Option<Arc<Cache>>),
    ) -> Self {
        Self {
            name: name.to_owned(),
            stripe: engine.0.clone(),
            objects: engine,
            staging,
            root: None,
            elsewhere,
            cache,
            peer: None,
            #[cfg(feature = "node")]
            node: None,
            ..self.clone()
        }
    }

    /// A place as people write it: a path, or a URL `file:///…`, `s3://bucket/prefix`, `gs://…`,
    /// `az://…` or `mmhs://PIN@host:port`; several, with commas between, are the stores of a stripe.
    /// Folders are made; nothing is asked of engines elsewhere yet.
    ///
    /// # Errors
    /// Unsupported for any other URL, or an engine that this build was made without; Invalid or
    /// Denied if `access` lacks what the place needs; those of [`Backend::local`].
    pub fn parse(text: &str, access: &Access) -> Result<Self> {
        if let Some(places) = stores_of(text)? {
            let stores = places.into_iter().map(|place| Self::parse(place, access));
            let stores = stores.collect::<Result<Vec<_>>>()?;
            return Ok(Self::stripe_of(stores).with_access(access));
        }
        let backend = match Place::parse(text)? {
            Place::Folder(path) => Self::local(path)?,
            bucket => Self::remote(&bucket, access)?,
        };
        Ok(backend.with_access(access))
    }

    /// Like [`Backend::parse`], but makes nothing: a folder must exist, unless it is one of several.
    ///
    /// # Errors
    /// NotFound if there is no folder; those of [`Backend::parse`].
    pub fn parse_existing(text: &str, access: &Access) -> Result<Self> {
        if let Some(places) = stores_of(text)? {
            let stores = places.into_iter();
            let stores = stores.map(|place| Given::existing(place, access));
            return Ok(Self::of_given(stores.collect()).with_access(access));
        }
        let backend = match Place::parse(text)? {
            Place::Folder(path) if path.is_dir() => Self::existing(&path)?,
            Place::Folder(path) => return Err(no_repository(&path)),
            bucket => Self::remote(&bucket, access)?,
        };
        Ok(backend.with_access(access))
    }

    /// A bucket elsewhere, with a folder of its own on this machine for what is staged and what
    /// was read.
    fn remote(place: &Place, access: &Access) -> Result<Self> {
        let objects = remote::build(place, access)?;
        let name = place.to_string();
        let Some(cache) = &access.cache else {
            let reason = "a place elsewhere needs a cache folder on this machine".to_owned();
            return Err(Error::BadPlace {
                place: name,
                reason,
            });
        };
        // Equal buckets of two endpoints are two places.
        let endpoint = remote::endpoint(place, access).unwrap_or_default();
        let key = Digest::of(format!("{endpoint}\n{objects}\n{name}").as_bytes()).to_string();
        let folder = cache.join(&key[..32]);
        // If it cannot be made, whoever writes into it says so.
        let _said_later = private_folder(&folder).is_err();
        let staging = Arc::new(LocalStaging::in_folder(&folder.join("staging")));
        let cache = Cache::new(folder.join("pieces"), access.cache_len_max);
        let backend = Self {
            cache: Some(Arc::new(cache)),
            elsewhere: true,
            ..Self::custom(&name, objects, staging)
        };
        #[cfg(feature = "node")]
        if let Place::Node(node) = place {
            let node = crate::node::client::Node::new(node, access)?;
            let peer = Arc::new(node.clone());
            let node = Some(node);
            return Ok(Self { node, ..backend }.with_peer(peer));
        }
        Ok(backend)
    }

    pub(crate) fn with_access(self, access: &Access) -> Self {
        Self {
            access: Arc::new(access.clone()),
            ..self
        }
    }

    /// The same place, with a cache in `folder` of at most `len_max` bytes.
    #[must_use]
    pub fn with_cache(self, folder: PathBuf, len_max: u64) -> Self {
        Self {
            cache: Some(Arc::new(Cache::new(folder, len_max))),
            ..self
        }
    }

    /// The same place, but with its log in another engine.
    #[must_use]
    pub fn with_log(self, log: Arc<dyn LogEngine>) -> Self {
        Self {
            log: Some(log),
            ..self
        }
    }

    /// The same place, where somebody answers for the repository.
    #[must_use]
    pub fn with_peer(self, peer: Arc<dyn Peer>) -> Self {
        Self {
            peer: Some(peer),
            ..self
        }
    }

    /// Who answers for the repository, if anybody does.
    pub(crate) fn peer(&self) -> Option<&Arc<dyn Peer>> {
        self.peer.as_ref()
    }

    /// Where the log lives: beside the packs unless [`Backend::with_log`] said otherwise.
    #[must_use]
    pub fn log_engine(&self) -> Arc<dyn LogEngine> {
        match &self.log {
            Some(log) => Arc::clone(log),
            None => Arc::new(ObjectLog(self.clone())),
        }
    }

    /// Where the log lives, if [`Backend::with_log`] said so.
    pub(crate) fn log_elsewhere(&self) -> Option<&Arc<dyn LogEngine>> {
        self.log.as_ref()
    }

    /// How engines elsewhere are reached.
    #[must_use]
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// Whether it is an engine elsewhere, whose promises are tried and not believed.
    #[must_use]
    pub fn is_elsewhere(&self) -> bool {
        self.elsewhere
    }

    /// The place, for messages.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The directory, if the place is one.
    #[must_use]
    pub fn root(&self) -> Option<&Path> {
        self.root.as_deref()
    }

    /// The engine for published objects.
    #[must_use]
    pub fn objects(&self) -> &Arc<dyn ObjectStore> {
        &self.objects
    }

    /// The same place with the keys of the repository in it.
    pub(crate) fn with_vault(self, vault: Vault) -> Self {
        Self { vault, ..self }
    }

    /// What seals the repository.
    pub(crate) fn vault(&self) -> &Vault {
        &self.vault
    }

    /// Stores of a stripe that were named.
    pub(crate) fn given(&self) -> &[Given] {
        &self.given
    }

    /// The stripe, if the repository is one.
    pub(crate) fn stripe(&self) -> Option<&Arc<Stripe>> {
        self.stripe.as_ref()
    }

    /// The stores of the stripe that are not there, or were given and do not belong to it.
    #[must_use]
    pub fn away(&self) -> Vec<Away> {
        self.stripe()
            .map(|stripe| stripe.away())
            .unwrap_or_default()
    }

    /// How many damaged shards of a stripe readers have met and read around.
    #[must_use]
    pub fn shards_read_around(&self) -> usize {
        self.stripe().map_or(0, |stripe| stripe.n_met())
    }

    /// What was read from elsewhere, for a stripe of which this place is a store.
    pub(crate) fn shared_cache(&self) -> Option<Arc<Cache>> {
        self.cache.clone()
    }

    /// What was read from elsewhere.
    pub(crate) fn cache(&self) -> Option<&Cache> {
        self.cache.as_deref()
    }

    /// The node, if the place is one.
    #[cfg(feature = "node")]
    pub(crate) fn node(&self) -> Option<&crate::node::client::Node> {
        self.node.as_ref()
    }

    /// The staging area.
    #[must_use]
    pub fn staging(&self) -> &Arc<dyn Staging> {
        &self.staging
    }
}

/// The places of several stores: with commas between them, unless there is a folder of that name.
fn stores_of(text: &str) -> Result<Option<Vec<&str>>> {
    if !text.contains(',') || Path::new(text).exists() {
        return Ok(None);
    }
    let places: Vec<&str> = text.split(',').collect();
    if places.iter().any(|place| place.is_empty()) {
        return Err(Error::BadStripe {
            reason: format!("`{}` names an empty place", without_user(text)),
        });
    }
    Ok(Some(places))
}

/// Reports a folder that is not there as what it is to the caller.
fn no_repository(path: &Path) -> Error {
    Error::NotARepository {
        place: path.display().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use mmh_core::ErrorKind;

    use super::*;

    /// Else one would read what the other has staged and kept.
    #[cfg(feature = "s3")]
    #[test]
    fn equal_buckets_of_two_endpoints_have_folders_of_their_own() {
        let dir = tempfile::tempdir().unwrap();
        let at = |endpoint: &str, place: &str| {
            let variables = [
                ("AWS_ACCESS_KEY_ID", "key"),
                ("AWS_SECRET_ACCESS_KEY", "secret"),
                ("AWS_ENDPOINT_URL", endpoint),
            ];
            let access = Access {
                variables: variables.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
                cache: Some(dir.path().to_owned()),
                ..Access::default()
            };
            let backend = Backend::parse(place, &access).unwrap();
            let file = backend.staging().create().unwrap();
            Path::new(&file.name()).parent().unwrap().to_owned()
        };
        let one = at("https://one.example", "s3://models/a");
        assert_eq!(at("https://one.example", "s3://models/a/"), one);
        assert_ne!(at("https://two.example", "s3://models/a"), one);
        assert_ne!(at("https://one.example", "s3://models/b"), one);
        assert!(one.starts_with(dir.path()));
    }

    #[test]
    fn a_missing_directory_is_not_a_repository() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("none");
        let error =
            Backend::parse_existing(missing.to_str().unwrap(), &Access::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(!missing.exists());
    }

    #[test]
    fn a_file_in_the_place_of_the_directory_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f");
        std::fs::write(&file, b"x").unwrap();
        assert!(Backend::local(&file).is_err());
        assert!(Backend::local(file.join("below")).is_err());
    }
}
