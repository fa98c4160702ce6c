//! Byte ranges as people and protocols write them, resolved against a length.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result, shorten};

/// A half-open range of bytes inside something of known length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteRange {
    /// First byte.
    pub start: u64,
    /// One past the last byte.
    pub end: u64,
}

impl ByteRange {
    /// All of `len` bytes.
    #[must_use]
    pub const fn all(len: u64) -> Self {
        Self { start: 0, end: len }
    }

    /// The number of bytes.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "is_empty follows")]
    pub const fn len(&self) -> u64 {
        self.end.saturating_sub(self.start)
    }

    /// Whether no byte is in it.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Checks that the range lies within `len` bytes.
    ///
    /// # Errors
    /// [`Error::BadRange`].
    pub fn within(self, len: u64) -> Result<Self> {
        if self.start > self.end || self.end > len {
            return Err(Error::BadRange {
                text: format!("{}-{}", self.start, self.end),
                len,
            });
        }
        Ok(self)
    }
}

/// A range as typed: `A-B` (first and last byte, both included, as in HTTP), `A-` or `-N`
/// (the last N bytes).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RangeSpec {
    /// From the first to the last byte given, both included.
    Bounded(u64, u64),
    /// From a byte to the end.
    From(u64),
    /// The last bytes.
    Suffix(u64),
}

impl RangeSpec {
    /// Applies the specification to a length. As in HTTP (RFC 9110 §14.1.2), an end beyond the
    /// length is cut, a start beyond it is an error.
    ///
    /// # Errors
    /// [`Error::BadRange`] if nothing can be selected.
    pub fn resolve(self, len: u64) -> Result<ByteRange> {
        let bad = || Error::BadRange {
            text: self.to_string(),
            len,
        };
        let (start, end) = match self {
            Self::Bounded(a, b) => (a, b.saturating_add(1).min(len)),
            Self::From(a) => (a, len),
            Self::Suffix(n) => (len.saturating_sub(n), len),
        };
        if start >= end {
            Err(bad())
        } else {
            Ok(ByteRange { start, end })
        }
    }
}

impl fmt::Display for RangeSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bounded(a, b) => write!(f, "{a}-{b}"),
            Self::From(a) => write!(f, "{a}-"),
            Self::Suffix(n) => write!(f, "-{n}"),
        }
    }
}

impl FromStr for RangeSpec {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = |reason| Error::BadName {
            what: "range",
            text: shorten(text),
            reason,
        };
        let number = |s: &str| {
            // `parse` would take a plus sign too.
            let digits = s.bytes().all(|b| b.is_ascii_digit());
            let number = s.parse::<u64>().ok().filter(|_| digits);
            number.ok_or_else(|| bad("bounds are whole numbers"))
        };
        let (a, b) = text
            .split_once('-')
            .ok_or_else(|| bad("write A-B, A- or -N"))?;
        match (a.is_empty(), b.is_empty()) {
            (true, true) => Err(bad("write A-B, A- or -N")),
            (true, false) => Ok(Self::Suffix(number(b)?)),
            (false, true) => Ok(Self::From(number(a)?)),
            (false, false) => {
                let (a, b) = (number(a)?, number(b)?);
                if a > b {
                    Err(bad("the end lies before the start"))
                } else {
                    Ok(Self::Bounded(a, b))
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges_resolve_as_in_http() {
        let of = |text: &str| text.parse::<RangeSpec>().unwrap().resolve(10).ok();
        assert_eq!(of("0-3"), Some(ByteRange { start: 0, end: 4 }));
        assert_eq!(of("8-99"), Some(ByteRange { start: 8, end: 10 }));
        assert_eq!(of("4-"), Some(ByteRange { start: 4, end: 10 }));
        assert_eq!(of("-3"), Some(ByteRange { start: 7, end: 10 }));
        assert_eq!(of("10-"), None);
    }

    #[test]
    fn malformed_ranges_are_refused() {
        for text in ["", "-", "5", "3-2", "a-b", "1-2-3", "-0x", " 1-2"] {
            assert!(text.parse::<RangeSpec>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_resolved_range_always_fits(a: u64, b: u64, len: u64) {
            for spec in [RangeSpec::Bounded(a.min(b), a.max(b)), RangeSpec::From(a), RangeSpec::Suffix(b)] {
                prop_assert_eq!(spec.to_string().parse::<RangeSpec>().ok(), Some(spec));
                if let Ok(range) = spec.resolve(len) {
                    prop_assert!(range.within(len).is_ok() && !range.is_empty());
                }
            }
        }
    }
}
