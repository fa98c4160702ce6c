//! The payload of an age file: ChaCha20-Poly1305 over pieces of 64 KiB, the last one marked.

use mmh_core::ports::Entropy;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use zeroize::Zeroizing;

use super::FileKey;
use super::header;
use crate::error::{Error, Result};
use crate::kdf;
use crate::secret::Secret;

const NONCE_LEN: usize = 16;
const PIECE_LEN: usize = 64 << 10;
const TAG_LEN: usize = 16;
pub(super) const WHAT: &str = "age payload";

/// Appends the encrypted `content` to `file`.
pub(super) fn encrypt(
    file_key: &FileKey,
    content: &[u8],
    entropy: &dyn Entropy,
    file: &mut Vec<u8>,
) -> Result<()> {
    let nonce = Secret::<NONCE_LEN>::generate(entropy)?;
    file.extend_from_slice(nonce.expose());
    let key = payload_key(file_key, nonce.expose());
    let mut pieces = content.chunks(PIECE_LEN).peekable();
    // Empty content is one empty piece.
    let mut piece = pieces.next().unwrap_or_default();
    for counter in 0.. {
        let is_last = pieces.peek().is_none();
        let start = file.len();
        file.extend_from_slice(piece);
        let (_, sealed) = file.split_at_mut(start);
        let tag = key
            .seal_in_place_separate_tag(piece_nonce(counter, is_last), Aad::empty(), sealed)
            .expect("64 KiB are within every limit");
        file.extend_from_slice(tag.as_ref());
        let Some(next) = pieces.next() else { break };
        piece = next;
    }
    Ok(())
}

/// Decrypts all of `payload`, or nothing.
pub(super) fn decrypt(file_key: &FileKey, payload: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
    let Some((nonce, sealed)) = payload.split_first_chunk::<NONCE_LEN>() else {
        return Err(Error::malformed(header::WHAT, "the payload's nonce is cut"));
    };
    let key = payload_key(file_key, nonce);
    let mut content = Zeroizing::new(Vec::with_capacity(sealed.len()));
    let mut pieces = sealed.chunks(PIECE_LEN + TAG_LEN).peekable();
    if pieces.peek().is_none() {
        return Err(Error::malformed(WHAT, "it has no last piece"));
    }
    for counter in 0.. {
        let Some(piece) = pieces.next() else { break };
        let is_last = pieces.peek().is_none();
        let start = content.len();
        content.extend_from_slice(piece);
        let (_, opened) = content.split_at_mut(start);
        let len = key
            .open_in_place(piece_nonce(counter, is_last), Aad::empty(), opened)
            .map_err(|_| Error::Forged { what: WHAT })?
            .len();
        if len == 0 && counter > 0 {
            return Err(Error::malformed(WHAT, "its last piece is empty"));
        }
        content.truncate(start + len);
    }
    Ok(content)
}

fn payload_key(file_key: &FileKey, nonce: &[u8; NONCE_LEN]) -> LessSafeKey {
    let key: Secret<32> = kdf::hkdf(file_key.expose(), nonce, b"payload");
    let key = UnboundKey::new(&CHACHA20_POLY1305, key.expose()).expect("a key of 32 bytes");
    LessSafeKey::new(key)
}

/// Eleven bytes of counter, big-endian, and whether the piece is the last.
fn piece_nonce(counter: u64, is_last: bool) -> Nonce {
    let mut nonce = [0; 12];
    let (_, low) = nonce.split_at_mut(3);
    let (low, last) = low.split_at_mut(8);
    low.copy_from_slice(&counter.to_be_bytes());
    last.fill(u8::from(is_last));
    Nonce::assume_unique_for_key(nonce)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Counter;

    fn key() -> FileKey {
        Secret::from_bytes(&[1; 16])
    }

    fn sealed(len: usize) -> Vec<u8> {
        let content: Vec<u8> = (0..=255).cycle().take(len).collect();
        let mut file = Vec::new();
        encrypt(&key(), &content, &Counter::default(), &mut file).unwrap();
        assert_eq!(decrypt(&key(), &file).unwrap().as_slice(), content);
        file
    }

    /// The borders: nothing, one byte short of a piece, a piece, one byte more, the counter's
    /// second byte.
    #[test]
    fn round_trips_at_the_borders_of_pieces() {
        for len in [0, 1, PIECE_LEN - 1, PIECE_LEN, PIECE_LEN + 1, 2 * PIECE_LEN] {
            let pieces = len.div_ceil(PIECE_LEN).max(1);
            assert_eq!(sealed(len).len(), NONCE_LEN + len + pieces * TAG_LEN);
        }
        sealed(257 * PIECE_LEN + 3);
    }

    #[test]
    fn cuts_swaps_and_additions_are_noticed() {
        let file = sealed(2 * PIECE_LEN + 9);
        let piece = PIECE_LEN + TAG_LEN;
        for cut in (0..20).chain([piece - 1, NONCE_LEN + piece, NONCE_LEN + 2 * piece]) {
            assert!(decrypt(&key(), &file[..cut]).is_err(), "{cut}");
        }
        let (nonce, rest) = file.split_at(NONCE_LEN);
        let (first, rest) = rest.split_at(piece);
        let (second, last) = rest.split_at(piece);
        for parts in [
            [nonce, second, first, last],
            [nonce, first, last, second],
            [nonce, first, first, last],
        ] {
            let error = decrypt(&key(), &parts.concat()).unwrap_err();
            assert_eq!(error.kind(), mmh_core::ErrorKind::Corrupt);
        }
        assert!(decrypt(&key(), &[&file[..], b"x"].concat()).is_err());
    }
}
