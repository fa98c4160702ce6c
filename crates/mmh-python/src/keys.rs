//! Keys that were handed in as text: identities, a passphrase, a seed. Nobody is asked.

use std::fmt;

use mmh_repo::StoreResult;
use mmh_repo::keys::{self, Identity, KeySource, Offer, Passphrase, Seed, Slot};
use zeroize::Zeroizing;

/// What may open a sealed repository. The copies here are wiped when dropped; those that Python
/// holds are not.
#[derive(Clone, Default)]
pub(crate) struct Keys {
    /// The texts of identity files.
    pub(crate) identities: Vec<Zeroizing<String>>,
    pub(crate) passphrase: Option<Zeroizing<String>>,
    pub(crate) seed: Option<Zeroizing<String>>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").finish_non_exhaustive()
    }
}

impl KeySource for Keys {
    fn offer(&self, place: &str, _slots: &[Slot]) -> StoreResult<Offer> {
        if let Some(seed) = &self.seed {
            return Ok(Offer::Key(Seed::parse(seed)?.seed.key));
        }
        let mut identities = Vec::new();
        for text in &self.identities {
            let parsed = keys::identities(text);
            identities.extend(parsed.map_err(|e| mmh_repo::StoreError::Locked {
                place: place.to_owned(),
                reason: e.to_string(),
            })?);
        }
        let passphrase = self.passphrase.as_ref();
        identities.extend(passphrase.map(|text| Identity::Passphrase(Passphrase::new(text))));
        Ok(match identities.is_empty() {
            true => Offer::Nothing,
            false => Offer::Identities(identities),
        })
    }

    fn expects_sealed(&self) -> bool {
        !self.identities.is_empty() || self.passphrase.is_some() || self.seed.is_some()
    }
}
