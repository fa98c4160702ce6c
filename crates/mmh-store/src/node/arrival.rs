//! Objects that arrive from a client: staged while they come, checked, then published, as a
//! writer of this machine would do it.

use bytes::Bytes;
use mmh_core::PackId;
use mmh_core::ports::Cancel;

use super::wire;
use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::pack::{Source, publish_as};
use crate::scrub::{Pace, is_whole};
use crate::staging::StagedFile;

/// An object on its way in. Dropped before it is published, it leaves nothing behind.
#[derive(Debug)]
pub struct Arrival {
    backend: Backend,
    name: String,
    pack: Option<PackId>,
    file: Option<Box<dyn StagedFile>>,
}

impl Arrival {
    /// Begins to take in an object; `name` is one that nodes serve.
    ///
    /// # Errors
    /// Those of the staging area.
    pub fn begin(backend: &Backend, name: &str) -> Result<Self> {
        let file = backend.staging().create();
        Ok(Self {
            backend: backend.clone(),
            name: name.to_owned(),
            pack: wire::pack_of(name),
            file: Some(file.map_err(Error::io(backend.name()))?),
        })
    }

    /// Takes the next bytes. Blocks on the disk.
    ///
    /// # Errors
    /// Those of the staging area.
    pub fn append(&self, bytes: &Bytes) -> Result<()> {
        match &self.file {
            Some(file) => file.append(&[bytes]).map_err(Error::io(file.name())),
            None => Ok(()),
        }
    }

    /// Checks a pack against its name and its parity, and publishes.
    ///
    /// # Errors
    /// Invalid if it is not the pack that its name says; those of staging area and engine.
    pub async fn publish(mut self) -> Result<()> {
        let Some(file) = self.file.take() else {
            return Ok(());
        };
        let checked = self.check(&*file).await;
        let published = match checked {
            Ok(()) => publish_as(&self.backend, &*file, &self.name).await,
            Err(error) => Err(error),
        };
        if published.is_err() {
            self.file = Some(file);
        }
        published
    }

    async fn check(&self, file: &dyn StagedFile) -> Result<()> {
        if let Some(pack) = self.pack {
            let source = Source::Staged(file);
            let whole = is_whole(source, pack, &mut Pace::new(None), &Cancel::default()).await?;
            if whole.is_none() {
                return Err(Error::BadArrival {
                    object: self.name.clone(),
                    reason: "it is not the pack that its name says",
                });
            }
        }
        let file_name = file.name();
        file.sync().map_err(Error::io(file_name))
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        if let Some(file) = self.file.take() {
            // What stays is found by the next writer's recovery.
            let _stays = file.discard().is_err();
        }
    }
}
