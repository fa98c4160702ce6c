//! The one encoding of hashed objects: DAG-CBOR, one value with one spelling.
//!
//! Specification: <https://ipld.io/specs/codecs/dag-cbor/spec/> and FORMAT.md, "Objects".
//! Decoding accepts exactly the bytes that encoding the same value gives: key order, integer
//! width, unknown or missing fields and trailing bytes are all checked by encoding again.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};
use crate::limits;

/// An object that has a canonical encoding.
pub trait Canonical: Serialize + DeserializeOwned {
    /// The object's type, for messages and for the `type` field.
    const WHAT: &'static str;

    /// Longest encoding that is written or read.
    const LEN_MAX: usize = limits::OBJECT_LEN_MAX;

    /// Checks what the types alone do not guarantee.
    ///
    /// # Errors
    /// [`Error::BadObject`] or [`Error::TooLarge`] with the rule that does not hold.
    fn check(&self) -> Result<()>;
}

/// Encodes a checked object.
///
/// # Errors
/// Those of [`Canonical::check`]; [`Error::TooLarge`] beyond [`Canonical::LEN_MAX`].
pub fn encode<T: Canonical>(value: &T) -> Result<Vec<u8>> {
    value.check()?;
    let bytes = serde_ipld_dagcbor::to_vec(value).map_err(|e| Error::BadObject {
        what: T::WHAT,
        reason: e.to_string(),
    })?;
    limit_len::<T>(bytes.len())?;
    Ok(bytes)
}

/// Decodes an object, refusing every spelling but the canonical one.
///
/// # Errors
/// [`Error::NotCanonical`] for malformed or differently spelled bytes, [`Error::TooLarge`], and
/// those of [`Canonical::check`].
pub fn decode<T: Canonical>(bytes: &[u8]) -> Result<T> {
    limit_len::<T>(bytes.len())?;
    let not_canonical = |reason: String| Error::NotCanonical {
        what: T::WHAT,
        reason,
    };
    let value: T =
        serde_ipld_dagcbor::from_slice(bytes).map_err(|e| not_canonical(e.to_string()))?;
    value.check()?;
    let again = serde_ipld_dagcbor::to_vec(&value).map_err(|e| not_canonical(e.to_string()))?;
    if again != bytes {
        return Err(not_canonical(
            "a second spelling of the same value".to_owned(),
        ));
    }
    Ok(value)
}

fn limit_len<T: Canonical>(len: usize) -> Result<()> {
    if len > T::LEN_MAX {
        let (value, limit) = (len as u64, T::LEN_MAX as u64);
        return Err(Error::TooLarge {
            what: T::WHAT,
            value,
            limit,
        });
    }
    Ok(())
}
