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
    place_arrays(&pickle, window.offset(), stem, builder)?;
    let mut note = None;
    for (key, storage) in storages(&pickle) {
        let name = format!("{stem}/{key}");
        let wrong = match by_name.get(name.as_str()) {
            _ if storage.n_elements == 0 => continue, // empty members are no windows
            None => "is missing",
            Some(content) if content.window(source).is_none() => "is compressed or empty",
            Some(content) if storage.bytes() == Some(content.len) => {
                storage.place(builder, content.offset, content.len)?;
                continue;
            }
            Some(_) => "has another length than claimed",
        };
        note = Some(format!("storage `{}` {wrong}", shorten(&name)));
    }
    Ok(note)
}

const CONTAINER: Container = Container::TorchZip;

#[cfg(test)]
mod tests {
    use mmh_core::Dtype;
    use proptest::prelude::*;

    use super::*;
    use crate::hostile::attack;
    use crate::samples::strategy::tensors;
    use crate::samples::torch::zip;
    use crate::samples::zip::{Entry, Form, archive};
    use crate::samples::{SampleTensor, assert_holds};
    use crate::zip as archives;

    fn two() -> Vec<SampleTensor> {
        vec![
            SampleTensor::new("a", Dtype::F32, &[2, 2]),
            SampleTensor::new("b", Dtype::U8, &[3]),
        ]
    }

    /// The members of a sample, to be changed and archived again.
    fn entries(tensors: &[SampleTensor]) -> Vec<Entry> {
        let file = zip(tensors);
        let members = archives::members(&file).unwrap();
        let entries = members.iter().map(|member| {
            Entry::new(
                &member.name,
                read_vec(&file, member.offset, member.len).unwrap(),
            )
        });
        entries.collect()
    }

    fn parsed(entries: &[Entry]) -> (Vec<u8>, Result<Layout>) {
        let file = archive(entries, Form::Plain);
        let layout = archives::parse(&file);
        (file, layout)
    }

    #[test]
    fn the_folder_may_have_any_name_or_none() {
        for folder in ["archive/", "my model/", ""] {
            let mut entries = entries(&two());
            for entry in &mut entries {
                entry.name = entry.name.replace("archive/", folder);
            }
            let (file, layout) = parsed(&entries);
            let layout = layout.unwrap();
            assert_eq!(layout.container(), CONTAINER, "{folder}");
            assert_holds(&layout, &file, &two());
        }
        // A data.pkl deeper inside is not PyTorch's.
        let deep = [Entry::new("a/b/data.pkl", b"N.".to_vec())];
        assert_eq!(parsed(&deep).1.unwrap().container(), Container::Zip);
    }

    #[test]
    fn constants_of_torchscript_are_storages_too() {
        let mut entries = entries(&two()[..1]);
        let constants = entries.clone().into_iter().filter_map(|mut entry| {
            entry.name = match entry.name.as_str() {
                "archive/data.pkl" => "archive/constants.pkl".to_owned(),
                "archive/data/0" => "archive/constants/0".to_owned(),
                _ => return None,
            };
            Some(entry)
        });
        let constants: Vec<Entry> = constants.collect();
        entries.extend(constants);
        let (_, layout) = parsed(&entries);
        assert_eq!(layout.unwrap().tensors().count(), 2);
    }

    #[test]
    fn a_storage_that_is_not_as_claimed_is_bytes_with_a_note() {
        let change = |change: fn(&mut Entry)| {
            let mut entries = entries(&two());
            let storage = entries.iter_mut().find(|e| e.name == "archive/data/0");
            change(storage.unwrap());
            let (file, layout) = parsed(&entries);
            let layout = layout.unwrap();
            assert_holds(&layout, &file, &two()[1..]);
            layout.note().unwrap().to_owned()
        };
        assert!(change(|entry| entry.content.push(0)).contains("another length"));
        assert!(change(|entry| entry.content.clear()).contains("empty"));
        assert!(change(|entry| entry.method = 8).contains("compressed"));
        assert!(change(|entry| entry.name.push('0')).contains("missing"));
    }

    #[test]
    fn a_pickle_that_cannot_be_read_is_malformed() {
        for change in [(|e| e.method = 8) as fn(&mut Entry), |e| {
            e.content = b"t.".to_vec()
        }] {
            let mut entries = entries(&two());
            change(&mut entries[0]);
            assert!(matches!(parsed(&entries).1, Err(Error::Malformed { .. })));
        }
        // Another pickle of the archive is not what the file is about.
        let mut entries = entries(&two());
        entries.push(Entry::new("archive/other.pkl", b"t.".to_vec()));
        let (file, layout) = parsed(&entries);
        let layout = layout.unwrap();
        assert_holds(&layout, &file, &two());
        assert!(layout.note().unwrap().contains("other.pkl"));
    }

    #[test]
    fn big_endian_storages_are_bytes_with_a_note() {
        let mut entries = entries(&two());
        let order = entries
            .iter_mut()
            .find(|e| e.name == "archive/byteorder")
            .unwrap();
        order.content = b"big".to_vec();
        let layout = parsed(&entries).1.unwrap();
        assert_eq!(
            (layout.container(), layout.tensors().count()),
            (CONTAINER, 0)
        );
        assert!(layout.note().unwrap().contains("big-endian"));
    }

    const DTYPES: &[Dtype] = &[Dtype::F32, Dtype::BF16, Dtype::I16, Dtype::I8, Dtype::C64];

    proptest! {
        #[test]
        fn holds_what_was_written(tensors in tensors(DTYPES)) {
            let file = zip(&tensors);
            assert_holds(&archives::parse(&file).unwrap(), &file, &tensors);
        }
    }

    #[test]
    fn hostile_files_tile_or_err() {
        attack(archives::parse, &zip(&two()), 3000);
    }
}
