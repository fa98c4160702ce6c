//! Paths, headers and lines that a node and its clients must spell alike. PROTOCOL.md, "Requests".

use mmh_core::PackId;

use crate::names;

/// Where a node listens unless told otherwise.
pub const PORT: u16 = 7443;
/// The one protocol of the TLS handshake (RFC 7301).
pub const ALPN: &[u8] = b"http/1.1";

/// Before an object's name.
pub const OBJECTS: &str = "/mmh/v1/objects/";
/// Before a pack's name: its content in slices.
pub const SLICES: &str = "/mmh/v1/slices/";
/// Names and lengths below a prefix.
pub const LIST: &str = "/mmh/v1/list";
/// A copy from name to name.
pub const COPY: &str = "/mmh/v1/copy";
/// Symbols of the set of chunks.
pub const RECONCILE: &str = "/mmh/v1/reconcile";
/// Which of some chunks are missing.
pub const MISSING: &str = "/mmh/v1/missing";

/// In answers with slices: bytes of the file that the pack's id stands for.
pub const CONTENT_LEN: &str = "mmh-content-len";
/// In answers with slices: bytes of the whole file.
pub const OBJECT_LEN: &str = "mmh-object-len";
/// In answers that refuse: the kind of error.
pub const KIND: &str = "mmh-kind";

/// Longest name in bytes.
pub const NAME_LEN_MAX: usize = 512;
/// Longest text of a refusal that is read.
pub const REFUSAL_LEN_MAX: usize = 4 << 10;
/// Longest body that is held in memory; what may be longer is a pack or an index run, and is staged.
pub const BODY_LEN_MAX: u64 = 64 << 20;
/// Longest object that is taken: a pack of 4 GiB with half as much parity, and room.
pub const OBJECT_LEN_MAX: u64 = 8 << 30;
/// Most chunks that one request asks after: 32 MiB of ids.
pub const MISSING_MAX: usize = 1 << 20;
/// Most digests of a set that is reconciled: about 1.2 GB of memory on either side.
pub const SET_LEN_MAX: usize = 1 << 24;

/// Whether a name is one that nodes serve: below `mmh/`, of letters, digits and `-_.`, and not in
/// the staging area, which is the serving machine's own.
#[must_use]
pub fn is_served(name: &str) -> bool {
    let segment = |s: &str| {
        let inside = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        !s.is_empty() && !s.starts_with('.') && s.bytes().all(inside)
    };
    name.len() <= NAME_LEN_MAX
        && name.starts_with("mmh/")
        && name.split('/').all(segment)
        && name != STAGING
        && !name.starts_with("mmh/staging/")
}

/// The folder that no node shows.
const STAGING: &str = "mmh/staging";

/// Whether a prefix is one below which nodes list.
#[must_use]
pub fn is_listed(prefix: &str) -> bool {
    prefix == "mmh" || is_served(prefix)
}

/// The pack of that name, if it is the name of one.
#[must_use]
pub fn pack_of(name: &str) -> Option<PackId> {
    names::parse_pack(name)
}

/// The most symbols that a node sends: beyond that a list of its digests would be shorter.
#[must_use]
pub fn symbols_max(n_theirs: u64) -> u64 {
    n_theirs.saturating_mul(2) / 3 + 256
}

/// A line of a list.
#[must_use]
pub fn line(name: &str, len: u64) -> String {
    format!("{len} {name}\n")
}

/// The last line of a list of so many.
#[must_use]
pub fn last_line(n: u64) -> String {
    format!("end {n}\n")
}

/// A line that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line<'a> {
    /// An object and its length in bytes.
    Object(&'a str, u64),
    /// So many there were.
    End(u64),
}

/// Reads a line without its end; `None` if it is none.
#[must_use]
pub fn parse_line(line: &str) -> Option<Line<'_>> {
    let (first, second) = line.split_once(' ')?;
    let number = |text: &str| {
        let plain = text.bytes().all(|b| b.is_ascii_digit());
        plain.then(|| text.parse::<u64>().ok())?
    };
    match first {
        "end" => Some(Line::End(number(second)?)),
        len => is_served(second).then_some(Line::Object(second, number(len)?)),
    }
}

/// A range as a request asks for it, from a `Range` header (RFC 9110, section 14.2) with one range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// From the first to behind the last of these bytes, or to the end if that comes before.
    Bounded(u64, u64),
    /// From there to the end.
    From(u64),
    /// So many bytes at the end.
    Suffix(u64),
}

impl Asked {
    /// Reads a header's value; `None` if it is anything else.
    #[must_use]
    pub fn parse(value: &str) -> Option<Self> {
        let (first, last) = value.strip_prefix("bytes=")?.split_once('-')?;
        let number = |text: &str| match text.bytes().all(|b| b.is_ascii_digit()) {
            true => text.parse::<u64>().ok(),
            false => None,
        };
        match (first, last) {
            ("", last) => Some(Self::Suffix(number(last)?)),
            (first, "") => Some(Self::From(number(first)?)),
            (first, last) => {
                let (first, end) = (number(first)?, number(last)?.checked_add(1)?);
                (first < end).then_some(Self::Bounded(first, end))
            }
        }
    }

    /// The header's value.
    #[must_use]
    pub fn header(&self) -> String {
        match self {
            Self::Bounded(first, end) => format!("bytes={first}-{}", end.saturating_sub(1)),
            Self::From(first) => format!("bytes={first}-"),
            Self::Suffix(n) => format!("bytes=-{n}"),
        }
    }

    /// The bytes of an object of that length, never none; `None` if there are none.
    #[must_use]
    pub fn of(&self, len: u64) -> Option<std::ops::Range<u64>> {
        let range = match *self {
            Self::Bounded(first, end) => first..end.min(len),
            Self::From(first) => first..len,
            Self::Suffix(n) => len.saturating_sub(n)..len,
        };
        (range.start < range.end).then_some(range)
    }
}

/// A `Content-Range` header's value.
#[must_use]
pub fn content_range(range: &std::ops::Range<u64>, len: u64) -> String {
    format!(
        "bytes {}-{}/{len}",
        range.start,
        range.end.saturating_sub(1)
    )
}

/// Reads a `Content-Range` header's value: the range, which is not empty and within the length,
/// and the length.
#[must_use]
pub fn parse_content_range(value: &str) -> Option<(std::ops::Range<u64>, u64)> {
    let (range, len) = value.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last, len) = (
        first.parse().ok()?,
        last.parse::<u64>().ok()?,
        len.parse().ok()?,
    );
    let end = last.checked_add(1)?;
    (first < end && end <= len).then_some((first..end, len))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_stay_below_the_repository() {
        for name in [
            "mmh/config",
            "mmh/packs/aa/x",
            "mmh/a_b-c.d",
            "mmh/stagings",
        ] {
            assert!(is_served(name), "{name}");
        }
        let long = format!("mmh/{}", "a".repeat(NAME_LEN_MAX));
        for name in [
            "",
            "mmh",
            "mmh/",
            "/mmh/x",
            "mmh//x",
            "mmh/../x",
            "mmh/./x",
            "mmh/..",
            "mmh/.hidden",
            "mmh/x/",
            "mmh/a%2fb",
            "mmh/a b",
            "mmh/a\\b",
            "mmh/\u{0}",
            "mmh/é",
            "etc/passwd",
            "mmh/staging",
            "mmh/staging/x",
            "mmh/a#1",
            &long,
        ] {
            assert!(!is_served(name), "{name}");
        }
        assert!(is_listed("mmh") && is_listed("mmh/log") && !is_listed("") && !is_listed("mmh/"));
    }

    #[test]
    fn lines_are_read_as_they_are_written() {
        assert_eq!(
            parse_line(line("mmh/x", 7).trim_end()),
            Some(Line::Object("mmh/x", 7))
        );
        assert_eq!(parse_line(last_line(3).trim_end()), Some(Line::End(3)));
        for bad in [
            "",
            "7",
            "7 ",
            " mmh/x",
            "-7 mmh/x",
            "+7 mmh/x",
            "7 mmh/../x",
            "end",
            "end x",
            "7  mmh/x",
        ] {
            assert_eq!(parse_line(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn ranges_of_one_part_are_understood() {
        for (text, asked) in [
            ("bytes=0-0", Asked::Bounded(0, 1)),
            ("bytes=5-", Asked::From(5)),
            ("bytes=-5", Asked::Suffix(5)),
        ] {
            assert_eq!(Asked::parse(text), Some(asked));
            assert_eq!(asked.header(), text);
        }
        for bad in [
            "",
            "bytes=",
            "bytes=-",
            "bytes=5-4",
            "bytes=0-1,3-4",
            "bytes=+1-2",
            "items=0-1",
            "bytes=18446744073709551615-18446744073709551615",
            "bytes=a-b",
        ] {
            assert_eq!(Asked::parse(bad), None, "{bad}");
        }
        assert_eq!(Asked::Bounded(2, 9).of(5), Some(2..5));
        assert_eq!(Asked::Suffix(9).of(5), Some(0..5));
        for none in [Asked::Bounded(5, 9), Asked::From(5), Asked::Suffix(0)] {
            assert_eq!(none.of(5), None);
        }
    }

    proptest! {
        #[test]
        fn any_header_is_read_without_panic(text in "(bytes[= ])?[0-9]{0,20}-?[0-9]{0,20}/?[0-9]{0,20}") {
            if let Some(asked) = Asked::parse(&text) {
                prop_assert_eq!(Asked::parse(&asked.header()), Some(asked));
                prop_assert!(asked.of(100).is_none_or(|range| range.start < range.end && range.end <= 100));
            }
            if let Some((range, len)) = parse_content_range(&text) {
                prop_assert_eq!(parse_content_range(&content_range(&range, len)), Some((range, len)));
            }
            let _ = parse_line(&text);
        }
    }
}
