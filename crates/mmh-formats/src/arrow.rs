//! Apache Arrow IPC files and streams: the uncompressed buffers of numeric columns are arrays.
//!
//! Specification: "Serialization and Interprocess Communication" in the Arrow columnar format,
//! with `Schema.fbs` and `Message.fbs`. A file is a stream between two magics, so both are read
//! as a stream, message by message; the footer of a file only repeats where its messages lie.

use mmh_core::{Dtype, limits};

use crate::container::Container;
use crate::error::Result;
use crate::flatbuffer::{Flat, Table, Vector};
use crate::layout::{Layout, LayoutBuilder};
use crate::read_at::ReadAt;
use crate::reader::Reader;

const MAGIC: &[u8] = b"ARROW1";
const CONTINUATION: u32 = u32::MAX;
/// Smaller buffers are not worth a part of their own.
const BUFFER_LEN_MIN: u64 = 4096;
/// Most columns, nested ones included.
const COLUMNS_MAX: usize = 1 << 16;
/// Deepest nesting of columns.
const DEPTH_MAX: u32 = 32;
/// Longest name of a column that is kept, in bytes before UTF-8 is checked.
const NAME_LEN_MAX: u64 = 128;

// Types of messages and positions of fields in the schemas.
const SCHEMA: u64 = 1;
const RECORD_BATCH: u64 = 3;
const MESSAGE_HEADER_TYPE: u16 = 1;
const MESSAGE_HEADER: u16 = 2;
const MESSAGE_BODY_LEN: u16 = 3;
const SCHEMA_ENDIANNESS: u16 = 0;
const SCHEMA_FIELDS: u16 = 1;
const FIELD_NAME: u16 = 0;
const FIELD_TYPE_TYPE: u16 = 2;
const FIELD_TYPE: u16 = 3;
const FIELD_DICTIONARY: u16 = 4;
const FIELD_CHILDREN: u16 = 5;
const DICTIONARY_INDEX_TYPE: u16 = 1;
const BATCH_BUFFERS: u16 = 2;
const BATCH_COMPRESSION: u16 = 3;

/// Whether a file that begins with `head` is an Arrow file, or a stream by its name.
#[must_use]
pub fn matches(head: &[u8], name: &str) -> bool {
    let stream = head.starts_with(&CONTINUATION.to_le_bytes())
        && (name.ends_with(".arrow") || name.ends_with(".arrows"));
    head.starts_with(MAGIC) || stream
}

/// Locates the buffers of numeric columns.
///
/// # Errors
/// [`crate::Error::Malformed`] if the file contradicts itself, [`crate::Error::TooLarge`] beyond
/// limits, [`crate::Error::Io`] if it cannot be read.
pub fn parse(source: &dyn ReadAt) -> Result<Layout> {
    let mut reader = Reader::new(source, Container::Arrow);
    let reader = &mut reader;
    let mut builder = LayoutBuilder::new(Container::Arrow, source.len());
    let is_file = source.len() >= 16 && reader.array::<6>(0)? == *MAGIC;
    let (mut at, end) = if is_file {
        let tail = source.len() - MAGIC.len() as u64;
        if reader.array::<6>(tail)? != *MAGIC {
            return Err(reader.malformed("no magic at the end"));
        }
        (8, tail)
    } else {
        (0, source.len())
    };
    let mut plan = None;
    let mut n_batches = 0;
    while let Some(message) = Message::read(reader, &mut at, end)? {
        match message.header_type {
            SCHEMA => plan = Some(Plan::read(reader, message)?),
            RECORD_BATCH => {
                let plan = plan
                    .as_ref()
                    .ok_or_else(|| reader.malformed("no schema first"))?;
                place_batch(reader, message, plan, n_batches, &mut builder)?;
                n_batches += 1;
            }
            _ => {}
        }
    }
    if plan.is_none() {
        return Err(reader.malformed("no schema"));
    }
    builder.finish()
}

/// One encapsulated message.
struct Message {
    flat: Flat,
    header_type: u64,
    header: Table,
    body: u64,
    body_len: u64,
}

impl Message {
    /// Reads the message at `at` and moves behind its body; `None` at the end of the stream.
    fn read(reader: &mut Reader<'_>, at: &mut u64, end: u64) -> Result<Option<Self>> {
        if end.saturating_sub(*at) < 8 || reader.u32(*at)? != CONTINUATION {
            return Ok(None);
        }
        let len = u64::from(reader.u32(*at + 4)?);
        if len == 0 {
            return Ok(None);
        }
        let body = reader.end(*at + 8, len)?;
        let mut flat = Flat::new(*at + 8..body);
        let root = flat.root(reader)?;
        let header_type = flat.uint(reader, root, MESSAGE_HEADER_TYPE, 1)?;
        let header = flat.table(reader, root, MESSAGE_HEADER)?;
        let header = header.ok_or_else(|| reader.malformed(format!("no header at {at}")))?;
        let body_len = flat.uint(reader, root, MESSAGE_BODY_LEN, 8)?;
        *at = reader.end(body, body_len)?;
        Ok(Some(Self {
            flat,
            header_type,
            header,
            body,
            body_len,
        }))
    }
}

/// The buffers of a record batch in their order: column and element type of those that are
/// arrays.
#[derive(Default)]
struct Plan {
    buffers: Vec<Option<(String, Dtype)>>,
    depth: u32,
    /// A type whose buffers we cannot count, or another byte order: batches stay bytes.
    opaque: bool,
}

impl Plan {
    fn read(reader: &mut Reader<'_>, mut message: Message) -> Result<Self> {
        let mut plan = Self::default();
        let flat = &mut message.flat;
        plan.opaque = flat.uint(reader, message.header, SCHEMA_ENDIANNESS, 2)? != 0;
        if let Some(fields) = flat.vector(reader, message.header, SCHEMA_FIELDS, 4)? {
            plan.fields(reader, flat, fields, "")?;
        }
        Ok(plan)
    }

    fn fields(
        &mut self,
        reader: &mut Reader<'_>,
        flat: &mut Flat,
        fields: Vector,
        parent: &str,
    ) -> Result<()> {
        if self.depth > DEPTH_MAX || self.buffers.len() > COLUMNS_MAX {
            return Err(reader.too_large("too many columns"));
        }
        for i in 0..fields.n {
            if self.buffers.len() > COLUMNS_MAX {
                return Err(reader.too_large("too many columns"));
            }
            let field = flat.element(reader, fields, i)?;
            let mut name = flat.string(reader, field, FIELD_NAME, NAME_LEN_MAX)?;
            if !parent.is_empty() && parent.len() + name.len() < limits::TENSOR_NAME_LEN_MAX / 2 {
                name = format!("{parent}.{name}");
            }
            self.field(reader, flat, field, name.clone())?;
            let dictionary = flat.table(reader, field, FIELD_DICTIONARY)?;
            if let (None, Some(children)) =
                (dictionary, flat.vector(reader, field, FIELD_CHILDREN, 4)?)
            {
                self.depth += 1;
                self.fields(reader, flat, children, &name)?;
                self.depth -= 1;
            }
        }
        Ok(())
    }

    /// Adds the buffers of a field itself, without its children.
    fn field(
        &mut self,
        reader: &mut Reader<'_>,
        flat: &mut Flat,
        field: Table,
        name: String,
    ) -> Result<()> {
        const NUMBERS: [u64; 5] = [2, 3, 8, 9, 10];
        let type_type = flat.uint(reader, field, FIELD_TYPE_TYPE, 1)?;
        let type_table = flat.table(reader, field, FIELD_TYPE)?;
        if let Some(dictionary) = flat.table(reader, field, FIELD_DICTIONARY)? {
            let index = flat.table(reader, dictionary, DICTIONARY_INDEX_TYPE)?;
            let dtype = match index {
                Some(index) => int_dtype(reader, flat, index)?,
                None => Some(Dtype::I32),
            };
            self.buffers
                .extend([None, dtype.map(|dtype| (name, dtype))]);
            return Ok(());
        }
        match (type_type, type_table) {
            (1, _) => {}
            (number, Some(table)) if NUMBERS.contains(&number) => {
                let dtype = number_dtype(reader, flat, number, table)?;
                self.buffers
                    .extend([None, dtype.map(|dtype| (name, dtype))]);
            }
            (18, _) => self.buffers.extend([None, Some((name, Dtype::I64))]),
            // Booleans are bits; decimals, intervals and fixed binaries have no type of ours.
            (6 | 7 | 11 | 15, _) => self.buffers.extend([None, None]),
            (4 | 5, _) => self.buffers.extend([None, Some((name, Dtype::I32)), None]),
            (19 | 20, _) => self.buffers.extend([None, Some((name, Dtype::I64)), None]),
            (12 | 17, _) => self.buffers.extend([None, Some((name, Dtype::I32))]),
            (21, _) => self.buffers.extend([None, Some((name, Dtype::I64))]),
            (13 | 16, _) => self.buffers.push(None),
            // Unions, views and run-end encoding have a varying number of buffers.
            _ => self.opaque = true,
        }
        Ok(())
    }
}

fn int_dtype(reader: &mut Reader<'_>, flat: &Flat, table: Table) -> Result<Option<Dtype>> {
    let signed = flat.uint(reader, table, 1, 1)? != 0;
    Ok(match (flat.uint(reader, table, 0, 4)?, signed) {
        (8, false) => Some(Dtype::U8),
        (8, true) => Some(Dtype::I8),
        (16, false) => Some(Dtype::U16),
        (16, true) => Some(Dtype::I16),
        (32, false) => Some(Dtype::U32),
        (32, true) => Some(Dtype::I32),
        (64, false) => Some(Dtype::U64),
        (64, true) => Some(Dtype::I64),
        _ => None,
    })
}

/// The element type of an integer, float, date, time or timestamp.
fn number_dtype(
    reader: &mut Reader<'_>,
    flat: &Flat,
    type_type: u64,
    table: Table,
) -> Result<Option<Dtype>> {
    Ok(match type_type {
        2 => return int_dtype(reader, flat, table),
        3 => match flat.uint(reader, table, 0, 2)? {
            0 => Some(Dtype::F16),
            1 => Some(Dtype::F32),
            2 => Some(Dtype::F64),
            _ => None,
        },
        // A date without a unit counts milliseconds in 64 bits; unit 0 counts days in 32.
        8 => match flat.field(reader, table, 0, 2)? {
            Some(at) if reader.u16(at)? == 0 => Some(Dtype::I32),
            _ => Some(Dtype::I64),
        },
        9 => match flat.uint(reader, table, 1, 4)? {
            64 => Some(Dtype::I64),
            _ => Some(Dtype::I32),
        },
        _ => Some(Dtype::I64),
    })
}

fn place_batch(
    reader: &mut Reader<'_>,
    message: Message,
    plan: &Plan,
    batch: u64,
    builder: &mut LayoutBuilder,
) -> Result<()> {
    let Message {
        mut flat,
        header,
        body,
        body_len,
        ..
    } = message;
    let compressed = flat.table(reader, header, BATCH_COMPRESSION)?.is_some();
    let Some(buffers) = flat.vector(reader, header, BATCH_BUFFERS, 16)? else {
        return Ok(());
    };
    if compressed || plan.opaque || buffers.n != plan.buffers.len() as u64 {
        return Ok(());
    }
    for (i, column) in (0..).zip(&plan.buffers) {
        let Some((name, dtype)) = column else {
            continue;
        };
        let offset = reader.u64(buffers.at + i * 16)?;
        let len = reader.u64(buffers.at + i * 16 + 8)?;
        if offset.checked_add(len).is_none_or(|end| end > body_len) {
            return Err(reader.malformed(format!("buffer of `{name}` leaves its batch")));
        }
        let (_, width) = dtype.block();
        if len >= BUFFER_LEN_MIN && len.is_multiple_of(u64::from(width)) {
            builder.storage(body + offset, len, format!("{name}[{batch}]"), *dtype)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use crate::hostile::attack;
    use crate::samples::SampleTensor;
    use crate::samples::arrow::{Kind, file, stream};

    fn columns(n: u64) -> Vec<SampleTensor> {
        vec![
            SampleTensor::new("x[0]", Dtype::F32, &[n]),
            SampleTensor::new("id[0]", Dtype::I64, &[n]),
            SampleTensor::new("small[0]", Dtype::U8, &[7]),
        ]
    }

    #[test]
    fn numeric_columns_of_files_and_streams_are_found() {
        for bytes in [
            file(&columns(2000), Kind::Plain),
            stream(&columns(2000), Kind::Plain),
        ] {
            assert!(matches(&bytes, "data.arrow"));
            let layout = parse(&bytes).unwrap();
            assert_eq!(layout.container(), Container::Arrow);
            crate::samples::assert_holds(&layout, &bytes, &columns(2000)[..2]);
        }
    }

    #[test]
    fn compressed_batches_and_odd_types_stay_bytes() {
        for kind in [Kind::Compressed, Kind::WithUnion] {
            let bytes = file(&columns(2000), kind);
            assert_eq!(parse(&bytes).unwrap().tensors().count(), 0, "{kind:?}");
        }
    }

    #[test]
    fn a_missing_tail_or_schema_is_refused() {
        let bytes = file(&columns(10), Kind::Plain);
        assert!(matches!(
            parse(&bytes[..bytes.len() - 1].to_vec()),
            Err(Error::Malformed { .. })
        ));
        assert!(matches!(
            parse(&vec![0xff; 4]),
            Err(Error::Malformed { .. })
        ));
        assert!(!matches(&[0xff; 8], "data.bin"));
    }

    #[test]
    fn withstands_bad_input() {
        attack(parse, &file(&columns(10), Kind::Plain), 3000);
        attack(parse, &stream(&columns(10), Kind::WithUnion), 3000);
    }
}
