//! The immutable `config` object of a repository.

use mmh_core::canonical::{self, Canonical};
use mmh_core::{Digest, limits};
use mmh_crypto::ReadKey;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::parity::PARITY_PERCENT_MAX;

/// The newest repository format that this build reads and the one that it writes.
pub const FORMAT_VERSION: u32 = 1;
/// Pack length in bytes at which a writer begins the next pack, unless told otherwise.
pub const PACK_LEN_DEFAULT: u64 = 64 << 20;
/// Smallest pack length that can be asked for; tests use it to get many packs.
pub const PACK_LEN_MIN: u64 = 4 << 10;
/// Largest pack length that can be asked for: index entries have 32-bit offsets.
pub const PACK_LEN_MAX: u64 = 1 << 30;

/// Recovery blocks of a pack for each hundred of its blocks, unless told otherwise.
pub const PARITY_DEFAULT: u32 = 3;
/// Longest place of a log in bytes.
pub const LOG_LEN_MAX: usize = 1024;

/// The value `"config"` of the `type` field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum ConfigTag {
    /// The only value.
    #[default]
    #[serde(rename = "config")]
    Tag,
}

/// How bytes without tensors are cut into chunks. All writers of a repository cut alike.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChunkerParams {
    /// The method: [`CHUNKER`] or [`CHUNKER_KEYED`].
    pub algorithm: String,
    /// Shortest chunk in bytes, but for the last of a run.
    pub min_len: u32,
    /// Length in bytes that cuts aim at.
    pub average_len: u32,
    /// Longest chunk in bytes.
    pub max_len: u32,
    /// Length in bytes of the chunks of a tensor, but for its last.
    pub tensor_len: u32,
}

impl Default for ChunkerParams {
    fn default() -> Self {
        Self {
            algorithm: CHUNKER.to_owned(),
            min_len: 64 << 10,
            average_len: 256 << 10,
            max_len: 1 << 20,
            tensor_len: 4 << 20,
        }
    }
}

/// That a repository is sealed, for its whole life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sealed {
    /// The read key's proof of the configuration in which this field is zero: it tells a wrong key
    /// from damage, and a changed configuration from the one that was written.
    pub proof: Digest,
}

/// The way of cutting of repositories that are not sealed.
pub const CHUNKER: &str = "fastcdc-2020";
/// The way of cutting of sealed ones: the gear table follows from the chunker key.
pub const CHUNKER_KEYED: &str = "fastcdc-2020-keyed";

/// What is decided once for the life of a repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Always `"config"`.
    pub r#type: ConfigTag,
    /// Format version: [`FORMAT_VERSION`].
    pub format: u32,
    /// Random bytes that tell this repository from any other.
    pub repository: Digest,
    /// Length in bytes at which a writer begins the next pack.
    pub pack_len_max: u64,
    /// How bytes are cut into chunks.
    pub chunker: ChunkerParams,
    /// Parity of packs in per cent; absent, that is 0, means none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub parity: u32,
    /// Whether the engine refused a second create of one name when it was tried at `init`.
    pub conditional_put: bool,
    /// Whether everything is sealed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<Sealed>,
    /// Where the log lives, without user and password, if not beside the packs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_zero(n: &u32) -> bool {
    *n == 0
}

impl Canonical for Config {
    const WHAT: &'static str = "config";

    fn check(&self) -> mmh_core::Result<()> {
        let bad = |reason: String| mmh_core::Error::BadObject {
            what: Self::WHAT,
            reason,
        };
        if !(PACK_LEN_MIN..=PACK_LEN_MAX).contains(&self.pack_len_max) {
            return Err(bad(format!(
                "pack length {} is out of bounds",
                self.pack_len_max
            )));
        }
        if self.parity > PARITY_PERCENT_MAX {
            return Err(bad(format!("parity of {} % is out of bounds", self.parity)));
        }
        let c = &self.chunker;
        let sorted = 0 < c.min_len && c.min_len <= c.average_len && c.average_len <= c.max_len;
        let longest = u64::from(c.max_len.max(c.tensor_len));
        if !sorted || c.tensor_len == 0 || longest > limits::CHUNK_LEN_MAX as u64 {
            return Err(bad(format!("chunk lengths {c:?} are out of bounds")));
        }
        if self.sealed.is_some() != (c.algorithm == CHUNKER_KEYED) {
            let reason = "a keyed chunker belongs to a sealed repository, and no other to it";
            return Err(bad(reason.to_owned()));
        }
        if c.algorithm.len() > limits::NAME_LEN_MAX {
            return Err(bad("the chunker's name is too long".to_owned()));
        }
        if self.log.as_ref().is_some_and(|log| log.len() > LOG_LEN_MAX) {
            return Err(bad("the log's place is too long".to_owned()));
        }
        if !self.conditional_put && self.log.is_none() {
            let what = "its engine ignores conditions, but its log is there all the same";
            return Err(bad(what.to_owned()));
        }
        Ok(())
    }
}

impl Config {
    /// Says that the repository is sealed, and proves the whole with its key.
    ///
    /// # Errors
    /// Invalid if a setting is out of bounds.
    pub(crate) fn seal(&mut self, key: &ReadKey) -> Result<()> {
        self.chunker.algorithm = CHUNKER_KEYED.to_owned();
        let proof = self.proof(key)?;
        self.sealed = Some(Sealed { proof });
        Ok(())
    }

    /// Whether this is the configuration that the holder of the key wrote.
    ///
    /// # Errors
    /// Invalid if a setting is out of bounds.
    pub(crate) fn is_vouched_by(&self, key: &ReadKey) -> Result<bool> {
        let Some(sealed) = &self.sealed else {
            return Ok(false);
        };
        Ok(self.proof(key)? == sealed.proof)
    }

    fn proof(&self, key: &ReadKey) -> Result<Digest> {
        let proof = Digest::from_bytes([0; 32]);
        let open = Self {
            sealed: Some(Sealed { proof }),
            ..self.clone()
        };
        Ok(key.vouch(&canonical::encode(&open)?))
    }
}

/// The only field that every version of the object has.
#[derive(Deserialize)]
struct Version {
    format: u32,
}

impl Config {
    /// Decodes the canonical bytes of `object`, telling an unknown version from damage.
    pub(crate) fn decode(bytes: &[u8], object: &str) -> Result<Self> {
        let corrupt = |reason: String| Error::Corrupt {
            object: object.to_owned(),
            reason,
        };
        let version: Version =
            serde_ipld_dagcbor::from_slice(bytes).map_err(|e| corrupt(e.to_string()))?;
        if version.format != FORMAT_VERSION {
            let what = format!("the repository ({object})");
            return Err(Error::UnknownVersion {
                what,
                found: version.format,
                newest: FORMAT_VERSION,
            });
        }
        canonical::decode(bytes).map_err(|e| corrupt(e.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use mmh_core::{ErrorKind, canonical};
    use proptest::prelude::*;

    use super::*;

    fn sample() -> Config {
        Config {
            r#type: ConfigTag::Tag,
            format: FORMAT_VERSION,
            repository: Digest::of(b"repository"),
            pack_len_max: PACK_LEN_DEFAULT,
            chunker: ChunkerParams::default(),
            parity: PARITY_DEFAULT,
            conditional_put: true,
            sealed: None,
            log: None,
        }
    }

    fn key(byte: u8) -> ReadKey {
        ReadKey::from_secret(mmh_crypto::Secret::from_bytes(&[byte; 32]))
    }

    /// Neither another key nor a change of any setting is vouched for.
    #[test]
    fn a_sealed_configuration_is_proved_by_its_key() {
        let mut config = sample();
        config.seal(&key(1)).unwrap();
        let bytes = canonical::encode(&config).unwrap();
        assert_eq!(Config::decode(&bytes, "c").unwrap(), config);
        assert!(config.is_vouched_by(&key(1)).unwrap());
        assert!(!config.is_vouched_by(&key(2)).unwrap());
        let mut weaker = config.clone();
        weaker.chunker.max_len -= 1;
        assert!(!weaker.is_vouched_by(&key(1)).unwrap());
        let another = Config {
            repository: Digest::of(b"another"),
            ..config.clone()
        };
        assert!(!another.is_vouched_by(&key(1)).unwrap());
        assert!(!sample().is_vouched_by(&key(1)).unwrap());
    }

    /// A sealed repository that is said to be open, or the other way round, is refused.
    #[test]
    fn sealing_and_cutting_belong_together() {
        let mut sealed = sample();
        sealed.seal(&key(1)).unwrap();
        let opened = Config {
            sealed: None,
            ..sealed.clone()
        };
        assert!(opened.check().is_err());
        sealed.chunker.algorithm = CHUNKER.to_owned();
        assert!(sealed.check().is_err());
    }

    /// A log elsewhere is a field that is not there otherwise: older configurations stay valid.
    #[test]
    fn a_log_elsewhere_is_named_and_an_unsafe_engine_needs_one() {
        let log = Some("postgres://h:5432/d".to_owned());
        for conditional_put in [true, false] {
            let config = Config {
                log: log.clone(),
                conditional_put,
                ..sample()
            };
            let bytes = canonical::encode(&config).unwrap();
            assert_eq!(Config::decode(&bytes, "c").unwrap(), config);
        }
        let without = Config {
            conditional_put: false,
            ..sample()
        };
        let long = Config {
            log: Some("x".repeat(LOG_LEN_MAX + 1)),
            ..sample()
        };
        assert!(without.check().is_err() && long.check().is_err());
        let text = canonical::encode(&sample()).unwrap();
        assert!(!text.windows(4).any(|w| w == b"clog"));
    }

    #[test]
    fn a_configuration_has_one_encoding() {
        let bytes = canonical::encode(&sample()).unwrap();
        assert_eq!(Config::decode(&bytes, "c").unwrap(), sample());
        for len in 0..bytes.len() {
            let error = Config::decode(&bytes[..len], "c").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "cut to {len}");
        }
        let mut longer = bytes;
        longer.push(0);
        assert_eq!(
            Config::decode(&longer, "c").unwrap_err().kind(),
            ErrorKind::Corrupt
        );
    }

    /// Repositories that were made before there was parity have none and stay as they are.
    #[test]
    fn no_parity_is_an_absent_field() {
        let off = Config {
            parity: 0,
            ..sample()
        };
        let bytes = canonical::encode(&off).unwrap();
        assert!(!bytes.windows(6).any(|w| w == b"parity"));
        assert_eq!(Config::decode(&bytes, "c").unwrap(), off);
    }

    #[test]
    fn other_versions_are_unsupported_whatever_else_they_hold() {
        for format in [0, 2, u32::MAX] {
            let bytes = serde_ipld_dagcbor::to_vec(&Config { format, ..sample() }).unwrap();
            let error = Config::decode(&bytes, "mmh/config").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            assert!(error.to_string().contains(&format.to_string()), "{error}");
        }
    }

    #[test]
    fn the_defaults_are_within_the_bounds() {
        sample().check().unwrap();
    }

    #[test]
    fn lengths_out_of_bounds_are_refused() {
        let chunker = ChunkerParams::default;
        let with = |chunker| Config {
            chunker,
            ..sample()
        };
        let bad = [
            Config {
                parity: PARITY_PERCENT_MAX + 1,
                ..sample()
            },
            Config {
                pack_len_max: PACK_LEN_MIN - 1,
                ..sample()
            },
            Config {
                pack_len_max: PACK_LEN_MAX + 1,
                ..sample()
            },
            with(ChunkerParams {
                min_len: 0,
                ..chunker()
            }),
            with(ChunkerParams {
                min_len: 1 << 20,
                average_len: 1 << 19,
                ..chunker()
            }),
            with(ChunkerParams {
                average_len: 1 << 21,
                ..chunker()
            }),
            with(ChunkerParams {
                max_len: (4 << 20) + 1,
                ..chunker()
            }),
            with(ChunkerParams {
                tensor_len: 0,
                ..chunker()
            }),
            with(ChunkerParams {
                tensor_len: u32::MAX,
                ..chunker()
            }),
            with(ChunkerParams {
                algorithm: "x".repeat(256),
                ..chunker()
            }),
        ];
        for config in bad {
            assert!(config.check().is_err(), "{config:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes: Vec<u8>) {
            let _ = Config::decode(&bytes, "c").is_ok();
        }
    }
}
