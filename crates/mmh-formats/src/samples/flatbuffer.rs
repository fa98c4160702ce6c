//! A small writer of flatbuffers: objects are written front to back and offsets, which must
//! point forward, are patched in at the end.

/// An object, named by the order of its making.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Object(usize);

/// The value of a table's field, in the order of the schema.
#[derive(Debug, Clone, Copy)]
pub enum Field {
    /// The default; nothing is written.
    Absent,
    /// One byte.
    U8(u8),
    /// Four bytes.
    U32(u32),
    /// Eight bytes.
    U64(u64),
    /// A reference to another object.
    Offset(Object),
}

/// Collects objects, children before parents.
#[derive(Debug, Default)]
pub struct Builder {
    /// Pieces, and how many bytes stand before the place that references mean.
    objects: Vec<(Vec<Piece>, usize)>,
}

#[derive(Debug, Clone)]
enum Piece {
    Raw(Vec<u8>),
    Offset(Object),
}

impl Builder {
    /// A vector of bytes.
    pub fn bytes(&mut self, bytes: &[u8]) -> Object {
        self.vector(bytes.len(), bytes.to_vec())
    }

    /// A string.
    pub fn string(&mut self, text: &str) -> Object {
        self.vector(text.len(), [text.as_bytes(), &[0]].concat())
    }

    /// A vector of `n` scalars or structs that are already little-endian.
    pub fn vector(&mut self, n: usize, bytes: Vec<u8>) -> Object {
        let n = u32::try_from(n).expect("small").to_le_bytes().to_vec();
        self.push(vec![Piece::Raw(n), Piece::Raw(bytes)], 0)
    }

    /// A vector of references.
    pub fn offsets(&mut self, objects: &[Object]) -> Object {
        let n = u32::try_from(objects.len())
            .expect("small")
            .to_le_bytes()
            .to_vec();
        let mut pieces = vec![Piece::Raw(n)];
        pieces.extend(objects.iter().map(|&object| Piece::Offset(object)));
        self.push(pieces, 0)
    }

    /// A table: its vtable stands directly before it.
    pub fn table(&mut self, fields: &[Field]) -> Object {
        let vtable_len = 4 + 2 * fields.len();
        let padding = (4 - vtable_len % 4) % 4;
        let mut slots = Vec::new();
        let mut pieces = Vec::new();
        let mut at = 4;
        for field in fields {
            let (len, piece) = match *field {
                Field::Absent => (0, None),
                Field::U8(v) => (4, Some(Piece::Raw(vec![v, 0, 0, 0]))),
                Field::U32(v) => (4, Some(Piece::Raw(v.to_le_bytes().to_vec()))),
                Field::U64(v) => (8, Some(Piece::Raw(v.to_le_bytes().to_vec()))),
                Field::Offset(object) => (4, Some(Piece::Offset(object))),
            };
            slots.push(if len == 0 { 0u16 } else { at });
            at += len;
            pieces.extend(piece);
        }
        let mut head = vec![0; padding];
        head.extend(u16::try_from(vtable_len).expect("small").to_le_bytes());
        head.extend(at.to_le_bytes());
        head.extend(slots.iter().flat_map(|slot| slot.to_le_bytes()));
        let before = head.len();
        let back = u32::try_from(vtable_len).expect("small").to_le_bytes();
        let mut object = vec![Piece::Raw(head), Piece::Raw(back.to_vec())];
        object.extend(pieces);
        self.push(object, before)
    }

    fn push(&mut self, pieces: Vec<Piece>, before: usize) -> Object {
        self.objects.push((pieces, before));
        Object(self.objects.len() - 1)
    }

    /// The buffer with `root` as its root and a four-byte identifier. Parents stand before
    /// children: the order of making, reversed.
    ///
    /// # Panics
    /// If an object refers to one made after it.
    #[must_use]
    pub fn finish(&self, root: Object, identifier: [u8; 4]) -> Vec<u8> {
        let mut starts = vec![0; self.objects.len()];
        let mut at = 8usize;
        for (start, (pieces, before)) in starts.iter_mut().zip(&self.objects).rev() {
            at = at.next_multiple_of(8);
            *start = at + before;
            at += pieces.iter().map(piece_len).sum::<usize>();
        }
        let mut out = Vec::new();
        let offset = |out: &mut Vec<u8>, object: Object| {
            let start = starts.get(object.0).expect("an object of this builder");
            let distance = start.checked_sub(out.len()).expect("children stand behind");
            out.extend(u32::try_from(distance).expect("small").to_le_bytes());
        };
        offset(&mut out, root);
        out.extend(identifier);
        for (pieces, _) in self.objects.iter().rev() {
            out.resize(out.len().next_multiple_of(8), 0);
            for piece in pieces {
                match piece {
                    Piece::Raw(bytes) => out.extend_from_slice(bytes),
                    Piece::Offset(object) => offset(&mut out, *object),
                }
            }
        }
        out
    }
}

fn piece_len(piece: &Piece) -> usize {
    match piece {
        Piece::Raw(bytes) => bytes.len(),
        Piece::Offset(_) => 4,
    }
}
