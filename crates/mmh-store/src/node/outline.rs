//! The outline of a pack, for sending slices of it.

use std::sync::Arc;

use mmh_core::PackId;

use super::slice::{Outline, Outliner};
use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::names;
use crate::pack::TRAILER_LEN;
use crate::parity::{CELL_HEAD_LEN, end_mark};

/// Bytes that are read at once.
const WINDOW: u64 = 1 << 20;

/// A pack that slices can be made of.
#[derive(Debug)]
pub struct Outlined {
    /// The tree over its content, that is, everything that its id stands for.
    pub outline: Outline,
    /// Length in bytes of the file: content, trailer and parity.
    pub file_len: u64,
}

/// Reads a pack and computes the outline of its content.
///
/// # Errors
/// NotFound; Corrupt if the content does not have the digest that names it: slices of it would be
/// refused by whoever gets them.
pub async fn outline(backend: &Backend, pack: PackId) -> Result<Arc<Outlined>> {
    let name = names::pack(&pack);
    let len = backend.len(&name).await?;
    let file_len = len.ok_or_else(|| Error::NoSuchObject { what: name.clone() })?;
    let damaged = |reason: &str| Error::CorruptPack {
        pack,
        offset: 0,
        chunk: None,
        reason: reason.to_owned(),
    };
    let mark_len = file_len.min(CELL_HEAD_LEN as u64);
    if mark_len == 0 {
        return Err(damaged("it is empty"));
    }
    let mark = backend
        .read_range(&name, file_len - mark_len, mark_len)
        .await?;
    let body_len = end_mark(&mark, file_len).map_or(file_len, |geometry| geometry.body_len());
    let content_len = body_len.checked_sub(TRAILER_LEN as u64);
    let content_len = content_len.ok_or_else(|| damaged("it is shorter than its trailer"))?;
    let mut outliner = Outliner::default();
    let mut offset = 0;
    while offset < content_len {
        let window = WINDOW.min(content_len - offset);
        let bytes = backend.read_range(&name, offset, window).await?;
        offset += window;
        let job = move || {
            outliner.update(&bytes);
            outliner
        };
        let hashed = tokio::task::spawn_blocking(job).await;
        outliner = hashed.map_err(|error| Error::Internal {
            what: format!("a hashing job stopped: {error}"),
        })?;
    }
    let (outline, digest) = outliner.finish();
    if digest != *pack.digest() {
        return Err(damaged(
            "its content does not have the digest that names it",
        ));
    }
    Ok(Arc::new(Outlined { outline, file_len }))
}
