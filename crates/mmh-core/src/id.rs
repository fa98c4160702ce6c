//! Content ids: 32-byte BLAKE3 digests, one Rust type for each kind of thing they name.
//!
//! Printed as CIDv1 (base32, multihash `blake3`), so that other content-addressed tools can name
//! our objects. Chunks and packs use the multicodec `raw`, canonical objects `dag-cbor`.
//! Multicodec and multihash codes: <https://github.com/multiformats/multicodec>.

use std::fmt;
use std::str::FromStr;

use cid::Cid;
use cid::multihash::Multihash;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{Error, Result, shorten};

/// Multihash code of BLAKE3 with 32 bytes of output.
pub const MULTIHASH_BLAKE3: u64 = 0x1e;
/// Multicodec code of uninterpreted bytes.
pub const CODEC_RAW: u64 = 0x55;
/// Multicodec code of DAG-CBOR.
pub const CODEC_DAG_CBOR: u64 = 0x71;

/// A 32-byte BLAKE3 digest that names nothing yet. Prints as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Hashes `bytes` with BLAKE3.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// Wraps 32 bytes that are already a digest.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serde_bytes::serialize(&self.0[..], serializer)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let bytes: serde_bytes::ByteBuf = Deserialize::deserialize(deserializer)?;
        let array = bytes.as_ref().try_into().map_err(|_| {
            serde::de::Error::custom(format!("a digest has 32 bytes, not {}", bytes.len()))
        })?;
        Ok(Self(array))
    }
}

fn to_cid(codec: u64, digest: &Digest) -> Cid {
    let hash = Multihash::<64>::wrap(MULTIHASH_BLAKE3, digest.as_bytes())
        .expect("32 bytes fit a 64-byte multihash");
    Cid::new_v1(codec, hash)
}

fn from_cid(cid: &Cid, codec: u64) -> std::result::Result<Digest, String> {
    if cid.codec() != codec {
        return Err(format!(
            "multicodec {:#x}, expected {codec:#x}",
            cid.codec()
        ));
    }
    if cid.hash().code() != MULTIHASH_BLAKE3 {
        return Err(format!(
            "multihash {:#x}, expected BLAKE3",
            cid.hash().code()
        ));
    }
    let array = cid
        .hash()
        .digest()
        .try_into()
        .map_err(|_| "digest is not 32 bytes".to_owned())?;
    Ok(Digest(array))
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $codec:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Digest);

        impl $name {
            /// The kind of thing this id names, for messages.
            pub const WHAT: &'static str = $what;

            /// The id of these bytes.
            #[must_use]
            pub fn of(bytes: &[u8]) -> Self {
                Self(Digest::of(bytes))
            }

            /// Takes a digest for this kind of id.
            #[must_use]
            pub const fn from_digest(digest: Digest) -> Self {
                Self(digest)
            }

            /// The digest without its type.
            #[must_use]
            pub const fn digest(&self) -> &Digest {
                &self.0
            }

            /// The 32 bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 32] {
                self.0.as_bytes()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                to_cid($codec, &self.0).fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self> {
                let bad = |reason: String| Error::BadId { what: $what, text: shorten(text), reason };
                let cid = Cid::try_from(text).map_err(|e| bad(e.to_string()))?;
                let id = from_cid(&cid, $codec).map(Self).map_err(bad)?;
                // One value, one spelling: other bases name the same id and are refused.
                if id.to_string() != text {
                    return Err(bad("not in lower-case base32".to_owned()));
                }
                Ok(id)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> std::result::Result<S::Ok, S::Error> {
                to_cid($codec, &self.0).serialize(s)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> std::result::Result<Self, D::Error> {
                let cid = Cid::deserialize(d)?;
                from_cid(&cid, $codec).map(Self).map_err(serde::de::Error::custom)
            }
        }
    };
}

id! {
    /// Names a chunk of raw content: BLAKE3 of the raw bytes.
    ChunkId, "chunk", CODEC_RAW
}
id! {
    /// Names a pack: BLAKE3 of its content up to the trailer.
    PackId, "pack", CODEC_RAW
}
id! {
    /// Names any canonical object.
    ObjectId, "object", CODEC_DAG_CBOR
}
id! {
    /// Names a [`crate::object::File`].
    FileId, "file", CODEC_DAG_CBOR
}
id! {
    /// Names a [`crate::tree::Tree`].
    TreeId, "tree", CODEC_DAG_CBOR
}
id! {
    /// Names a [`crate::object::Snapshot`].
    SnapshotId, "snapshot", CODEC_DAG_CBOR
}
id! {
    /// Names a [`crate::object::Record`].
    RecordId, "record", CODEC_DAG_CBOR
}

macro_rules! object_ids {
    ($($name:ident),*) => { $(
        impl From<$name> for ObjectId {
            fn from(id: $name) -> Self {
                Self(id.0)
            }
        }

        impl $name {
            /// The same digest without the object's type.
            #[must_use]
            pub const fn object(&self) -> ObjectId {
                ObjectId(self.0)
            }

            /// Claims that an object is of this type; reading it proves or refutes the claim.
            #[must_use]
            pub const fn from_object(id: ObjectId) -> Self {
                Self(id.0)
            }
        }
    )* };
}
object_ids!(FileId, TreeId, SnapshotId, RecordId);

impl ObjectId {
    /// The id under which the object's encoding is stored as a chunk: the digest is the same.
    #[must_use]
    pub const fn chunk(&self) -> ChunkId {
        ChunkId(self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `echo -n "" | b3sum`, and the CID that other tools print for it.
    #[test]
    fn the_empty_chunk_has_the_published_digest() {
        let id = ChunkId::of(b"");
        assert_eq!(
            id.digest().to_string(),
            "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
        );
        assert_eq!(
            id.to_string(),
            "bafkr4ifpcne3t5pzugtkaqcn5i3nzskjtpfslsnnyejlpte2spfoihzsmi"
        );
    }

    #[test]
    fn an_id_of_another_kind_is_refused() {
        let text = ChunkId::of(b"x").to_string();
        assert!(matches!(
            text.parse::<TreeId>(),
            Err(Error::BadId { what: "tree", .. })
        ));
    }

    #[test]
    fn a_second_spelling_is_refused() {
        let text = ChunkId::of(b"x").to_string().to_uppercase();
        assert!(text.parse::<ChunkId>().is_err());
    }

    proptest! {
        #[test]
        fn ids_survive_text(bytes: Vec<u8>) {
            let id = SnapshotId::of(&bytes);
            prop_assert_eq!(id.to_string().parse::<SnapshotId>().ok(), Some(id));
        }

        #[test]
        fn any_text_parses_or_errs(text: String) {
            let _ = text.parse::<ChunkId>().is_ok();
        }
    }
}
