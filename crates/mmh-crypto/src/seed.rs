//! Seed strings: `mmh1…`, the whole of a repository on one card.
//!
//! A seed holds a key, where to look for the data, and optionally what exactly to expect there. It
//! may be typed by hand: any four wrong characters, or eight illegible ones (written `?`), are
//! corrected, and letters may be upper or lower case, in groups or not. FORMAT.md has every byte.
//!
//! ```
//! use mmh_crypto::seed::{Scope, Seed, SeedKey};
//! # use mmh_crypto::{RootSeed, Secret};
//! let seed = Seed {
//!     key: SeedKey::Root(RootSeed::from_secret(Secret::from_bytes(&[7; 32]))),
//!     scope: Scope::Repository,
//!     state: None,
//!     hints: vec!["s3://bucket/models".to_owned()],
//! };
//! let wrong = seed.to_text()?.replacen('q', "p", 1);
//! let parsed = Seed::parse(&wrong)?;
//! assert_eq!((parsed.seed, parsed.corrected.len()), (seed, 1));
//! # Ok::<(), mmh_crypto::Error>(())
//! ```

mod code;

use mmh_core::Digest;
use mmh_core::name::RepoName;
use zeroize::Zeroizing;

use crate::bech32;
use crate::error::{Error, Result};
use crate::keys::{ReadKey, RootSeed};
use crate::secret::Secret;

/// Longest content of a seed, in bytes: what the code can protect.
pub const SEED_LEN_MAX: usize = 600;
/// Most characters that are looked at, spaces and hyphens included.
const TEXT_LEN_MAX: usize = 4096;
/// Wrong characters that are corrected at most.
const WRONG_MAX: usize = 4;
const VERSION: u8 = 1;
const HRP: &str = "mmh";
const PREFIX: &[u8; 4] = b"mmh1";
const WHAT: &str = "seed";

const FLAG_READ_ONLY: u8 = 1;
const FLAG_STATE: u8 = 2;
const SCOPE_SHIFT: u8 = 2;
const FLAGS_MAX: u8 = 3 << SCOPE_SHIFT | FLAG_STATE | FLAG_READ_ONLY;

/// What a seed lets its holder do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SeedKey {
    /// Everything.
    Root(RootSeed),
    /// Reading.
    Read(ReadKey),
}

/// What a seed is about. It says where to begin, and is no wall: the read key opens all of the
/// repository to whoever also holds its disks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// All names.
    Repository,
    /// One name.
    Name(RepoName),
    /// The one snapshot that the seed's state names.
    Snapshot,
}

/// What a seed string says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seed {
    /// The key.
    pub key: SeedKey,
    /// What it is about.
    pub scope: Scope,
    /// The content root: the digest of the log entry (for a repository) or of the snapshot that
    /// was current when the seed was written. A snapshot's seed must have it.
    pub state: Option<Digest>,
    /// Where the data may be found: URLs or paths, best first.
    pub hints: Vec<String>,
}

/// A seed that was read, and how badly it was written.
#[derive(Debug)]
pub struct Parsed {
    /// The seed.
    pub seed: Seed,
    /// Its right spelling.
    pub text: Zeroizing<String>,
    /// Which characters were wrong, counted from zero without spaces and hyphens.
    pub corrected: Vec<usize>,
}

impl Seed {
    /// The seed as text.
    ///
    /// # Errors
    /// Invalid, if a hint is empty, longer than 255 bytes or not printable, the whole is longer than
    /// [`SEED_LEN_MAX`], or a snapshot's seed has no state.
    pub fn to_text(&self) -> Result<Zeroizing<String>> {
        let word = code::encode(HRP, &bech32::to_fives(&self.to_bytes()?));
        Ok(spell(&word))
    }

    /// Reads a seed, correcting up to four wrong characters.
    ///
    /// # Errors
    /// Invalid, if there are more errors or the text is no seed; Unsupported, for another version.
    pub fn parse(text: &str) -> Result<Parsed> {
        let (mut word, mut corrected) = symbols(text)?;
        let in_word = code::correct(HRP, &mut word);
        let Some(in_word) = in_word else {
            return Err(malformed("it has more errors than can be corrected"));
        };
        corrected.extend(in_word.iter().map(|at| at + PREFIX.len()));
        let data_len = word.len() - code::CHECK_LEN;
        let bytes = word.get(..data_len).and_then(bech32::from_fives);
        let bytes = bytes.ok_or_else(|| malformed("its last letter has spare bits"))?;
        Ok(Parsed {
            seed: Self::from_bytes(&bytes)?,
            text: spell(&word),
            corrected,
        })
    }

    fn to_bytes(&self) -> Result<Zeroizing<Vec<u8>>> {
        let (key, read_only) = match &self.key {
            SeedKey::Root(root) => (root.secret(), 0),
            SeedKey::Read(read) => (read.secret(), FLAG_READ_ONLY),
        };
        let (scope, name) = match &self.scope {
            Scope::Repository => (0, None),
            Scope::Name(name) => (1, Some(name.as_str())),
            Scope::Snapshot => (2, None),
        };
        if self.scope == Scope::Snapshot && self.state.is_none() {
            return Err(malformed("a snapshot's seed needs its state"));
        }
        let has_state = if self.state.is_some() { FLAG_STATE } else { 0 };
        let mut bytes = Zeroizing::new(Vec::with_capacity(SEED_LEN_MAX));
        bytes.extend([VERSION, scope << SCOPE_SHIFT | has_state | read_only]);
        bytes.extend_from_slice(key.expose());
        bytes.extend(self.state.iter().flat_map(Digest::as_bytes));
        for text in name
            .into_iter()
            .chain(self.hints.iter().map(String::as_str))
        {
            check_text(text)?;
            let len = u8::try_from(text.len()).map_err(|_| malformed("a hint is too long"))?;
            if bytes.len() + 1 + text.len() > SEED_LEN_MAX {
                return Err(Error::TooLarge {
                    what: "length of a seed",
                    value: (bytes.len() + 1 + text.len()) as u64,
                    limit: SEED_LEN_MAX as u64,
                });
            }
            bytes.push(len);
            bytes.extend_from_slice(text.as_bytes());
        }
        Ok(bytes)
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let mut rest = Reader(bytes);
        let [version, flags] = *rest.array()?;
        if version != VERSION {
            return Err(Error::Unsupported {
                what: "version of a seed",
                name: version.to_string(),
            });
        }
        if flags > FLAGS_MAX {
            return Err(Error::Unsupported {
                what: "flags of a seed",
                name: flags.to_string(),
            });
        }
        let key = Secret::from_bytes(rest.array()?);
        let key = match flags & FLAG_READ_ONLY {
            0 => SeedKey::Root(RootSeed::from_secret(key)),
            _ => SeedKey::Read(ReadKey::from_secret(key)),
        };
        let state = match flags & FLAG_STATE {
            0 => None,
            _ => Some(Digest::from_bytes(*rest.array()?)),
        };
        let scope = match flags >> SCOPE_SHIFT {
            0 => Scope::Repository,
            1 => Scope::Name(parse_name(rest.text()?)?),
            2 if state.is_some() => Scope::Snapshot,
            _ => return Err(malformed("its scope makes no sense")),
        };
        let mut hints = Vec::new();
        while !rest.0.is_empty() {
            hints.push(rest.text()?.to_owned());
        }
        let seed = Self {
            key,
            scope,
            state,
            hints,
        };
        // A name, for one, may be written shorter than it is.
        if seed.to_bytes()?.as_slice() != bytes {
            return Err(malformed("it is not spelt as it should be"));
        }
        Ok(seed)
    }
}

/// Symbols of the text after its prefix, and which characters of the prefix were wrong.
fn symbols(text: &str) -> Result<(Zeroizing<Vec<u8>>, Vec<usize>)> {
    if text.len() > TEXT_LEN_MAX {
        return Err(Error::TooLarge {
            what: "length of a seed's text",
            value: text.len() as u64,
            limit: TEXT_LEN_MAX as u64,
        });
    }
    let is_kept = |&character: &char| !character.is_whitespace() && character != '-';
    let characters = Zeroizing::new(text.chars().filter(is_kept).collect::<Vec<char>>());
    let Some((prefix, data)) = characters.split_first_chunk::<4>() else {
        return Err(malformed("it is too short"));
    };
    let is_wrong = |(at, known): (usize, &u8)| {
        (prefix[at].to_ascii_lowercase() != char::from(*known)).then_some(at)
    };
    let wrong: Vec<usize> = PREFIX.iter().enumerate().filter_map(is_wrong).collect();
    if wrong.len() == PREFIX.len() {
        return Err(malformed("it should begin with `mmh1`"));
    }
    let symbol = |character: &char| {
        let letter = u8::try_from(character.to_ascii_lowercase()).ok();
        letter.and_then(bech32::value).unwrap_or(code::ERASED)
    };
    let word = Zeroizing::new(data.iter().map(symbol).collect::<Vec<u8>>());
    let n_erased = word
        .iter()
        .filter(|&&symbol| symbol == code::ERASED)
        .count();
    if 2 * wrong.len() + n_erased > 2 * WRONG_MAX {
        return Err(malformed("it has more errors than can be corrected"));
    }
    Ok((word, wrong))
}

fn spell(word: &[u8]) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(PREFIX.len() + word.len()));
    text.push_str(HRP);
    text.push('1');
    let letter = |&five: &u8| bech32::LETTERS.get(usize::from(five)).copied();
    text.extend(word.iter().filter_map(letter).map(char::from));
    text
}

fn parse_name(text: &str) -> Result<RepoName> {
    text.parse()
        .map_err(|error: mmh_core::Error| malformed(&error.to_string()))
}

fn check_text(text: &str) -> Result<()> {
    if text.is_empty() || text.chars().any(char::is_control) {
        return Err(malformed("a hint is empty or not printable"));
    }
    Ok(())
}

fn malformed(reason: &str) -> Error {
    Error::malformed(WHAT, reason)
}

/// What is left of a seed's bytes.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn array<const N: usize>(&mut self) -> Result<&'a [u8; N]> {
        let split = self.0.split_first_chunk();
        let (array, rest) = split.ok_or_else(|| malformed("it ends too early"))?;
        self.0 = rest;
        Ok(array)
    }

    fn text(&mut self) -> Result<&'a str> {
        let [len] = *self.array()?;
        let split = self.0.split_at_checked(len.into());
        let (text, rest) = split.ok_or_else(|| malformed("it ends too early"))?;
        self.0 = rest;
        let text = std::str::from_utf8(text).map_err(|_| malformed("a hint is not UTF-8"))?;
        check_text(text)?;
        Ok(text)
    }
}

/// Reads hostile text; what is read has one spelling.
///
/// # Panics
/// If it has another: that is its purpose.
#[cfg(any(test, feature = "testing"))]
pub fn fuzz_parse(text: &str) {
    if let Ok(parsed) = Seed::parse(text) {
        assert_eq!(parsed.seed.to_text().expect("it was read"), parsed.text);
        let again = Seed::parse(&parsed.text).expect("its right spelling");
        assert!(again.corrected.is_empty());
        assert_eq!(again.seed, parsed.seed);
    }
}

/// Reads the content of a seed as if its checksum were right, so that fuzzing gets behind it.
///
/// # Panics
/// If a content has two spellings: that is its purpose.
#[cfg(any(test, feature = "testing"))]
pub fn fuzz_content(bytes: &[u8]) {
    if bytes.len() <= SEED_LEN_MAX {
        let word = code::encode(HRP, &bech32::to_fives(bytes));
        fuzz_parse(&spell(&word));
    }
}
