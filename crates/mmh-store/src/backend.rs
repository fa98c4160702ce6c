//! Where a repository lives: an object store for what is published, a staging area for what grows.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use mmh_core::error::shorten;
use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;

use crate::error::{Error, Result};
use crate::log_engine::{LogEngine, ObjectLog};
use crate::staging::{LocalStaging, MemoryStaging, Staging};
use crate::vault::Vault;

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
        }
    }

    /// A place as people write it: a path or a `file://` URL.
    ///
    /// # Errors
    /// Unsupported for any other URL; those of [`Backend::local`].
    pub fn parse(text: &str) -> Result<Self> {
        Self::local(local_path(text)?)
    }

    /// Like [`Backend::parse`], but makes nothing: the directory must exist.
    ///
    /// # Errors
    /// Invalid if there is no directory; those of [`Backend::parse`].
    pub fn parse_existing(text: &str) -> Result<Self> {
        let path = local_path(text)?;
        if path.is_dir() {
            return Self::existing(&path);
        }
        Err(Error::NotARepository {
            place: path.display().to_string(),
        })
    }

    /// The same place, but with its log in another engine.
    #[must_use]
    pub fn with_log(self, log: Arc<dyn LogEngine>) -> Self {
        Self {
            log: Some(log),
            ..self
        }
    }

    /// Where the log lives: beside the packs unless [`Backend::with_log`] said otherwise.
    #[must_use]
    pub fn log_engine(&self) -> Arc<dyn LogEngine> {
        match &self.log {
            Some(log) => Arc::clone(log),
            None => Arc::new(ObjectLog(self.clone())),
        }
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

    /// The staging area.
    #[must_use]
    pub fn staging(&self) -> &Arc<dyn Staging> {
        &self.staging
    }
}

fn local_path(text: &str) -> Result<PathBuf> {
    if let Some(path) = text.strip_prefix("file://") {
        if path.starts_with('/') && !path.contains('%') {
            return Ok(PathBuf::from(path));
        }
        let reason = "a file URL has an absolute path without `%`: file:///data/models".to_owned();
        return Err(Error::UnsupportedBackend {
            place: shorten(text),
            reason,
        });
    }
    match text.split_once("://") {
        Some((scheme, _)) => {
            let reason = format!(
                "this build knows directories only, not `{}://`",
                shorten(scheme)
            );
            Err(Error::UnsupportedBackend {
                place: shorten(text),
                reason,
            })
        }
        None if text.is_empty() => Err(Error::UnsupportedBackend {
            place: String::new(),
            reason: "no place given".into(),
        }),
        None => Ok(PathBuf::from(text)),
    }
}

#[cfg(test)]
mod tests {
    use mmh_core::ErrorKind;

    use super::*;

    #[test]
    fn paths_and_file_urls_are_directories() {
        assert_eq!(local_path("a/b").unwrap(), Path::new("a/b"));
        assert_eq!(local_path("file:///a/b").unwrap(), Path::new("/a/b"));
    }

    #[test]
    fn other_engines_are_unsupported_and_say_so() {
        for text in [
            "s3://bucket/x",
            "gs://b",
            "http://h/",
            "file://host/x",
            "file:///a%20b",
            "",
        ] {
            let error = local_path(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{text}");
        }
        assert!(
            local_path("s3://bucket")
                .unwrap_err()
                .to_string()
                .contains("`s3://`")
        );
    }

    #[test]
    fn a_missing_directory_is_not_a_repository() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("none");
        let error = Backend::parse_existing(missing.to_str().unwrap()).unwrap_err();
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
