//! Looking into a file without storing it: container, tensors, and what coding would make of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mmh_core::TensorInfo;
use mmh_formats::read_at::FileSource;
use mmh_store::ChunkerParams;
use rayon::prelude::*;
use serde::Serialize;

use crate::base::Matcher;
use crate::cut::{Cutter, Job, Piece, Place, Slot};
use crate::error::{Error, Result};
use crate::ingest::{base_of, context};
use crate::outside::Outside;
use crate::repository::{Components, Settings};
use crate::workshop::Workshop;

/// A tensor, or all bytes that belong to none.
#[derive(Debug, Clone, Serialize)]
pub struct PartReport {
    /// The tensor's name; `None` for other bytes.
    pub name: Option<String>,
    /// Its element type.
    pub dtype: Option<String>,
    /// Its shape.
    pub shape: Vec<u64>,
    /// Its bytes.
    pub raw: u64,
    /// What they would be coded in. Small parts share chunks; each is given its share.
    pub coded: u64,
    /// Elements, if it is a tensor.
    pub elements: u64,
    /// How its first chunk would be coded.
    pub method: String,
    /// How each plane of that chunk would be, as `exponent rans`.
    pub coders: Vec<String>,
    /// The tensor that the chunk would be coded as the difference from.
    pub base: Option<String>,
}

impl PartReport {
    /// Bits of one element before and after coding; `None` for bytes.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "for display")]
    pub fn bits_per_weight(&self) -> Option<(f64, f64)> {
        let n = self.elements;
        (n > 0).then(|| {
            (
                self.raw as f64 * 8.0 / n as f64,
                self.coded as f64 * 8.0 / n as f64,
            )
        })
    }
}

/// What a file is.
#[derive(Debug, Clone, Serialize)]
pub struct InspectReport {
    /// The container that was recognised.
    pub container: String,
    /// Why it would be kept as bytes although it looked like a container.
    pub note: Option<String>,
    /// The effort of the encoder.
    pub level: String,
    /// Its bytes.
    pub raw: u64,
    /// What they would be coded in, headers of chunks and objects not counted.
    pub coded: u64,
    /// Its tensors in order of place, then all other bytes.
    pub parts: Vec<PartReport>,
    /// Files beside it that hold more of its tensors.
    pub externals: Vec<String>,
}

#[derive(Debug, Default)]
struct Sized {
    raw: u64,
    coded: u64,
    method: String,
    coders: Vec<String>,
    base: Option<String>,
}

/// Inspects a file. Tensors may be coded as differences from those in `bases`.
///
/// # Errors
/// `NotFound`, `Denied`; `Unavailable` when the user cancels.
pub fn inspect(
    path: &Path,
    bases: &[PathBuf],
    settings: Settings,
    components: Components,
) -> Result<InspectReport> {
    let shop = Workshop::new(settings, components, &ChunkerParams::default())?;
    // Before opening: to open a pipe is to wait for its writer.
    let meta = std::fs::metadata(path).map_err(Error::io("read", path))?;
    if !meta.is_file() {
        let what = if meta.is_dir() { "a folder" } else { "no file" };
        return Err(Error::Invalid(format!(
            "{} is {what}; name a file",
            path.display()
        )));
    }
    let file = std::fs::File::open(path).map_err(Error::io("open", path))?;
    let source = FileSource::new(file).map_err(Error::io("read", path))?;
    let name = path
        .file_name()
        .map(|n| n.to_string_lossy())
        .unwrap_or_default();
    let layout = mmh_formats::probe(&source, &name)?;
    let (outside, set) = Outside::open(bases, shop.chunking, &shop.components)?;
    let set = Arc::new(set);
    let candidates = || Ok(vec![Arc::clone(&set)]);
    let matcher = Matcher::new((&outside, &candidates), (&source, &layout), shop.chunking);
    let mut cutter = Cutter::new(&source, &layout, shop.chunking);
    let mut sizes: BTreeMap<Slot, Sized> = BTreeMap::new();
    let mut pieces = Vec::new();
    let progress = shop.components.progress.as_ref();
    progress.begin("inspecting", Some(layout.len()));
    loop {
        shop.components.cancel.check()?;
        let batch = cutter.next_batch(shop.batch_len())?;
        if batch.pieces.is_empty() && batch.jobs.is_empty() {
            break;
        }
        let one = |job: &Job| -> Result<(Slot, Sized)> {
            let sized = size(job, &shop, &matcher)?;
            progress.advance(sized.raw);
            Ok((job.slot, sized))
        };
        let coded: Result<Vec<_>> = shop
            .components
            .pool
            .install(|| batch.jobs.par_iter().map(one).collect());
        sizes.extend(coded?);
        pieces.extend(batch.pieces);
    }
    progress.end();
    let parts = parts(pieces, &sizes);
    Ok(InspectReport {
        container: layout.container().as_str().to_owned(),
        note: layout.note().map(str::to_owned),
        level: shop.settings.level.to_string(),
        raw: layout.len(),
        coded: sizes.values().map(|s| s.coded).sum(),
        parts,
        externals: layout
            .externals()
            .iter()
            .map(|e| e.location.clone())
            .collect(),
    })
}

/// Codes a chunk and says what came of it.
fn size(job: &Job, shop: &Workshop, matcher: &Matcher<'_>) -> Result<Sized> {
    let base = base_of(job, Some(matcher))?;
    shop.encoders.with(|encoder, frame| {
        let method = encoder.encode_with(&job.raw, &job.hint, &context(base.as_ref()), frame)?;
        let info = mmh_codec::frame_info(frame)?;
        let planes = info.planes.iter();
        let referred = base.filter(|_| info.references.base.is_some());
        Ok(Sized {
            raw: job.raw.len() as u64,
            coded: frame.len() as u64,
            method: method.as_str().to_owned(),
            coders: planes.map(|p| format!("{} {}", p.name, p.coder)).collect(),
            base: referred.map(|base| base.tensor.name),
        })
    })
}

/// Shares the sizes of chunks out among the tensors and bytes that lie in them.
fn parts(pieces: Vec<Piece>, sizes: &BTreeMap<Slot, Sized>) -> Vec<PartReport> {
    let mut parts: Vec<PartReport> = Vec::new();
    let mut bytes = PartReport::new(None);
    let mut in_tensor = false;
    for piece in pieces {
        match (piece.begins, piece.place) {
            (Some(info), _) => {
                parts.push(PartReport::new(Some(info)));
                in_tensor = true;
            }
            (None, Place::Continues) => {}
            (None, _) => in_tensor = false,
        }
        let part = if in_tensor { parts.last_mut() } else { None };
        part.unwrap_or(&mut bytes)
            .count(u64::from(piece.len), &sizes[&piece.slot]);
    }
    parts.extend(Some(bytes).filter(|b| b.raw > 0));
    parts
}

impl PartReport {
    fn new(info: Option<TensorInfo>) -> Self {
        let (raw, coded, method, coders, base) = (0, 0, String::new(), Vec::new(), None);
        match info {
            Some(info) => {
                let elements = info.elements().unwrap_or(0);
                let dtype = Some(info.dtype.as_str().to_owned());
                Self {
                    name: Some(info.name),
                    dtype,
                    shape: info.shape,
                    raw,
                    coded,
                    elements,
                    method,
                    coders,
                    base,
                }
            }
            None => Self {
                name: None,
                dtype: None,
                shape: Vec::new(),
                raw,
                coded,
                elements: 0,
                method,
                coders,
                base,
            },
        }
    }

    fn count(&mut self, len: u64, chunk: &Sized) {
        self.raw += len;
        self.coded += (chunk.coded * len).div_ceil(chunk.raw.max(1));
        if self.method.is_empty() {
            self.method.clone_from(&chunk.method);
            self.coders.clone_from(&chunk.coders);
            self.base.clone_from(&chunk.base);
        }
    }
}

#[cfg(test)]
mod tests;
