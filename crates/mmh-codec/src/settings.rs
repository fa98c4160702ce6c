//! What the caller tells the encoder: the kind of content, and the effort to spend.

use std::fmt;
use std::str::FromStr;

use mmh_core::Dtype;
use mmh_core::error::shorten;

use crate::error::{Error, Result};
use crate::frame::ContentId;

/// What is known of a chunk. It steers the choice of coding and is not needed to decode; a wrong
/// hint costs size, never correctness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Hint {
    /// The element type, or `None` for bytes of unknown kind.
    pub dtype: Option<Dtype>,
    /// Elements in a row of the tensor; 0 when unknown.
    pub row_len: u64,
    /// Index in the tensor of the chunk's first element; where a chunk begins within a block of
    /// elements, of that block's first element.
    pub first: u64,
}

impl Hint {
    /// The hint for content of unknown kind, such as text.
    #[must_use]
    pub const fn bytes() -> Self {
        Self {
            dtype: None,
            row_len: 0,
            first: 0,
        }
    }

    /// The hint for a whole tensor with rows of `row_len` elements, or for its first chunk.
    #[must_use]
    pub const fn tensor(dtype: Dtype, row_len: u64) -> Self {
        Self {
            dtype: Some(dtype),
            row_len,
            first: 0,
        }
    }
}

/// Content that both sides have besides the frame. An encoder may use any part of it; a decoder needs
/// what the frame's [`crate::References`] name.
#[derive(Debug, Clone, Copy, Default)]
pub struct Context<'a> {
    /// The content that the new one differs from: the same tensor of an older version.
    pub base: Option<Base<'a>>,
}

/// Content with the name that frames know it by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Base<'a> {
    /// Its name.
    pub id: ContentId,
    /// Its bytes.
    pub raw: &'a [u8],
}

/// The effort spent on size. Every level writes the same format, and any may replace another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Level {
    /// zstd 1 for bytes, and at most 4 row classes.
    Fast,
    /// zstd 3 for bytes, and at most 32 row classes.
    #[default]
    Default,
    /// zstd 19 for bytes, a longer search for row classes, and for floats the choice of predicting
    /// each number from all before it: the smallest, at tens of megabytes a second both ways.
    Archive,
}

impl Level {
    /// Every level, fastest first.
    pub const ALL: [Self; 3] = [Self::Fast, Self::Default, Self::Archive];

    /// The name as it is written in options.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fast => "fast",
            Self::Default => "default",
            Self::Archive => "archive",
        }
    }

    /// zstd's own level for content of unknown kind.
    pub(crate) const fn zstd(self) -> i32 {
        match self {
            Self::Fast => 1,
            Self::Default => 3,
            Self::Archive => 19,
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Level {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|level| level.as_str() == text);
        found.ok_or_else(|| Error::UnknownLevel {
            text: shorten(text),
        })
    }
}

/// How an [`crate::Encoder`] works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The effort spent on size.
    pub level: Level,
    /// Whether each frame is decoded and compared before it is handed out.
    pub verify: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            level: Level::Default,
            verify: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_has_one_name_that_parses_back() {
        for level in Level::ALL {
            assert_eq!(level.to_string().parse::<Level>(), Ok(level));
        }
        assert_eq!(
            "Fast".parse::<Level>(),
            Err(Error::UnknownLevel {
                text: "Fast".into()
            })
        );
    }

    /// Safety first: who says nothing gets the check.
    #[test]
    fn verification_is_on_unless_turned_off() {
        assert_eq!(
            Settings::default(),
            Settings {
                level: Level::Default,
                verify: true
            }
        );
    }

    /// A text that is no level comes back shortened and printable, however long it was.
    #[test]
    fn a_hostile_level_is_quoted_with_care() {
        for text in ["", " fast", "DEFAULT", "archive\n", "\u{1b}[31m"] {
            let error = text.parse::<Level>().unwrap_err().to_string();
            assert!(!error.contains(char::is_control), "{error}");
        }
        let long = "x".repeat(1 << 20).parse::<Level>().unwrap_err();
        assert!(long.to_string().len() < 200);
    }

    #[test]
    fn levels_keep_to_the_width_of_a_column() {
        assert_eq!(
            format!("{:>8}|{:<5}|", Level::Fast, Level::Fast),
            "    fast|fast |"
        );
    }
}
