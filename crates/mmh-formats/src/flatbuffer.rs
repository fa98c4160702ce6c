//! The FlatBuffers wire format, followed from its root without a schema.
//!
//! Specification: "FlatBuffer internals" of the FlatBuffers project. Offsets between objects
//! only point forward, so there are no cycles; that many objects may share one is bounded by a
//! count of the tables that are opened.

use std::ops::Range;

use crate::error::Result;
use crate::reader::Reader;

/// Most tables that are opened in one buffer.
const TABLES_MAX: u32 = 1 << 23;

/// A buffer that fills a range of the file.
#[derive(Debug)]
pub(crate) struct Flat {
    range: Range<u64>,
    n_tables: u32,
}

/// A table, and where its fields lie.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Table {
    at: u64,
    vtable: u64,
    vtable_len: u64,
}

/// The elements of a vector.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Vector {
    /// Where the first element lies in the file.
    pub(crate) at: u64,
    /// How many there are.
    pub(crate) n: u64,
}

impl Flat {
    /// The buffer at `range` of the file.
    pub(crate) fn new(range: Range<u64>) -> Self {
        Self { range, n_tables: 0 }
    }

    /// The root table.
    pub(crate) fn root(&mut self, reader: &mut Reader<'_>) -> Result<Table> {
        let at = self.follow(reader, self.range.start)?;
        self.open(reader, at)
    }

    /// The table that field `id` of `table` refers to.
    pub(crate) fn table(
        &mut self,
        reader: &mut Reader<'_>,
        table: Table,
        id: u16,
    ) -> Result<Option<Table>> {
        match self.field(reader, table, id, 4)? {
            Some(at) => {
                let at = self.follow(reader, at)?;
                self.open(reader, at).map(Some)
            }
            None => Ok(None),
        }
    }

    /// The vector of `element_len`-byte elements that field `id` of `table` refers to.
    pub(crate) fn vector(
        &self,
        reader: &mut Reader<'_>,
        table: Table,
        id: u16,
        element_len: u64,
    ) -> Result<Option<Vector>> {
        let Some(at) = self.field(reader, table, id, 4)? else {
            return Ok(None);
        };
        let at = self.follow(reader, at)?;
        self.check(reader, at, 4)?;
        let n = u64::from(reader.u32(at)?);
        self.check(reader, at + 4, n * element_len)?;
        Ok(Some(Vector { at: at + 4, n }))
    }

    /// The table that element `i` of a vector of tables refers to.
    pub(crate) fn element(
        &mut self,
        reader: &mut Reader<'_>,
        vector: Vector,
        i: u64,
    ) -> Result<Table> {
        let at = self.follow(reader, vector.at + i * 4)?;
        self.open(reader, at)
    }

    /// The string in field `id`, empty if it is absent, cut at `max` bytes.
    pub(crate) fn string(
        &self,
        reader: &mut Reader<'_>,
        table: Table,
        id: u16,
        max: u64,
    ) -> Result<String> {
        match self.vector(reader, table, id, 1)? {
            Some(Vector { at, n }) => reader.text(at, n.min(max), max),
            None => Ok(String::new()),
        }
    }

    /// The integer of `width` bytes in field `id`, 0 if it is absent.
    pub(crate) fn uint(
        &self,
        reader: &mut Reader<'_>,
        table: Table,
        id: u16,
        width: u8,
    ) -> Result<u64> {
        match self.field(reader, table, id, u64::from(width))? {
            Some(at) => reader.uint(at, width),
            None => Ok(0),
        }
    }

    /// Where field `id` of `table` lies, or `None` if it is absent.
    pub(crate) fn field(
        &self,
        reader: &mut Reader<'_>,
        table: Table,
        id: u16,
        len: u64,
    ) -> Result<Option<u64>> {
        let slot = 4 + u64::from(id) * 2;
        if slot + 2 > table.vtable_len {
            return Ok(None);
        }
        let offset = u64::from(reader.u16(table.vtable + slot)?);
        if offset == 0 {
            return Ok(None);
        }
        self.check(reader, table.at + offset, len)?;
        Ok(Some(table.at + offset))
    }

    fn open(&mut self, reader: &mut Reader<'_>, at: u64) -> Result<Table> {
        self.n_tables += 1;
        if self.n_tables > TABLES_MAX {
            return Err(reader.too_large("too many tables"));
        }
        self.check(reader, at, 4)?;
        let back = i64::from(reader.i32(at)?);
        let vtable = at
            .checked_add_signed(-back)
            .filter(|&v| v >= self.range.start);
        let vtable = vtable.ok_or_else(|| reader.malformed(format!("no vtable for {at}")))?;
        self.check(reader, vtable, 4)?;
        let vtable_len = u64::from(reader.u16(vtable)?);
        self.check(reader, vtable, vtable_len)?;
        Ok(Table {
            at,
            vtable,
            vtable_len,
        })
    }

    /// The place that the forward offset at `at` points to.
    fn follow(&self, reader: &mut Reader<'_>, at: u64) -> Result<u64> {
        self.check(reader, at, 4)?;
        let offset = reader.u32(at)?;
        if offset == 0 {
            return Err(reader.malformed(format!("null offset at {at}")));
        }
        Ok(at + u64::from(offset))
    }

    fn check(&self, reader: &Reader<'_>, at: u64, len: u64) -> Result<()> {
        let fits = at.checked_add(len).is_some_and(|end| end <= self.range.end);
        if fits {
            return Ok(());
        }
        Err(reader.malformed(format!("{len} bytes at {at} leave the buffer")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::Container;
    use crate::error::Error;
    use crate::samples::flatbuffer::{Builder, Field};

    fn sample() -> Vec<u8> {
        let mut builder = Builder::default();
        let name = builder.string("name");
        let data = builder.bytes(&[1, 2, 3]);
        let child = builder.table(&[Field::U32(7), Field::Absent, Field::Offset(name)]);
        let children = builder.offsets(&[child, child]);
        let root = builder.table(&[Field::Offset(children), Field::Offset(data), Field::U8(9)]);
        builder.finish(root, *b"TEST")
    }

    #[test]
    fn fields_vectors_and_strings_are_followed() {
        let bytes = sample();
        let mut reader = Reader::new(&bytes, Container::Tflite);
        let reader = &mut reader;
        let mut flat = Flat::new(0..bytes.len() as u64);
        let root = flat.root(reader).unwrap();
        assert_eq!(flat.uint(reader, root, 2, 1).unwrap(), 9);
        assert_eq!(flat.uint(reader, root, 3, 1).unwrap(), 0);
        let data = flat.vector(reader, root, 1, 1).unwrap().unwrap();
        assert_eq!(reader.bytes(data.at, data.n, 9).unwrap(), [1, 2, 3]);
        let children = flat.vector(reader, root, 0, 4).unwrap().unwrap();
        assert_eq!(children.n, 2);
        let child = flat.element(reader, children, 1).unwrap();
        assert_eq!(flat.uint(reader, child, 0, 4).unwrap(), 7);
        assert!(flat.table(reader, child, 1).unwrap().is_none());
        assert_eq!(flat.string(reader, child, 2, 3).unwrap(), "nam");
    }

    /// A vtable, vector or offset that leaves the range is refused although the file goes on.
    #[test]
    fn nothing_outside_the_range_is_touched() {
        let bytes = sample();
        // The last byte is the NUL behind the string, which its length does not count.
        for end in 0..bytes.len() as u64 - 1 {
            let mut reader = Reader::new(&bytes, Container::Tflite);
            let reader = &mut reader;
            let mut flat = Flat::new(0..end);
            let all = flat.root(reader).and_then(|root| {
                let children = flat.vector(reader, root, 0, 4)?;
                let child = flat.element(reader, children.unwrap(), 0)?;
                flat.vector(reader, root, 1, 1)?;
                flat.string(reader, child, 2, 9)
            });
            assert!(matches!(all, Err(Error::Malformed { .. })), "{end}");
        }
    }
}
