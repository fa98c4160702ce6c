//! PyTorch zip files: pickles whose tensors are views of storages in other members.
//!
//! Layout: `_save` in `torch/serialization.py`. The pickle `X/data.pkl` refers to the storages
//! `X/data/KEY`; TorchScript adds `X/constants.pkl` with `X/constants/KEY`, and so on.

use std::collections::BTreeMap;

use mmh_core::error::shorten;

use crate::container::Container;
use crate::error::{Error, Result};
use crate::layout::{Layout, LayoutBuilder};
use crate::pickle::machine::scan;
use crate::pickle::place_arrays;
use crate::pickle::torch::storages;
use crate::read_at::{ReadAt, read_vec};
use crate::zip::Member;

/// The folder of a PyTorch archive with its slash, or `None` if these members are no such archive.
pub(crate) fn root(members: &[Member]) -> Option<&str> {
    members.iter().find_map(|member| {
        let root = member.name.strip_suffix("data.pkl")?;
        let one_folder = root.is_empty() || root.find('/') == Some(root.len() - 1);
        one_folder.then_some(root)
    })
}

/// Locates the storages.
///
/// # Errors
/// [`Error::Malformed`] if `data.pkl` is no pickle; [`Error::TooLarge`] beyond the limits;
/// [`Error::Io`].
pub(crate) fn parse(source: &dyn ReadAt, members: &[Member], root: &str) -> Result<Layout> {
    let by_name: BTreeMap<&str, &Member> = members
        .iter()
        .filter_map(|m| Some((m.name.strip_prefix(root)?, m)))
        .collect();
    if let Some(window) = by_name.get("byteorder").and_then(|m| m.window(source)) {
        let text = read_vec(&window, 0, window.len().min(16))?;
        if text.trim_ascii() == b"big" {
            return Ok(Layout::bytes(CONTAINER, source.len()).with_note("big-endian storages"));
        }
    }
    let mut builder = LayoutBuilder::new(CONTAINER, source.len());
    let mut notes = Vec::new();
    for (name, member) in &by_name {
        let Some(stem) = name.strip_suffix(".pkl").filter(|stem| !stem.contains('/')) else {
            continue;
        };
        match place_storages(source, &by_name, (stem, member), &mut builder) {
            Ok(note) => notes.extend(note),
            Err(error @ Error::Io { .. }) => return Err(error),
            Err(error) if stem == "data" => return Err(error),
            Err(error) => notes.push(format!("`{}`: {error}", shorten(name))),
        }
    }
    let layout = builder.finish()?;
    Ok(match notes.first() {
        Some(note) => layout.with_note(note.as_str()),
        None => layout,
    })
}

/// Places the storages that one pickle refers to; returns what is wrong with one of them.
fn place_storages(
    source: &dyn ReadAt,
    by_name: &BTreeMap<&str, &Member>,
    (stem, member): (&str, &Member),
    builder: &mut LayoutBuilder,
) -> Result<Option<String>> {
    let Some(window) = member.window(source) else {
        return Err(Error::malformed(
            CONTAINER,
            format!("`{stem}.pkl` is empty or compressed"),
        ));
    };
    let pickle = scan(&window, CONTAINER, 0)?;
    place_arrays(&pickle, &window, window.offset(), stem, builder)?;
    let mut note = None;
    for (key, storage) in storages(&pickle) {
        let name = format!("{stem}/{key}");
        let content = by_name
            .get(name.as_str())
            .filter(|m| m.window(source).is_some());
        match content {
            Some(content) if storage.bytes() == Some(content.len) => {
                storage.place(builder, content.offset, content.len)?;
            }
            // An empty storage has an empty member.
            None if storage.n_elements == 0 => {}
            Some(content) => {
                note = Some(format!(
                    "storage `{}` has {} bytes",
                    shorten(&name),
                    content.len
                ));
            }
            None => {
                note = Some(format!(
                    "storage `{}` is not there as it is",
                    shorten(&name)
                ))
            }
        }
    }
    Ok(note)
}

const CONTAINER: Container = Container::TorchZip;
