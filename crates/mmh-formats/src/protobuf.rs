//! The protobuf wire format, walked field by field without a schema.
//!
//! Specification: "Encoding" in the protobuf documentation. Groups, long out of use, are refused.

use std::ops::Range;

use crate::error::Result;
use crate::reader::Reader;

/// One field of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Field {
    /// Its number in the schema.
    pub(crate) number: u32,
    /// What was found under it.
    pub(crate) value: Value,
}

/// The value of a field by its wire type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    /// Wire type 0.
    Varint(u64),
    /// Wire types 1 and 5: 8 or 4 bytes at an offset of the file.
    Fixed(Range<u64>),
    /// Wire type 2: string, bytes, message or packed numbers, as offsets of the file.
    Bytes(Range<u64>),
}

/// The fields of the message that fills a range of the file.
#[derive(Debug, Clone)]
pub(crate) struct Fields {
    at: u64,
    end: u64,
}

impl Fields {
    /// The message at `range`.
    pub(crate) fn new(range: Range<u64>) -> Self {
        Self {
            at: range.start,
            end: range.end,
        }
    }

    /// The next field, or `None` at the end of the message.
    ///
    /// # Errors
    /// [`crate::Error::Malformed`] for a field that its message does not hold.
    pub(crate) fn read(&mut self, reader: &mut Reader<'_>) -> Result<Option<Field>> {
        if self.at >= self.end {
            return Ok(None);
        }
        let tag_at = self.at;
        let tag = self.varint(reader)?;
        let number = u32::try_from(tag >> 3).ok().filter(|&n| n > 0);
        let number = number.ok_or_else(|| reader.malformed(format!("field 0 at {tag_at}")))?;
        let value = match tag & 7 {
            0 => Value::Varint(self.varint(reader)?),
            1 => Value::Fixed(self.take(8, reader)?),
            2 => {
                let len = self.varint(reader)?;
                Value::Bytes(self.take(len, reader)?)
            }
            5 => Value::Fixed(self.take(4, reader)?),
            wire => return Err(reader.malformed(format!("wire type {wire} at {tag_at}"))),
        };
        Ok(Some(Field { number, value }))
    }

    /// The next varint of a packed run, or `None` at its end.
    pub(crate) fn packed(&mut self, reader: &mut Reader<'_>) -> Result<Option<u64>> {
        if self.at >= self.end {
            Ok(None)
        } else {
            self.varint(reader).map(Some)
        }
    }

    fn take(&mut self, len: u64, reader: &Reader<'_>) -> Result<Range<u64>> {
        let start = self.at;
        let end = start
            .checked_add(len)
            .filter(|&end| end <= self.end)
            .ok_or_else(|| {
                reader.malformed(format!("{len} bytes at {start} leave their message"))
            })?;
        self.at = end;
        Ok(start..end)
    }

    fn varint(&mut self, reader: &mut Reader<'_>) -> Result<u64> {
        reader.varint(&mut self.at, self.end)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::container::Container;

    fn fields(bytes: &[u8]) -> Result<Vec<Field>> {
        let source = bytes.to_vec();
        let mut reader = Reader::new(&source, Container::Onnx);
        let mut fields = Fields::new(0..bytes.len() as u64);
        let mut found = Vec::new();
        while let Some(field) = fields.read(&mut reader)? {
            found.push(field);
        }
        Ok(found)
    }

    #[test]
    fn every_wire_type_is_located() {
        let bytes = vec![
            0x08, 0x96, 0x01, 0x12, 2, b'h', b'i', 0x1d, 1, 2, 3, 4, 0x21,
        ];
        let whole: Vec<u8> = bytes.iter().copied().chain([0; 8]).collect();
        let expected = [
            (1, Value::Varint(150)),
            (2, Value::Bytes(5..7)),
            (3, Value::Fixed(8..12)),
            (4, Value::Fixed(13..21)),
        ]
        .map(|(number, value)| Field { number, value });
        assert_eq!(fields(&whole).unwrap(), expected);
        assert!(fields(&bytes).is_err());
    }

    #[test]
    fn lies_are_refused() {
        for bad in [
            vec![0x00, 0x00],
            vec![0x0b],
            vec![0x0f],
            vec![0x08],
            vec![
                0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1,
            ],
            vec![0xff; 11],
        ] {
            assert!(fields(&bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_end(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(found) = fields(&bytes) {
                prop_assert!(found.len() <= bytes.len());
            }
        }
    }
}
