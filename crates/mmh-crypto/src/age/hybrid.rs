//! The stanza of a hybrid recipient, `mlkem768x25519`: X-Wing through HPKE.

use mmh_core::ports::Entropy;

use super::FileKey;
use super::header::{self, Stanza};
use crate::error::{Error, Result};
use crate::xwing::{ENCAPSULATED_LEN, PublicKey, SecretKey};

pub(super) const TAG: &str = "mlkem768x25519";
const INFO: &[u8] = b"age-encryption.org/mlkem768x25519";

pub(super) fn wrap_for(
    recipient: &PublicKey,
    file_key: &FileKey,
    entropy: &dyn Entropy,
) -> Result<Stanza> {
    let (encapsulated, body) = recipient.seal(INFO, file_key.expose(), entropy)?;
    Ok(Stanza::new(
        vec![TAG.to_owned(), header::encode(&encapsulated)],
        body,
    ))
}

/// The file key, if `stanza` is of this type and for `identity`.
pub(super) fn unwrap_with(identity: &SecretKey, stanza: &Stanza) -> Result<Option<FileKey>> {
    if stanza.tag() != TAG {
        return Ok(None);
    }
    let [encapsulated] = stanza.args()?;
    let encapsulated: [u8; ENCAPSULATED_LEN] = header::decode_array(encapsulated.as_bytes())
        .ok_or_else(|| Error::malformed(header::WHAT, "an encapsulated key is not 1,120 bytes"))?;
    let body: &[u8; super::WRAPPED_LEN] = stanza.body()?;
    let opened = identity.open(INFO, &encapsulated, body)?;
    Ok(opened.and_then(|opened| {
        let opened = zeroize::Zeroizing::new(opened);
        Some(FileKey::from_bytes(opened.as_slice().try_into().ok()?))
    }))
}
