//! Secret bytes: wiped when dropped, compared in constant time, never printed.

use std::fmt;

use mmh_core::ports::Entropy;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::error::Result;

/// `N` secret bytes. They live on the heap, so that moving the value leaves no copy behind.
#[derive(Clone)]
pub struct Secret<const N: usize>(Box<Zeroizing<[u8; N]>>);

impl<const N: usize> Secret<N> {
    /// Takes over `bytes`. The caller's copy, if it has one, is the caller's to wipe.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; N]) -> Self {
        let mut secret = Self::zeroed();
        secret.0.copy_from_slice(bytes);
        secret
    }

    /// Draws fresh bytes.
    ///
    /// # Errors
    /// Unavailable, if the generator fails.
    pub fn generate(entropy: &dyn Entropy) -> Result<Self> {
        let mut secret = Self::zeroed();
        entropy.fill(&mut secret.0[..])?;
        Ok(secret)
    }

    /// Makes a secret by writing into it.
    pub(crate) fn fill_with(write: impl FnOnce(&mut [u8; N])) -> Self {
        let mut secret = Self::zeroed();
        write(&mut secret.0);
        secret
    }

    /// The bytes. Every use of this name is a place where a secret leaves its wrapper.
    #[must_use]
    pub fn expose(&self) -> &[u8; N] {
        &self.0
    }

    fn zeroed() -> Self {
        Self(Box::new(Zeroizing::new([0; N])))
    }
}

impl<const N: usize> PartialEq for Secret<N> {
    fn eq(&self, other: &Self) -> bool {
        self.0[..].ct_eq(&other.0[..]).into()
    }
}

impl<const N: usize> Eq for Secret<N> {}

impl<const N: usize> fmt::Debug for Secret<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({N} bytes)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Counter;

    #[test]
    fn is_not_printed() {
        let secret = Secret::from_bytes(&[0xAB; 32]);
        assert_eq!(format!("{secret:?}"), "Secret(32 bytes)");
    }

    #[test]
    fn equality_is_that_of_the_bytes() {
        let a = Secret::from_bytes(&[1; 16]);
        let mut other = [1; 16];
        assert_eq!(a, Secret::from_bytes(&other));
        other[15] = 2;
        assert_ne!(a, Secret::from_bytes(&other));
    }

    #[test]
    fn fresh_secrets_differ() {
        let entropy = Counter::default();
        let a = Secret::<32>::generate(&entropy).unwrap();
        assert_ne!(a, Secret::generate(&entropy).unwrap());
    }

    #[test]
    fn a_dry_generator_is_an_error() {
        let error = Secret::<32>::generate(&crate::testing::Dry).unwrap_err();
        assert_eq!(error.kind(), mmh_core::ErrorKind::Unavailable);
    }
}
