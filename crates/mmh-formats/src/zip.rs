//! Zip archives: where the members lie. Nothing is ever inflated.
//!
//! Format: PKWARE's APPNOTE 6.3. A member that is stored without compression is a window of the
//! archive; any other is bytes. An archive whose members overlap or share a name is refused.

use mmh_core::error::shorten;

use crate::container::Container;
use crate::error::{Error, Result};
use crate::layout::{Layout, LayoutBuilder};
use crate::pickle::adopt;
use crate::probe::parse_member;
use crate::read_at::{ReadAt, Window, read_stated, read_vec};
use crate::reader::Reader;
use crate::{npy, torch_zip};

/// Whether the beginning is that of a member, or of an archive without members.
#[must_use]
pub fn matches(head: &[u8], _name: &str) -> bool {
    head.starts_with(b"PK\x03\x04") || head.starts_with(b"PK\x05\x06")
}

/// Locates the tensors in the members: a PyTorch file, numpy arrays, or any files that another
/// parser knows.
///
/// # Errors
/// [`Error::Malformed`] if the archive contradicts itself; [`Error::TooLarge`] beyond the limits;
/// [`Error::Io`].
pub fn parse(source: &dyn ReadAt) -> Result<Layout> {
    let members = members(source)?;
    if let Some(root) = torch_zip::root(&members) {
        return torch_zip::parse(source, &members, root);
    }
    let all_npy = !members.is_empty() && members.iter().all(|m| m.name.ends_with(".npy"));
    let container = if all_npy {
        Container::Npz
    } else {
        Container::Zip
    };
    let mut builder = LayoutBuilder::new(container, source.len());
    let mut n_compressed = 0u64;
    for member in &members {
        let Some(window) = member.window(source) else {
            n_compressed += u64::from(member.len > 0);
            continue;
        };
        if !all_npy {
            if let Some(inner) = parse_member(&window, member.file_name())? {
                adopt(&mut builder, member.offset, &member.name, &inner)?;
            }
            continue;
        }
        match npy::parse(&window) {
            Ok(inner) => place_npy(&mut builder, member, &inner)?,
            Err(error @ Error::Io { .. }) => return Err(error),
            Err(_) => {} // not what its name says: bytes
        }
    }
    let layout = builder.finish()?;
    Ok(match n_compressed {
        0 => layout,
        n => layout.with_note(format!("{n} members are compressed and kept as they are")),
    })
}

/// Takes over the arrays of a `.npy` member: the one array has the member's name.
fn place_npy(builder: &mut LayoutBuilder, member: &Member, inner: &Layout) -> Result<()> {
    let name = member.name.strip_suffix(".npy").unwrap_or(&member.name);
    let mut tensors = inner.tensors();
    match (tensors.next(), tensors.next()) {
        (Some((part, info)), None) => {
            let mut info = info.clone();
            info.name = name.to_owned();
            builder.tensor(member.offset + part.offset, part.len, info)
        }
        _ => adopt(builder, member.offset, name, inner),
    }
}

/// A file in the archive.
#[derive(Debug)]
pub(crate) struct Member {
    /// Its path; bytes that are not UTF-8 are replaced.
    pub(crate) name: String,
    /// Where its content begins in the archive.
    pub(crate) offset: u64,
    /// How much of the archive its content takes, compressed or not.
    pub(crate) len: u64,
    /// Whether that is the content itself, neither compressed nor encrypted.
    stored: bool,
}

impl Member {
    /// The content, if it is stored as it is and not empty.
    pub(crate) fn window<'a>(&self, source: &'a dyn ReadAt) -> Option<Window<'a>> {
        if !self.stored || self.len == 0 {
            return None;
        }
        Window::new(source, self.offset, self.len)
    }

    /// The last component of the path.
    pub(crate) fn file_name(&self) -> &str {
        self.name.rsplit('/').next().unwrap_or_default()
    }
}

/// Lists the members in order of their place.
pub(crate) fn members(source: &dyn ReadAt) -> Result<Vec<Member>> {
    let directory = Directory::find(source)?;
    let mut entries = directory.entries(source)?;
    entries.sort_by_key(|entry| entry.header_at);
    let mut members: Vec<Member> = Vec::with_capacity(entries.len());
    let mut at = 0;
    for entry in entries {
        if entry.header_at < at {
            let what = format!("member `{}` overlaps the one before", shorten(&entry.name));
            return Err(malformed(&what));
        }
        let member = entry.resolve(source)?;
        at = member.offset.saturating_add(member.len);
        if at > directory.at {
            let what = format!(
                "member `{}` reaches into the directory",
                shorten(&member.name)
            );
            return Err(malformed(&what));
        }
        members.push(member);
    }
    let mut names: Vec<&str> = members.iter().map(|m| m.name.as_str()).collect();
    names.sort_unstable();
    if let Some([name, ..]) = names.windows(2).find(|pair| pair.first() == pair.last()) {
        return Err(malformed(&format!(
            "two members are named `{}`",
            shorten(name)
        )));
    }
    Ok(members)
}

/// Where the central directory lies.
#[derive(Debug)]
struct Directory {
    at: u64,
    len: u64,
    n_entries: u64,
}

impl Directory {
    /// Reads the end record, which stands behind everything but a comment.
    fn find(source: &dyn ReadAt) -> Result<Self> {
        let tail_len = source.len().min(END_LEN + u64::from(u16::MAX));
        let tail_at = source.len() - tail_len;
        let tail = read_vec(source, tail_at, tail_len)?;
        let end = (0..tail.len()).rev().find(|&i| {
            let Some(record) = tail.get(i..) else {
                return false;
            };
            record.starts_with(b"PK\x05\x06")
                && field::<2>(record, 20).is_some_and(|comment_len| {
                    record.len() as u64 == END_LEN + u64::from(u16::from_le_bytes(comment_len))
                })
        });
        let end = end.ok_or_else(|| malformed("no end record"))?;
        let record = tail.get(end..).unwrap_or_default();
        let end_at = tail_at + end as u64;
        let disks = [field(record, 4), field(record, 6)].map(|d| d.map(u16::from_le_bytes));
        let n_entries = field(record, 10).map_or(0, u16::from_le_bytes);
        let len = field(record, 12).map_or(0, u32::from_le_bytes);
        let at = field(record, 16).map_or(0, u32::from_le_bytes);
        let mut found = Self {
            at: u64::from(at),
            len: u64::from(len),
            n_entries: u64::from(n_entries),
        };
        if let Some(wide) = Self::find_wide(source, end_at)? {
            found = wide;
        } else if disks != [Some(0), Some(0)] {
            return Err(malformed("the archive is split over several files"));
        }
        if found
            .at
            .checked_add(found.len)
            .is_none_or(|dir_end| dir_end > end_at)
        {
            return Err(malformed(
                "the directory does not lie before the end record",
            ));
        }
        Ok(found)
    }

    /// Reads the zip64 end record, if a locator for one stands before the plain end record.
    fn find_wide(source: &dyn ReadAt, end_at: u64) -> Result<Option<Self>> {
        let Some(locator_at) = end_at.checked_sub(LOCATOR_LEN) else {
            return Ok(None);
        };
        let locator = read_vec(source, locator_at, LOCATOR_LEN)?;
        if !locator.starts_with(b"PK\x06\x07") {
            return Ok(None);
        }
        let record_at = field(&locator, 8).map_or(0, u64::from_le_bytes);
        let record = read_stated(source, CONTAINER, record_at, WIDE_END_LEN)?;
        if !record.starts_with(b"PK\x06\x06") {
            return Err(malformed("no zip64 end record where its locator points"));
        }
        let number = |at| field(&record, at).map_or(0, u64::from_le_bytes);
        Ok(Some(Self {
            n_entries: number(32),
            len: number(40),
            at: number(48),
        }))
    }

    fn entries(&self, source: &dyn ReadAt) -> Result<Vec<Entry>> {
        if self.n_entries > MEMBERS_MAX {
            return Err(Error::too_large(
                CONTAINER,
                format!("{} members", self.n_entries),
            ));
        }
        if self.len > DIRECTORY_LEN_MAX {
            return Err(Error::too_large(
                CONTAINER,
                format!("a directory of {} bytes", self.len),
            ));
        }
        let Some(window) = Window::new(source, self.at, self.len) else {
            return Ok(Vec::new());
        };
        let mut reader = Reader::new(&window, CONTAINER);
        let (mut entries, mut at) = (Vec::new(), 0);
        for _ in 0..self.n_entries {
            let (entry, end) = Entry::read(&mut reader, at)?;
            entries.push(entry);
            at = end;
        }
        Ok(entries)
    }
}

/// An entry of the central directory.
#[derive(Debug)]
struct Entry {
    name: String,
    name_len: u64,
    method: u16,
    encrypted: bool,
    compressed_len: u64,
    len: u64,
    header_at: u64,
}

impl Entry {
    /// Reads the entry at `at` of the directory; also returns where the next begins.
    fn read(reader: &mut Reader<'_>, at: u64) -> Result<(Self, u64)> {
        let fixed = reader.array::<46>(at)?;
        if !fixed.starts_with(b"PK\x01\x02") {
            return Err(malformed("no directory entry where one should be"));
        }
        let short = |i| field(&fixed, i).map_or(0, u16::from_le_bytes);
        let long = |i| field(&fixed, i).map_or(0, u32::from_le_bytes);
        let [name_len, extra_len, comment_len] = [short(28), short(30), short(32)].map(u64::from);
        let name = reader.text(at + 46, name_len, u64::from(u16::MAX))?;
        let extra = reader.bytes(at + 46 + name_len, extra_len, u64::from(u16::MAX))?;
        let mut wide = zip64_numbers(&extra).into_iter();
        let mut widen = |number: u32| match number {
            u32::MAX => wide
                .next()
                .ok_or_else(|| malformed("a zip64 number is missing")),
            _ => Ok(u64::from(number)),
        };
        let (len, compressed_len) = (widen(long(24))?, widen(long(20))?);
        let entry = Self {
            name,
            name_len,
            method: short(10),
            encrypted: short(8) & 1 != 0,
            compressed_len,
            len,
            header_at: widen(long(42))?,
        };
        Ok((entry, at + 46 + name_len + extra_len + comment_len))
    }

    /// Reads the local header, which says where the content begins.
    fn resolve(self, source: &dyn ReadAt) -> Result<Member> {
        let header = read_stated(source, CONTAINER, self.header_at, 30)?;
        let number = |i| field(&header, i).map_or(0, u16::from_le_bytes);
        let agrees = header.starts_with(b"PK\x03\x04")
            && number(8) == self.method
            && u64::from(number(26)) == self.name_len;
        if !agrees {
            let what = format!(
                "the header of `{}` is not the directory's",
                shorten(&self.name)
            );
            return Err(malformed(&what));
        }
        let offset = self.header_at + 30 + self.name_len + u64::from(number(28));
        let stored = self.method == 0 && !self.encrypted;
        if stored && self.len != self.compressed_len {
            let what = format!("member `{}` has two lengths", shorten(&self.name));
            return Err(malformed(&what));
        }
        Ok(Member {
            name: self.name,
            offset,
            len: self.compressed_len,
            stored,
        })
    }
}

/// The 64-bit numbers of the zip64 extra field, in their order.
fn zip64_numbers(mut extra: &[u8]) -> Vec<u64> {
    while let (Some(id), Some(len)) = (field(extra, 0), field(extra, 2)) {
        let len = usize::from(u16::from_le_bytes(len));
        let Some(body) = extra.get(4..4 + len) else {
            break;
        };
        if u16::from_le_bytes(id) == 1 {
            return body
                .as_chunks()
                .0
                .iter()
                .map(|&bytes| u64::from_le_bytes(bytes))
                .collect();
        }
        extra = extra.get(4 + len..).unwrap_or_default();
    }
    Vec::new()
}

/// `N` bytes at `at` of a record.
fn field<const N: usize>(record: &[u8], at: usize) -> Option<[u8; N]> {
    record.get(at..)?.first_chunk().copied()
}

fn malformed(reason: &str) -> Error {
    Error::malformed(CONTAINER, reason)
}

const CONTAINER: Container = Container::Zip;
const END_LEN: u64 = 22;
const LOCATOR_LEN: u64 = 20;
const WIDE_END_LEN: u64 = 56;
/// Most members; each has a header of its own that must be read.
const MEMBERS_MAX: u64 = 1 << 18;
/// Longest central directory, which is kept in memory as names.
const DIRECTORY_LEN_MAX: u64 = 32 << 20;

#[cfg(test)]
mod tests {
    use mmh_core::Dtype;
    use proptest::prelude::*;

    use super::*;
    use crate::hostile::attack;
    use crate::samples::npy::{npy, npz};
    use crate::samples::strategy::tensors;
    use crate::samples::zip::{Entry as Sample, Form, archive};
    use crate::samples::{SampleTensor, assert_holds};

    const FORMS: [Form; 3] = [Form::Plain, Form::Wide, Form::Aligned];

    fn samples() -> Vec<Sample> {
        vec![
            Sample::new("a.txt", b"first".to_vec()),
            Sample::new("dir/", Vec::new()),
            Sample::new("dir/b.bin", vec![7; 300]),
        ]
    }

    /// Replaces every `from` by `to`, of the same length.
    fn replaced(file: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
        assert_eq!(from.len(), to.len());
        let mut file = file.to_vec();
        let places: Vec<usize> = (0..file.len())
            .filter(|&i| file[i..].starts_with(from))
            .collect();
        assert!(!places.is_empty());
        for at in places {
            file[at..at + to.len()].copy_from_slice(to);
        }
        file
    }

    fn assert_malformed(file: &[u8], word: &str) {
        match members(&file.to_vec()) {
            Err(Error::Malformed { reason, .. }) => assert!(reason.contains(word), "{reason}"),
            other => panic!("{other:?} where `{word}` was expected"),
        }
    }

    #[test]
    fn contents_are_where_the_members_say() {
        for form in FORMS {
            let file = archive(&samples(), form);
            let found = members(&file).unwrap();
            assert_eq!(found.len(), 3);
            for (member, sample) in found.iter().zip(samples()) {
                assert_eq!(member.name, sample.name);
                let content = read_vec(&file, member.offset, member.len).unwrap();
                assert_eq!(content, sample.content, "{form:?}");
                assert_eq!(member.window(&file).is_some(), !content.is_empty());
            }
            assert_eq!(found[2].file_name(), "b.bin");
        }
    }

    #[test]
    fn an_archive_without_members_is_one() {
        for form in FORMS {
            let file = archive(&[], form);
            assert_eq!(parse(&file).unwrap().container(), Container::Zip);
        }
    }

    #[test]
    fn a_comment_may_hold_what_looks_like_an_end_record() {
        let mut file = archive(&samples(), Form::Plain);
        let comment = b"a comment with PK\x05\x06 and more than 22 bytes behind it";
        let n = file.len();
        file[n - 2..].copy_from_slice(&u16::try_from(comment.len()).unwrap().to_le_bytes());
        file.extend(comment);
        assert_eq!(members(&file).unwrap().len(), 3);
    }

    #[test]
    fn compressed_and_encrypted_members_are_no_windows() {
        let mut samples = samples();
        samples[2].method = 8;
        let file = archive(&samples, Form::Plain);
        let member = &members(&file).unwrap()[2];
        assert!(member.window(&file).is_none());
        assert_eq!(member.len, 300);
        assert!(
            parse(&file)
                .unwrap()
                .note()
                .unwrap()
                .contains("1 members are compressed")
        );

        let mut file = archive(&samples[..1], Form::Plain);
        let directory = file.windows(4).position(|w| w == b"PK\x01\x02").unwrap();
        file[directory + 8] |= 1;
        assert!(members(&file).unwrap()[0].window(&file).is_none());
    }

    /// The trick of the zip bombs that need no nesting: many entries, one content.
    #[test]
    fn members_that_share_their_place_are_refused() {
        let file = archive(&samples()[..2], Form::Plain);
        let first = file.windows(4).position(|w| w == b"PK\x01\x02").unwrap();
        let second = first + 46 + "a.txt".len();
        let mut shared = file.clone();
        let header_at = file[first + 42..first + 46].to_vec();
        shared[second + 42..second + 46].copy_from_slice(&header_at);
        assert_malformed(&shared, "overlaps");
        // Nor if the names are as long as each other.
        let same = [Sample::new("a", vec![1]), Sample::new("b", vec![2])];
        let mut shared = archive(&same, Form::Plain);
        let second = shared.windows(4).rposition(|w| w == b"PK\x01\x02").unwrap();
        shared[second + 42..second + 46].fill(0);
        assert_malformed(&shared, "overlaps");
    }

    #[test]
    fn members_of_one_name_are_refused() {
        let twice = [Sample::new("a", vec![1]), Sample::new("a", vec![2])];
        assert_malformed(&archive(&twice, Form::Plain), "two members");
    }

    #[test]
    fn contradictions_are_malformed() {
        let file = archive(&samples(), Form::Plain);
        assert_malformed(&[], "no end record");
        assert_malformed(&file[..file.len() - 1], "no end record");
        assert_malformed(
            &replaced(&file, b"PK\x01\x02", b"PK\x01\x03"),
            "directory entry",
        );
        assert_malformed(&replaced(&file, b"PK\x03\x04", b"PK\x03\x05"), "header of");
        // One more entry than there is.
        let end = file.len() - 22;
        let mut more = file.clone();
        more[end + 10] += 1;
        assert_malformed(&more, "");
        let mut disks = file.clone();
        disks[end + 4] = 1;
        assert_malformed(&disks, "several files");
        let mut long = file.clone();
        long[end + 12..end + 16].copy_from_slice(&0x7fff_ffffu32.to_le_bytes());
        assert_malformed(&long, "does not lie before");
        // Lengths beyond the directory, and two that differ.
        let directory = file.windows(4).position(|w| w == b"PK\x01\x02").unwrap();
        let mut reaching = file.clone();
        reaching[directory + 20..directory + 28].fill(0x7f);
        assert_malformed(&reaching, "");
        let mut two = file.clone();
        two[directory + 20] += 1;
        assert_malformed(&two, "two lengths");
        let mut last = archive(&[Sample::new("a", vec![1])], Form::Plain);
        let directory = last.windows(4).position(|w| w == b"PK\x01\x02").unwrap();
        last[directory + 20] = 9;
        last[directory + 24] = 9;
        assert_malformed(&last, "reaches into the directory");
    }

    #[test]
    fn zip64_records_must_be_where_they_should() {
        let file = archive(&samples(), Form::Wide);
        assert_malformed(
            &replaced(&file, b"PK\x06\x06", b"PK\x06\x05"),
            "zip64 end record",
        );
        let locator = file.len() - 42;
        let mut lost = file.clone();
        lost[locator + 8..locator + 16].fill(0xff);
        assert_malformed(&lost, "");
        // The extra field of the directory renamed: the numbers are missing.
        let directory = file.windows(4).position(|w| w == b"PK\x01\x02").unwrap();
        let mut unnamed = file.clone();
        unnamed[directory + 46 + "a.txt".len()] = 9;
        assert_malformed(&unnamed, "zip64 number");
        let mut many = file;
        let record = locator - 56;
        many[record + 32..record + 40].fill(0x7f);
        assert!(matches!(members(&many), Err(Error::TooLarge { .. })));
    }

    #[test]
    fn zip64_numbers_are_found_among_other_fields() {
        let field = [&[9, 9, 2, 0, 1, 2, 1, 0, 8, 0][..], &5u64.to_le_bytes()].concat();
        assert_eq!(zip64_numbers(&field), [5]);
        assert!(zip64_numbers(&field[..field.len() - 1]).is_empty());
        assert!(zip64_numbers(&[1, 0, 0xff, 0xff]).is_empty());
        assert!(zip64_numbers(&[]).is_empty());
    }

    #[test]
    fn an_npz_member_that_is_no_array_is_bytes() {
        let good = SampleTensor::new("good", Dtype::F32, &[3]);
        let entries = [
            Sample::new("bad.npy", b"not an array".to_vec()),
            Sample::new("good.npy", npy(&good)),
        ];
        let file = archive(&entries, Form::Plain);
        let layout = parse(&file).unwrap();
        assert_eq!(layout.container(), Container::Npz);
        assert_holds(&layout, &file, &[good]);
    }

    const DTYPES: &[Dtype] = &[Dtype::U8, Dtype::F16, Dtype::F32, Dtype::I64];

    proptest! {
        #[test]
        fn npz_holds_what_was_written(tensors in tensors(DTYPES)) {
            prop_assume!(!tensors.is_empty());
            let file = npz(&tensors);
            assert_holds(&parse(&file).unwrap(), &file, &tensors);
        }
    }

    #[test]
    fn hostile_archives_tile_or_err() {
        for form in FORMS {
            attack(parse, &archive(&samples()[..2], form), 2000);
        }
        attack(
            parse,
            &npz(&[SampleTensor::new("a", Dtype::U8, &[3])]),
            2000,
        );
    }
}
