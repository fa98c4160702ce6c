//! HKDF-SHA-256 (RFC 5869), as age and HPKE use it.

use ring::hmac;

use crate::secret::Secret;

/// `HKDF-Extract`: 32 bytes from `parts`, joined, under `salt`.
pub(crate) fn extract(salt: &[u8], parts: &[&[u8]]) -> Secret<32> {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, salt));
    parts.iter().for_each(|part| context.update(part));
    let tag = context.sign();
    Secret::fill_with(|out| out.copy_from_slice(tag.as_ref()))
}

/// `HKDF-Expand` to at most one block of 32 bytes, which is all that is ever asked for here.
pub(crate) fn expand<const N: usize>(prk: &Secret<32>, info: &[&[u8]]) -> Secret<N> {
    const { assert!(N <= 32) }
    let key = hmac::Key::new(hmac::HMAC_SHA256, prk.expose());
    let mut context = hmac::Context::with_key(&key);
    info.iter().for_each(|part| context.update(part));
    context.update(&[1]);
    let tag = context.sign();
    let (block, _) = tag.as_ref().split_at(N);
    Secret::fill_with(|out| out.copy_from_slice(block))
}

/// `HKDF`: extraction, then expansion.
pub(crate) fn hkdf<const N: usize>(ikm: &[u8], salt: &[u8], info: &[u8]) -> Secret<N> {
    expand(&extract(salt, &[ikm]), &[info])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Test cases 1 and 3 of RFC 5869, appendix A, the first block of each.
    #[test]
    fn gives_the_vectors_of_rfc_5869() {
        let salt: Vec<u8> = (0..=0x0c).collect();
        let info: Vec<u8> = (0xf0..=0xf9).collect();
        let prk = extract(&salt, &[&[0x0b; 22]]);
        assert_eq!(prk.expose()[..4], [0x07, 0x77, 0x09, 0x36]);
        let okm: Secret<32> = expand(&prk, &[&info]);
        assert_eq!(
            okm.expose(),
            &[
                0x3c, 0xb2, 0x5f, 0x25, 0xfa, 0xac, 0xd5, 0x7a, 0x90, 0x43, 0x4f, 0x64, 0xd0, 0x36,
                0x2f, 0x2a, 0x2d, 0x2d, 0x0a, 0x90, 0xcf, 0x1a, 0x5a, 0x4c, 0x5d, 0xb0, 0x2d, 0x56,
                0xec, 0xc4, 0xc5, 0xbf
            ]
        );
        let bare: Secret<8> = hkdf(&[0x0b; 22], &[], &[]);
        assert_eq!(
            bare.expose(),
            &[0x8d, 0xa4, 0xe7, 0x75, 0xa5, 0x63, 0xc1, 0x8f]
        );
    }
}
