//! Zip archives of members that are stored as they are.

/// A member to be written.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its path.
    pub name: String,
    /// Its content.
    pub content: Vec<u8>,
    /// The compression method that the headers claim; 0 is stored.
    pub method: u16,
}

impl Entry {
    /// A stored member.
    #[must_use]
    pub fn new(name: &str, content: Vec<u8>) -> Self {
        Self {
            name: name.to_owned(),
            content,
            method: 0,
        }
    }
}

/// How numbers are written and where contents begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// 32-bit numbers, no padding.
    Plain,
    /// All numbers in zip64 fields, as for files beyond 4 GiB.
    Wide,
    /// Contents aligned to 64 bytes by an extra field, as PyTorch does.
    Aligned,
}

/// An archive of `entries`.
///
/// # Panics
/// If the archive is not small.
#[must_use]
pub fn archive(entries: &[Entry], form: Form) -> Vec<u8> {
    around(entries, form, 0).concat()
}

/// An archive of `entries`, of which the last has `hollow_len` more bytes than are written: what
/// stands before and behind these bytes.
///
/// # Panics
/// If anything else of the archive is not small.
#[must_use]
pub fn around(entries: &[Entry], form: Form, hollow_len: u64) -> [Vec<u8>; 2] {
    let mut out = Vec::new();
    let mut directory = Vec::new();
    for (i, entry) in entries.iter().enumerate() {
        let header_at = out.len() as u64;
        let hollow_len = if i + 1 == entries.len() {
            hollow_len
        } else {
            0
        };
        let len = entry.content.len() as u64 + hollow_len;
        let sizes = Sizes { form, len };
        out.extend(b"PK\x03\x04");
        common(&mut out, entry, sizes);
        let extra_len = match form {
            Form::Plain => 0,
            Form::Wide => 20,
            Form::Aligned => {
                let at = out.len() + 2 + entry.name.len() + 4;
                at.next_multiple_of(64) - at + 4
            }
        };
        short(&mut out, extra_len);
        out.extend(entry.name.as_bytes());
        match form {
            Form::Plain => {}
            Form::Wide => wide_field(&mut out, &[sizes.len, sizes.len]),
            Form::Aligned => {
                out.extend(b"FB");
                short(&mut out, extra_len - 4);
                out.resize(out.len() + extra_len - 4, b'Z');
            }
        }
        out.extend(&entry.content);

        directory.extend(b"PK\x01\x02");
        short(&mut directory, 0);
        common(&mut directory, entry, sizes);
        short(&mut directory, if form == Form::Wide { 28 } else { 0 });
        directory.extend([0; 10]);
        directory.extend(sizes.number(header_at).to_le_bytes());
        directory.extend(entry.name.as_bytes());
        if form == Form::Wide {
            wide_field(&mut directory, &[sizes.len, sizes.len, header_at]);
        }
    }
    let at = out.len() as u64 + hollow_len;
    [out, finish(at, directory, entries.len(), form)]
}

/// The directory, which begins at `at`, and the end records.
fn finish(at: u64, directory: Vec<u8>, n_entries: usize, form: Form) -> Vec<u8> {
    let len = directory.len() as u64;
    let mut out = directory;
    let wide = form == Form::Wide;
    if wide {
        let record_at = at + len;
        out.extend(b"PK\x06\x06");
        out.extend(44u64.to_le_bytes());
        out.extend([45, 0, 45, 0]);
        out.extend([0; 8]);
        for number in [n_entries as u64, n_entries as u64, len, at] {
            out.extend(number.to_le_bytes());
        }
        out.extend(b"PK\x06\x07\0\0\0\0");
        out.extend(record_at.to_le_bytes());
        out.extend(1u32.to_le_bytes());
    }
    out.extend(b"PK\x05\x06\0\0\0\0");
    for _ in 0..2 {
        short(&mut out, if wide { 0xffff } else { n_entries });
    }
    for number in [len, at] {
        let number = if wide {
            u32::MAX
        } else {
            u32::try_from(number).expect("small")
        };
        out.extend(number.to_le_bytes());
    }
    out.extend([0; 2]);
    out
}

#[derive(Clone, Copy)]
struct Sizes {
    form: Form,
    len: u64,
}

impl Sizes {
    fn number(self, number: u64) -> u32 {
        if self.form == Form::Wide {
            return u32::MAX;
        }
        u32::try_from(number).expect("small")
    }
}

/// The fields that both headers share, from the version to the length of the name.
fn common(out: &mut Vec<u8>, entry: &Entry, sizes: Sizes) {
    short(out, 20);
    short(out, 0);
    out.extend(entry.method.to_le_bytes());
    out.extend([0; 4]);
    out.extend(crc32(&entry.content).to_le_bytes());
    out.extend(sizes.number(sizes.len).to_le_bytes());
    out.extend(sizes.number(sizes.len).to_le_bytes());
    short(out, entry.name.len());
}

fn wide_field(out: &mut Vec<u8>, numbers: &[u64]) {
    short(out, 1);
    short(out, numbers.len() * 8);
    out.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
}

fn short(out: &mut Vec<u8>, number: usize) {
    out.extend(u16::try_from(number).expect("small").to_le_bytes());
}

/// CRC-32 of ISO 3309, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    })
}
