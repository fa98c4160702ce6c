//! What unknown bytes look like: text, or arrays of numbers of some width.
//!
//! A guess is a hint for coding and for where chunks begin, never more: joining the parts gives
//! the file back whatever they are called. Everything is computed with integers, because the
//! parts become hashed objects and have to come out the same on every machine.

mod block;
mod repeat;
mod run;

use std::ops::Range;

use mmh_core::TensorInfo;

use crate::container::Container;
use crate::error::{Error, Result};
use crate::layout::{Layout, LayoutBuilder, PartKind};
use crate::read_at::{ReadAt, read_vec};

/// Shorter runs of bytes are not looked at, in unknown files and in known containers.
const UNKNOWN_LEN_MIN: u64 = 16 << 10;
const KNOWN_LEN_MIN: u64 = 256 << 10;
/// How much of a text is looked at: this many samples of this length.
const TEXT_SAMPLES: u64 = 8;
const TEXT_SAMPLE_LEN: u64 = 4 << 10;

/// Looks for text and arrays in the bytes of `layout` that no parser has a name for. An unknown
/// file becomes [`Container::Text`] or [`Container::Array`]; a known one keeps its container and
/// may gain parts, with names such as `array@OFFSET`.
///
/// # Errors
/// Only [`Error::Io`].
pub fn sniff(source: &dyn ReadAt, layout: Layout) -> Result<Layout> {
    let unknown = layout.container() == Container::Unknown;
    if unknown && is_text(source)? {
        return Ok(relabelled(
            Layout::bytes(Container::Text, layout.len()),
            &layout,
        ));
    }
    let len_min = if unknown {
        UNKNOWN_LEN_MIN
    } else {
        KNOWN_LEN_MIN
    };
    let mut arrays = Vec::new();
    for part in layout.parts() {
        if part.kind == PartKind::Bytes && part.len >= len_min {
            arrays.extend(run::arrays(source, part.offset..part.offset + part.len)?);
        }
    }
    if arrays.is_empty() {
        return Ok(layout);
    }
    let container = if unknown {
        Container::Array
    } else {
        layout.container()
    };
    match with_arrays(container, &layout, &arrays) {
        Ok(found) => Ok(relabelled(found, &layout)),
        Err(error @ Error::Io { .. }) => Err(error),
        // More arrays than a layout may hold: the file stays as it was.
        Err(Error::Malformed { .. } | Error::TooLarge { .. }) => Ok(layout),
    }
}

fn relabelled(layout: Layout, like: &Layout) -> Layout {
    match like.note() {
        Some(note) => layout.with_note(note),
        None => layout,
    }
}

fn with_arrays(container: Container, layout: &Layout, arrays: &[run::Array]) -> Result<Layout> {
    let mut builder = LayoutBuilder::new(container, layout.len());
    for (part, info) in layout.tensors() {
        builder.tensor(part.offset, part.len, info.clone())?;
    }
    for external in layout.externals() {
        builder.external(external.clone())?;
    }
    for run::Array { range, dtype } in arrays {
        let Range { start, end } = *range;
        let elements = (end - start) / u64::from(dtype.block().1);
        let name = format!("array@{start}");
        let info = TensorInfo {
            name,
            dtype: *dtype,
            shape: vec![elements],
        };
        builder.tensor(start, end - start, info)?;
    }
    builder.finish()
}

/// Whether samples spread over the source are UTF-8 without control characters.
fn is_text(source: &dyn ReadAt) -> Result<bool> {
    let len = source.len();
    if len == 0 {
        return Ok(false);
    }
    let step = (len / TEXT_SAMPLES).max(TEXT_SAMPLE_LEN);
    let mut at = 0;
    while at < len {
        let sample = read_vec(source, at, TEXT_SAMPLE_LEN.min(len - at))?;
        let cut = (at > 0, at + (sample.len() as u64) < len);
        if !is_text_sample(&sample, cut) {
            return Ok(false);
        }
        at = at.saturating_add(step);
    }
    Ok(true)
}

/// Whether `sample` is text; `cut` says whether its first and its last character may be cut.
fn is_text_sample(sample: &[u8], cut: (bool, bool)) -> bool {
    let continued = sample
        .iter()
        .take(3)
        .take_while(|&&byte| byte & 0xc0 == 0x80)
        .count();
    let sample = sample
        .get(if cut.0 { continued } else { 0 }..)
        .unwrap_or_default();
    let text = match std::str::from_utf8(sample) {
        Ok(text) => text,
        Err(error) if cut.1 && error.error_len().is_none() => {
            let whole = sample.get(..error.valid_up_to()).unwrap_or_default();
            std::str::from_utf8(whole).unwrap_or_default()
        }
        Err(_) => return false,
    };
    text.chars()
        .all(|c| !c.is_control() || matches!(c, '\t' | '\n' | '\r' | '\x0c'))
}

#[cfg(test)]
mod tests;
