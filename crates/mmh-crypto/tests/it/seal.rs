//! Sealed bytes open under their key and name alone, and say nothing else.

use mmh_core::ErrorKind;
use mmh_crypto::seal::{OVERHEAD_LEN, fuzz_open};
use mmh_crypto::{RootSeed, Sealer, Secret, padding::padme};
use proptest::prelude::*;

use crate::hex;

fn sealer(byte: u8) -> Sealer {
    RootSeed::from_secret(Secret::from_bytes(&[byte; 32]))
        .read_key()
        .content()
}

fn sealed(sealer: &Sealer, name: &[u8], content: &[u8]) -> Vec<u8> {
    let mut bytes = content.to_vec();
    sealer.seal(name, &mut bytes).expect("short enough");
    bytes
}

proptest! {
    #[test]
    fn round_trips_at_every_length(
        content in proptest::collection::vec(any::<u8>(), 0..3000),
        name in proptest::collection::vec(any::<u8>(), 0..64),
    ) {
        let sealer = sealer(1);
        let mut bytes = sealed(&sealer, &name, &content);
        prop_assert_eq!(
            bytes.len() as u64,
            padme(content.len() as u64 + 1) + OVERHEAD_LEN as u64
        );
        sealer.open(&name, &mut bytes).unwrap();
        prop_assert_eq!(bytes, content);
    }

    #[test]
    fn noise_is_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        fuzz_open(&bytes);
    }
}

#[test]
fn a_chunk_of_four_mebibytes_round_trips() {
    let content: Vec<u8> = (0..4u32 << 20)
        .map(|i| i.wrapping_mul(0x9E37_79B1).to_le_bytes()[3])
        .collect();
    let mut bytes = sealed(&sealer(1), b"id", &content);
    sealer(1).open(b"id", &mut bytes).unwrap();
    assert_eq!(bytes, content);
}

/// The trap that this construction avoids: two encodings of one chunk share its id, and must
/// share neither key nor key stream.
#[test]
fn two_contents_of_one_name_share_no_key_stream() {
    let sealer = sealer(1);
    let a = sealed(&sealer, b"id", &[0; 64]);
    let b = sealed(&sealer, b"id", &[0xFF; 64]);
    let differing = (0..64).filter(|&i| a[i] ^ b[i] != 0xFF).count();
    assert!(differing > 48, "{differing} of 64 bytes");
    assert_ne!(a[a.len() - 32..], b[b.len() - 32..], "salts");
}

#[test]
fn sealing_is_a_function_of_key_name_and_content() {
    let one = sealed(&sealer(1), b"id", b"content");
    assert_eq!(one, sealed(&sealer(1), b"id", b"content"));
    assert_ne!(one, sealed(&sealer(2), b"id", b"content"));
    assert_ne!(one, sealed(&sealer(1), b"ie", b"content"));
    // The border between name and content is part of the salt.
    let salt = |name: &[u8], content: &[u8]| {
        let bytes = sealed(&sealer(1), name, content);
        bytes[bytes.len() - 32..].to_vec()
    };
    assert_ne!(salt(b"ab", b"c"), salt(b"a", b"bc"));
}

#[test]
fn every_flipped_bit_and_every_cut_is_noticed() {
    let sealer = sealer(1);
    let good = sealed(&sealer, b"id", b"some content");
    for cut in 0..good.len() {
        let mut bytes = good[..cut].to_vec();
        let error = sealer.open(b"id", &mut bytes).unwrap_err();
        assert_eq!((error.kind(), bytes.len()), (ErrorKind::Corrupt, 0));
    }
    for bit in 0..good.len() * 8 {
        let mut bytes = good.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let error = sealer.open(b"id", &mut bytes).unwrap_err();
        assert_eq!((error.kind(), bytes.len()), (ErrorKind::Corrupt, 0));
    }
}

#[test]
fn another_key_name_or_purpose_does_not_open() {
    let good = sealed(&sealer(1), b"id", b"content");
    let index = RootSeed::from_secret(Secret::from_bytes(&[1; 32]))
        .read_key()
        .index();
    for (other, name) in [
        (sealer(2), &b"id"[..]),
        (sealer(1), b"ie"),
        (sealer(1), b""),
        (index, b"id"),
    ] {
        let error = other.open(name, &mut good.clone()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
    }
}

/// Written once; every later version must open it.
#[test]
fn opens_what_the_first_version_sealed() {
    let sealed_then = hex(
        "8b60adcb2e14f656c0eaf84241163b8b67201529c1b7a6d22efd0af02ecc5091507676d3\
         718790eab498f931a28e5aa3b59b96b2a88a11458df182f3c9d386f4e8ce30df3dc0",
    );
    let mut bytes = sealed_then.clone();
    sealer(1).open(b"name", &mut bytes).unwrap();
    assert_eq!(bytes, b"sealed by version one");
    assert_eq!(sealed(&sealer(1), b"name", &bytes), sealed_then);
}

/// The layers spelled out with the primitives' own interfaces, from FORMAT.md alone.
#[test]
fn sealed_bytes_are_what_the_format_says() {
    let derive = |context: &str, key: &[u8; 32]| blake3::derive_key(context, key);
    let read = derive("mmh-rs 2026-11-25 read key v1", &[1; 32]);
    let content_key = derive("mmh-rs 2026-11-25 content key v1", &read);
    let salt_key = derive("mmh-rs 2026-11-25 seal salt v1", &content_key);
    let wrap_key = derive("mmh-rs 2026-11-25 seal wrap v1", &content_key);
    let salt = blake3::keyed_hash(&salt_key, b"\x02\0\0\0\0\0\0\0idhello");
    let key = blake3::keyed_hash(&wrap_key, &[&salt.as_bytes()[..], b"id"].concat());

    use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key.as_bytes()).unwrap());
    let mut expected = b"hello\x80".to_vec();
    let nonce = Nonce::assume_unique_for_key([0; 12]);
    key.seal_in_place_append_tag(nonce, Aad::from(b"id"), &mut expected)
        .unwrap();
    expected.extend_from_slice(salt.as_bytes());
    assert_eq!(sealed(&sealer(1), b"id", b"hello"), expected);
}

/// Test cases 15 and 16 of the GCM specification (McGrew and Viega), keys of 256 bits.
#[test]
fn the_cipher_gives_its_published_vectors() {
    use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
    let key = hex("feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308");
    let plain = hex(
        "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72\
         1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b391aafd255",
    );
    let cipher = "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa\
         8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662898015ad";
    let data = hex("feedfacedeadbeeffeedfacedeadbeefabaddad2");
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key).unwrap());
    for (len, data, tag) in [
        (64, &[][..], "b094dac5d93471bdec1a502270e3cc6c"),
        (60, &data, "76fc6ece0f4e1768cddf8853bb2d551b"),
    ] {
        let nonce = hex("cafebabefacedbaddecaf888").try_into().unwrap();
        let mut bytes = plain[..len].to_vec();
        key.seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(data),
            &mut bytes,
        )
        .unwrap();
        assert_eq!(bytes, [hex(cipher)[..len].to_vec(), hex(tag)].concat());
    }
}
