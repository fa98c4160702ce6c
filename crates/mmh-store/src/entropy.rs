//! Randomness for repository ids, writers and staging names, handed in so that tests decide it.

use std::fmt::Debug;

use mmh_core::Digest;

use crate::error::{Error, Result};
use crate::pack::PACK_SALT_LEN;

/// A source of unpredictable bytes.
pub trait Entropy: Send + Sync + Debug {
    /// 32 fresh random bytes.
    ///
    /// # Errors
    /// [`Error::Internal`] if the system gives none.
    fn draw(&self) -> Result<Digest>;

    /// 16 fresh random bytes, which make a pack unlike any other.
    ///
    /// # Errors
    /// As [`Self::draw`].
    fn salt(&self) -> Result<[u8; PACK_SALT_LEN]> {
        let mut salt = [0; PACK_SALT_LEN];
        salt.copy_from_slice(&self.draw()?.as_bytes()[..PACK_SALT_LEN]);
        Ok(salt)
    }
}

/// The operating system's generator.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemEntropy;

/// The same generator for keys.
impl mmh_core::ports::Entropy for SystemEntropy {
    fn fill(&self, out: &mut [u8]) -> std::io::Result<()> {
        getrandom::fill(out).map_err(std::io::Error::other)
    }
}

impl Entropy for SystemEntropy {
    fn draw(&self) -> Result<Digest> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).map_err(|e| Error::Internal {
            what: format!("the system gave no randomness: {e}"),
        })?;
        Ok(Digest::from_bytes(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_draws_differ() {
        assert_ne!(SystemEntropy.draw().unwrap(), SystemEntropy.draw().unwrap());
    }
}
