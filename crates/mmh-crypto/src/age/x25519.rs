//! The stanza of an X25519 recipient.

use mmh_core::ports::Entropy;
use x25519_dalek::{PublicKey, StaticSecret};

use super::header::{self, Stanza};
use super::{FileKey, unwrap, wrap};
use crate::error::{Error, Result};
use crate::kdf;
use crate::secret::Secret;
use crate::xwing::agree;

pub(super) const TAG: &str = "X25519";
const INFO: &[u8] = b"age-encryption.org/v1/X25519";
const LOW_ORDER: &str = "an X25519 point has low order";

pub(super) fn public_key(identity: &Secret<32>) -> [u8; 32] {
    PublicKey::from(&StaticSecret::from(*identity.expose())).to_bytes()
}

pub(super) fn wrap_for(
    recipient: &[u8; 32],
    file_key: &FileKey,
    entropy: &dyn Entropy,
) -> Result<Stanza> {
    let ephemeral = StaticSecret::from(*Secret::<32>::generate(entropy)?.expose());
    let share = PublicKey::from(&ephemeral).to_bytes();
    let shared =
        agree(&ephemeral, recipient).ok_or_else(|| Error::malformed("age recipient", LOW_ORDER))?;
    let body = wrap(&wrap_key(&shared, &share, recipient), file_key);
    Ok(Stanza::new(
        vec![TAG.to_owned(), header::encode(&share)],
        body,
    ))
}

/// The file key, if `stanza` is of this type and for `identity`.
pub(super) fn unwrap_with(identity: &Secret<32>, stanza: &Stanza) -> Result<Option<FileKey>> {
    if stanza.tag() != TAG {
        return Ok(None);
    }
    let [share] = stanza.args()?;
    let share = header::decode_array(share.as_bytes())
        .ok_or_else(|| Error::malformed(header::WHAT, "an X25519 share is not 32 bytes"))?;
    let body = stanza.body()?;
    let shared = agree(&StaticSecret::from(*identity.expose()), &share)
        .ok_or_else(|| Error::malformed(header::WHAT, LOW_ORDER))?;
    let key = wrap_key(&shared, &share, &public_key(identity));
    Ok(unwrap(&key, body))
}

fn wrap_key(shared: &Secret<32>, share: &[u8; 32], recipient: &[u8; 32]) -> Secret<32> {
    kdf::hkdf(shared.expose(), &[*share, *recipient].concat(), INFO)
}
