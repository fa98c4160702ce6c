//! Which container a file is: its first bytes first, its name second.

use crate::arrow;
use crate::container::Container;
use crate::ctranslate2;
use crate::error::{Error, Result};
use crate::gguf;
use crate::hdf5;
use crate::layout::Layout;
use crate::msgpack;
use crate::npy;
use crate::onnx;
use crate::parquet;
use crate::pickle;
use crate::read_at::{ReadAt, read_vec};
use crate::safetensors;
use crate::sniff::sniff;
use crate::tfcheckpoint;
use crate::tflite;
use crate::torch_legacy;
use crate::zip;

/// Finds the container of a file and where its tensors lie.
///
/// `file_name` is the last component of the path. A file that contradicts itself, exceeds a limit
/// or matches nothing is [`Container::Unknown`] bytes, with a note that says why where there is
/// something to say; [`sniff`] then has a look at what is not an array so far, for which it reads
/// those bytes.
///
/// # Errors
/// Only [`Error::Io`]: nothing that a file contains is an error here.
pub fn probe(source: &dyn ReadAt, file_name: &str) -> Result<Layout> {
    sniff(source, recognise(source, file_name)?)
}

/// As [`probe`], but by headers alone: quick on a file of any size, for those who only want to
/// know the container or [`Layout::externals`].
///
/// # Errors
/// Only [`Error::Io`].
pub fn recognise(source: &dyn ReadAt, file_name: &str) -> Result<Layout> {
    let head = read_vec(source, 0, source.len().min(HEAD_LEN))?;
    let (layout, note) = offer(source, file_name, &head, [ARCHIVE].iter().chain(PARSERS))?;
    let unknown = || Layout::bytes(Container::Unknown, source.len());
    Ok(match (layout, note) {
        (Some(layout), _) => layout,
        (None, Some(note)) => unknown().with_note(note),
        (None, None) => unknown(),
    })
}

/// Finds where the tensors lie in a member of an archive; archives in archives are not opened.
///
/// # Errors
/// Only [`Error::Io`].
pub(crate) fn parse_member(source: &dyn ReadAt, file_name: &str) -> Result<Option<Layout>> {
    let head = read_vec(source, 0, source.len().min(HEAD_LEN))?;
    offer(source, file_name, &head, PARSERS.iter()).map(|(layout, _)| layout)
}

/// The layout by the first parser that accepts the file, else what the first that matched said.
fn offer<'a>(
    source: &dyn ReadAt,
    file_name: &str,
    head: &[u8],
    parsers: impl Iterator<Item = &'a Parser>,
) -> Result<(Option<Layout>, Option<String>)> {
    let mut note = None;
    for parser in parsers {
        if !(parser.matches)(head, file_name) {
            continue;
        }
        match (parser.parse)(source, file_name) {
            Ok(layout) => return Ok((Some(layout), None)),
            Err(error @ Error::Io { .. }) => return Err(error),
            Err(error) => note = note.or(Some(error.to_string())),
        }
    }
    Ok((None, note))
}

/// One format: whether a file may be one, by its first [`HEAD_LEN`] bytes and its name, and the
/// parser proper, which gets the source and the name.
struct Parser {
    matches: fn(&[u8], &str) -> bool,
    parse: fn(&dyn ReadAt, &str) -> Result<Layout>,
}

/// Archives, whose members are offered to all the others.
const ARCHIVE: Parser = Parser {
    matches: zip::matches,
    parse: |source, _| zip::parse(source),
};

/// Every other format, those with a magic number before those without. A file that one refuses is
/// offered to the next that matches.
const PARSERS: &[Parser] = &[
    Parser {
        matches: gguf::matches,
        parse: |source, _| gguf::parse(source),
    },
    Parser {
        matches: npy::matches,
        parse: |source, _| npy::parse(source),
    },
    Parser {
        matches: torch_legacy::matches,
        parse: |source, _| torch_legacy::parse(source),
    },
    Parser {
        matches: torch_legacy::matches_tar,
        parse: |source, _| torch_legacy::parse_tar(source),
    },
    Parser {
        matches: pickle::matches,
        parse: |source, _| pickle::parse(source),
    },
    Parser {
        matches: safetensors::matches,
        parse: |source, _| safetensors::parse(source),
    },
    Parser {
        matches: onnx::matches,
        parse: |source, _| onnx::parse(source),
    },
    Parser {
        matches: tfcheckpoint::matches,
        parse: tfcheckpoint::parse_named,
    },
    Parser {
        matches: ctranslate2::matches,
        parse: |source, _| ctranslate2::parse(source),
    },
    Parser {
        matches: msgpack::matches,
        parse: |source, _| msgpack::parse(source),
    },
    Parser {
        matches: tflite::matches,
        parse: |source, _| tflite::parse(source),
    },
    Parser {
        matches: arrow::matches,
        parse: |source, _| arrow::parse(source),
    },
    Parser {
        matches: parquet::matches,
        parse: |source, _| parquet::parse(source),
    },
    Parser {
        matches: hdf5::matches,
        parse: |source, _| hdf5::parse(source),
    },
];

/// How much of the beginning a format may look at to recognise itself, in bytes.
const HEAD_LEN: u64 = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_matches_nothing_is_unknown_bytes() {
        let source = vec![7u8; 1000];
        let layout = probe(&source, "weights.xyz").unwrap();
        assert_eq!((layout.len(), layout.parts().len()), (1000, 1));
        assert_eq!(layout.note(), None);
    }

    /// Only [`probe`] looks into bytes that no parser knows.
    #[test]
    fn recognising_reads_headers_alone() {
        let source = b"text ".repeat(10_000);
        assert_eq!(
            recognise(&source, "a").unwrap().container(),
            Container::Unknown
        );
        assert_eq!(probe(&source, "a").unwrap().container(), Container::Text);
    }

    #[test]
    fn an_empty_file_has_no_parts() {
        let layout = probe(&Vec::new(), "").unwrap();
        assert_eq!((layout.len(), layout.parts().len()), (0, 0));
    }
}
