//! A second writer of DAG-CBOR, small enough to be checked by eye, as the model for the first.
//!
//! It can also write what the format forbids: a head wider than needed, keys out of order, any
//! bytes at all in the place of a value.

/// A value, of the kinds that objects are made of.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Uint(u64),
    Bytes(Vec<u8>),
    Text(String),
    List(Vec<Self>),
    /// Written in canonical order of keys, however they stand here.
    Map(Vec<(String, Self)>),
    /// Written in the order in which the keys stand.
    Unsorted(Vec<(String, Self)>),
    /// The bytes of a CID, under tag 42.
    Link(Vec<u8>),
    Null,
    /// An encoding, as it is.
    Raw(Vec<u8>),
}

/// Writes text.
pub(crate) fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

/// Writes a map in canonical order.
pub(crate) fn map<const N: usize>(fields: [(&str, Value); N]) -> Value {
    Value::Map(fields.map(|(k, v)| (k.to_owned(), v)).into())
}

/// Writes a link: CIDv1, the multicodec, multihash BLAKE3 of 32 bytes.
pub(crate) fn link(codec: u8, digest: &[u8; 32]) -> Value {
    Value::Link([&[1, codec, 0x1e, 32], &digest[..]].concat())
}

/// Counts heads, and writes one of them wider than it has to be.
#[derive(Default)]
struct Writer {
    out: Vec<u8>,
    heads: usize,
    widen: Option<usize>,
}

impl Writer {
    fn head(&mut self, major: u8, n: u64) {
        let bytes = n.to_be_bytes();
        let mut width = match n {
            0..=23 => 0,
            24..=0xff => 1,
            0x100..=0xffff => 2,
            0x1_0000..=0xffff_ffff => 4,
            _ => 8,
        };
        if self.widen == Some(self.heads) {
            width = (width * 2).clamp(1, 8);
        }
        self.heads += 1;
        let info = match width {
            0 => bytes[7],
            1 => 24,
            2 => 25,
            4 => 26,
            _ => 27,
        };
        self.out.push(major << 5 | info);
        self.out.extend_from_slice(&bytes[8 - width..]);
    }

    fn string(&mut self, major: u8, bytes: &[u8]) {
        self.head(major, bytes.len() as u64);
        self.out.extend_from_slice(bytes);
    }

    fn fields(&mut self, fields: &[(String, Value)]) {
        self.head(5, fields.len() as u64);
        for (key, value) in fields {
            self.string(3, key.as_bytes());
            self.value(value);
        }
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::Uint(n) => self.head(0, *n),
            Value::Bytes(bytes) => self.string(2, bytes),
            Value::Text(text) => self.string(3, text.as_bytes()),
            Value::List(items) => {
                self.head(4, items.len() as u64);
                items.iter().for_each(|item| self.value(item));
            }
            Value::Map(fields) => {
                let mut sorted = fields.clone();
                sorted.sort_by(|(a, _), (b, _)| a.len().cmp(&b.len()).then(a.cmp(b)));
                self.fields(&sorted);
            }
            Value::Unsorted(fields) => self.fields(fields),
            Value::Link(cid) => {
                self.head(6, 42);
                self.string(2, &[&[0], &cid[..]].concat());
            }
            Value::Null => self.out.push(0xf6),
            Value::Raw(bytes) => self.out.extend_from_slice(bytes),
        }
    }
}

impl Value {
    /// The canonical encoding.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        writer.value(self);
        writer.out
    }

    /// One encoding for each head that can be written wider than needed.
    pub(crate) fn widened(&self) -> Vec<Vec<u8>> {
        let mut writer = Writer::default();
        writer.value(self);
        (0..writer.heads)
            .map(|n| {
                let mut wide = Writer {
                    widen: Some(n),
                    ..Writer::default()
                };
                wide.value(self);
                wide.out
            })
            .filter(|wide| *wide != writer.out)
            .collect()
    }

    /// The values in it, itself first.
    pub(crate) fn count(&self) -> usize {
        1 + match self {
            Self::List(items) => items.iter().map(Self::count).sum(),
            Self::Map(fields) | Self::Unsorted(fields) => {
                fields.iter().map(|(_, v)| v.count()).sum()
            }
            _ => 0,
        }
    }

    /// The `n`-th value in it, in order from the front, itself being number 0.
    pub(crate) fn nth(&mut self, n: usize) -> Option<&mut Self> {
        let mut left = n;
        if left == 0 {
            return Some(self);
        }
        left -= 1;
        let below: Vec<&mut Self> = match self {
            Self::List(items) => items.iter_mut().collect(),
            Self::Map(fields) | Self::Unsorted(fields) => {
                fields.iter_mut().map(|(_, v)| v).collect()
            }
            _ => Vec::new(),
        };
        for value in below {
            let count = value.count();
            if left < count {
                return value.nth(left);
            }
            left -= count;
        }
        None
    }

    /// The same value with the `n`-th one changed.
    pub(crate) fn with(&self, n: usize, change: impl FnOnce(&mut Self)) -> Self {
        let mut copy = self.clone();
        change(copy.nth(n).expect("the caller counts"));
        copy
    }
}

/// The model itself against the examples of RFC 8949, appendix A, and the link of the DAG-CBOR
/// specification: tag 42, a byte string, a leading zero.
#[test]
fn the_model_writes_the_examples_of_the_rfc() {
    let numbers: [(u64, &[u8]); 10] = [
        (0, &[0x00]),
        (23, &[0x17]),
        (24, &[0x18, 0x18]),
        (100, &[0x18, 0x64]),
        (255, &[0x18, 0xff]),
        (256, &[0x19, 0x01, 0x00]),
        (1000, &[0x19, 0x03, 0xe8]),
        (1_000_000, &[0x1a, 0x00, 0x0f, 0x42, 0x40]),
        (
            1_000_000_000_000,
            &[0x1b, 0x00, 0x00, 0x00, 0xe8, 0xd4, 0xa5, 0x10, 0x00],
        ),
        (
            u64::MAX,
            &[0x1b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        ),
    ];
    for (number, bytes) in numbers {
        assert_eq!(Value::Uint(number).encode(), bytes, "{number}");
    }
    assert_eq!(text("IETF").encode(), b"\x64IETF");
    assert_eq!(Value::Bytes(vec![1, 2, 3, 4]).encode(), [0x44, 1, 2, 3, 4]);
    let list = Value::List(vec![Value::Uint(2), Value::Uint(3)]);
    let fields = map([("b", list), ("a", Value::Uint(1))]);
    assert_eq!(fields.encode(), b"\xa2\x61a\x01\x61b\x82\x02\x03");
    // Shorter keys come first, whatever their letters.
    let fields = map([("aa", Value::Null), ("b", Value::Null)]);
    assert_eq!(fields.encode(), b"\xa2\x61b\xf6\x62aa\xf6");
    let bytes = link(0x71, &[7; 32]).encode();
    assert_eq!(bytes[..9], [0xd8, 42, 0x58, 37, 0, 1, 0x71, 0x1e, 32]);
    assert_eq!(bytes[9..], [7; 32]);
}
