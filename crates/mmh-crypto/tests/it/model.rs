//! The formats once more, written plainly from FORMAT.md and the standards: what the crate writes is
//! taken apart here without its help, and what is put together here the crate reads.

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use mmh_core::Digest;
use mmh_crypto::age::{self, Cost, Identity, Passphrase, Recipient};
use mmh_crypto::seed::{Scope, Seed, SeedKey};
use mmh_crypto::sign::{Signer, composite};
use mmh_crypto::testing::Counter;
use mmh_crypto::{ReadKey, RootSeed, Secret, share};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use ring::hmac;

/// A field of 2^n elements as polynomials over GF(2), modulo `modulus`, multiplied by hand.
fn multiply(a: u32, b: u32, modulus: u32) -> u32 {
    let top = 1 << modulus.ilog2();
    let (mut product, mut a) = (0, a);
    for bit in 0..modulus.ilog2() {
        if b >> bit & 1 == 1 {
            product ^= a;
        }
        a <<= 1;
        if a & top != 0 {
            a ^= modulus;
        }
    }
    product
}

/// The remainder of a polynomial by a monic one, highest coefficients first: long division.
fn remainder(dividend: &[u32], divisor: &[u32], modulus: u32) -> Vec<u32> {
    let mut rest = dividend.to_vec();
    let steps = rest.len() + 1 - divisor.len();
    for at in 0..steps {
        let factor = rest[at];
        for (offset, &term) in divisor.iter().enumerate() {
            rest[at + offset] ^= multiply(factor, term, modulus);
        }
    }
    rest[steps..].to_vec()
}

mod seeds {
    use super::*;

    const LETTERS: &str = "qpzry9x8gf2tvdw0s3jn54khce6mua7l";
    /// GF(32) of Bech32: x⁵ + x³ + 1.
    const GF32: u32 = 0b10_1001;
    /// The long generator of BIP 93, highest coefficient first, as letters' values.
    const GENERATOR: [u32; 16] = [1, 15, 10, 25, 26, 9, 25, 21, 6, 23, 21, 6, 5, 22, 4, 23];
    /// `SECRETSHARE32EX`: the remainder of every word, in Bech32's letters.
    const TARGET: &str = "secretshare32ex";

    fn values(text: &str) -> Vec<u32> {
        let value = |c| {
            LETTERS
                .find(c)
                .map(|at| u32::try_from(at).expect("32 letters"))
        };
        text.chars().map(|c| value(c).expect("a letter")).collect()
    }

    /// The human-readable part as BIP 173 expands it, after the one that begins each word.
    fn head() -> Vec<u32> {
        let high = "mmh".bytes().map(|byte| u32::from(byte >> 5));
        let low = "mmh".bytes().map(|byte| u32::from(byte & 31));
        [1].into_iter().chain(high).chain([0]).chain(low).collect()
    }

    /// Bytes as bits, the bits in fives, the fives as letters, and the check symbols behind.
    fn text_of(content: &[u8]) -> String {
        let mut bits: String = content.iter().map(|byte| format!("{byte:08b}")).collect();
        while !bits.len().is_multiple_of(5) {
            bits.push('0');
        }
        let data: Vec<u32> = bits
            .as_bytes()
            .chunks(5)
            .map(|five| {
                five.iter()
                    .fold(0, |sum, &bit| sum << 1 | u32::from(bit - b'0'))
            })
            .collect();
        let padded: Vec<u32> = [head(), data.clone(), vec![0; 15]].concat();
        let rest = remainder(&padded, &GENERATOR, GF32);
        let check = rest
            .iter()
            .zip(values(TARGET))
            .map(|(rest, target)| rest ^ target);
        let letter = |value: u32| LETTERS.as_bytes()[usize::try_from(value).expect("five bits")];
        let letters = data
            .into_iter()
            .chain(check)
            .map(|value| char::from(letter(value)));
        "mmh1".chars().chain(letters).collect()
    }

    /// Field after field as the table in FORMAT.md has them.
    fn content_of(seed: &Seed) -> Vec<u8> {
        let (key, read_only) = match &seed.key {
            SeedKey::Root(root) => (root.secret().expose(), 0),
            SeedKey::Read(read) => (read.secret().expose(), 1),
        };
        let (scope, name) = match &seed.scope {
            Scope::Repository => (0, None),
            Scope::Name(name) => (1, Some(name.as_str().to_owned())),
            Scope::Snapshot => (2, None),
        };
        let state = u8::from(seed.state.is_some());
        let mut content = vec![1, scope << 2 | state << 1 | read_only];
        content.extend_from_slice(key);
        content.extend(seed.state.iter().flat_map(|digest| *digest.as_bytes()));
        for text in name.iter().chain(&seed.hints) {
            content.push(u8::try_from(text.len()).expect("a short text"));
            content.extend_from_slice(text.as_bytes());
        }
        content
    }

    #[test]
    fn seeds_are_what_the_format_says() {
        for byte in 0..40u8 {
            let key = Secret::from_bytes(&[byte.wrapping_mul(37); 32]);
            let is_root = byte % 2 == 0;
            let seed = Seed {
                key: if is_root {
                    SeedKey::Root(RootSeed::from_secret(key))
                } else {
                    SeedKey::Read(ReadKey::from_secret(key))
                },
                scope: match byte % 3 {
                    0 => Scope::Repository,
                    1 => Scope::Name("datasets/acme/squad".parse().unwrap()),
                    _ => Scope::Snapshot,
                },
                state: (byte % 3 == 2 || byte % 4 == 0).then(|| Digest::of(&[byte])),
                hints: vec!["hint".repeat(usize::from(byte % 5) + 1); usize::from(byte % 4)],
            };
            let text = text_of(&content_of(&seed));
            assert_eq!(*seed.to_text().unwrap(), text);
            assert_eq!(Seed::parse(&text).unwrap().seed, seed);
        }
    }

    /// What the flags and lengths do not allow is refused, though the check symbols are right.
    #[test]
    fn right_check_symbols_do_not_make_a_seed() {
        let with = |head: [u8; 2], rest: &[u8]| text_of(&[&head[..], &[7; 32], rest].concat());
        assert!(Seed::parse(&with([1, 0], b"")).is_ok());
        for (head, rest) in [
            ([0, 0], &b""[..]),
            ([2, 0], b""),
            ([1, 0x10], b""),
            ([1, 0x80], b""),
            ([1, 0x0c], b""),
            ([1, 2], b"only nine"),
            ([1, 4], b""),
            ([1, 4], b"\x03a b"),
            ([1, 4], b"\x04x/../y"),
            ([1, 8], b""),
            ([1, 0], b"\x00"),
            ([1, 0], b"\x05hint"),
            ([1, 0], b"\x02\xff\xfe"),
            ([1, 0], b"\x02a\n"),
        ] {
            assert!(Seed::parse(&with(head, rest)).is_err(), "{head:?} {rest:?}");
        }
    }
}

mod shares {
    use super::*;

    /// GF(1024) of SLIP-39: x¹⁰ + x³ + 1.
    const GF1024: u32 = 0b100_0000_1001;

    fn word_list() -> Vec<&'static str> {
        include_str!("../../src/share/words.txt").lines().collect()
    }

    /// The words of a share as one long string of bits.
    fn bits_of(words: &str) -> String {
        let list = word_list();
        let number = |word| {
            list.iter()
                .position(|&known| known == word)
                .expect("in the list")
        };
        words
            .split(' ')
            .map(|word| format!("{:010b}", number(word)))
            .collect()
    }

    fn number(bits: &str) -> u32 {
        u32::from_str_radix(bits, 2).expect("bits")
    }

    /// GF(256) of AES, in which the polynomials are.
    const GF256: u32 = 0x11b;

    fn inverse(a: u32) -> u32 {
        (1..256)
            .find(|&b| multiply(a, b, GF256) == 1)
            .expect("not zero")
    }

    /// Lagrange's polynomial through `points`, at `x`, byte by byte.
    fn interpolate(points: &[(u32, Vec<u8>)], x: u32) -> Vec<u8> {
        let at = |byte: usize| {
            points.iter().fold(0, |sum, (i, value)| {
                let others = points.iter().filter(|(j, _)| j != i);
                let basis = others.fold(1, |product, (j, _)| {
                    let quotient = multiply(x ^ j, inverse(i ^ j), GF256);
                    multiply(product, quotient, GF256)
                });
                sum ^ multiply(basis, value[byte].into(), GF256)
            })
        };
        (0..points[0].1.len())
            .map(|byte| u8::try_from(at(byte)).expect("a byte"))
            .collect()
    }

    /// Four rounds backwards, the halves exchanged, as the standard draws them.
    fn decrypt(encrypted: &[u8], passphrase: &str, iterations: u32) -> Vec<u8> {
        let (left, right) = encrypted.split_at(encrypted.len() / 2);
        let (mut left, mut right) = (left.to_vec(), right.to_vec());
        for round in [3u8, 2, 1, 0] {
            let password = [&[round], passphrase.as_bytes()].concat();
            let mut mask = vec![0; right.len()];
            ring::pbkdf2::derive(
                ring::pbkdf2::PBKDF2_HMAC_SHA256,
                iterations.try_into().expect("some"),
                &right,
                &password,
                &mut mask,
            );
            let mixed = left.iter().zip(mask).map(|(l, m)| l ^ m).collect();
            left = std::mem::replace(&mut right, mixed);
        }
        [right, left].concat()
    }

    /// Any three shares put together by hand: polynomial, digest, cipher.
    #[test]
    fn shares_combine_as_the_standard_says() {
        let secret: Vec<u8> = (100..132).collect();
        let shares = share::split(&secret, (3, 5), "pass", &Counter::new(5)).unwrap();
        let points: Vec<(u32, Vec<u8>)> = (0..)
            .zip(&shares)
            .map(|(index, words)| {
                let bits = bits_of(words);
                // 32 bytes are 26 words, so four zeros stand before them.
                let value = &bits[44..bits.len() - 30];
                let bytes = (0..32).map(|i| number(&value[8 * i..8 * i + 8]));
                (index, bytes.map(|b| u8::try_from(b).unwrap()).collect())
            })
            .collect();
        for choice in [[0, 1, 2], [4, 3, 2], [0, 2, 4]] {
            let chosen = choice.map(|i: usize| points[i].clone());
            let encrypted = interpolate(&chosen, 255);
            let digest = interpolate(&chosen, 254);
            let key = hmac::Key::new(hmac::HMAC_SHA256, &digest[4..]);
            assert_eq!(digest[..4], hmac::sign(&key, &encrypted).as_ref()[..4]);
            assert_eq!(decrypt(&encrypted, "pass", 2500 << 1), secret);
            // The shares that were not chosen lie on the same polynomial.
            for (index, value) in &points {
                assert_eq!(interpolate(&chosen, *index), *value);
            }
        }
    }

    /// Each field at its place, zeros before the value, and a checksum that is a remainder of one.
    #[test]
    fn shares_are_what_the_standard_says() {
        for len in [16, 18, 32, 64] {
            let shares = share::split(&vec![5; len], (3, 5), "", &Counter::new(4)).unwrap();
            let all: Vec<String> = shares.iter().map(|words| bits_of(words)).collect();
            for (index, bits) in (0..).zip(&all) {
                assert_eq!(bits[..15], all[0][..15], "identifier");
                assert_eq!(&bits[15..16], "1", "extendable");
                let fields: Vec<u32> = (16..40)
                    .step_by(4)
                    .map(|at| number(&bits[at..at + 4]))
                    .collect();
                assert_eq!(fields, [1, 0, 0, 0, index, 2]);
                let value = &bits[40..bits.len() - 30];
                let padding = value.len() - 8 * len;
                assert!(padding < 10 && !value[..padding].contains('1'));

                let word = |at: usize| number(&bits[10 * at..10 * at + 10]);
                let custom = b"shamir_extendable".iter().map(|&byte| u32::from(byte));
                let words = (0..bits.len() / 10).map(word);
                let all: Vec<u32> = [1].into_iter().chain(custom).chain(words).collect();
                // (x - α)(x - α²)(x - α³), with α = x.
                let [a, b, c] = [2, 4, 8];
                let linear =
                    multiply(a, b, GF1024) ^ multiply(a, c, GF1024) ^ multiply(b, c, GF1024);
                let constant = multiply(multiply(a, b, GF1024), c, GF1024);
                let generator = [1, a ^ b ^ c, linear, constant];
                assert_eq!(remainder(&all, &generator, GF1024), [0, 0, 1]);
            }
        }
    }
}

mod slots {
    use super::*;

    fn hmac_sha256(key: &[u8], message: &[u8]) -> Vec<u8> {
        let key = hmac::Key::new(hmac::HMAC_SHA256, key);
        hmac::sign(&key, message).as_ref().to_vec()
    }

    /// HKDF with one block of output.
    fn hkdf(ikm: &[u8], salt: &[u8], info: &[u8]) -> Vec<u8> {
        hmac_sha256(&hmac_sha256(salt, ikm), &[info, &[1]].concat())
    }

    fn open(key: &[u8], nonce: [u8; 12], sealed: &[u8]) -> Vec<u8> {
        let key = LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, key).expect("32 bytes"));
        let mut opened = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(nonce);
        let len = key
            .open_in_place(nonce, Aad::empty(), &mut opened)
            .expect("the right key")
            .len();
        opened[..len].to_vec()
    }

    /// Salt, costs and wrapped file key of a slot with one stanza.
    fn stanza_of(file: &[u8]) -> (Vec<String>, Vec<u8>) {
        let mark = file.windows(5).position(|window| window == b"\n--- ");
        let header = std::str::from_utf8(&file[..mark.expect("an end")]).expect("text");
        let lines: Vec<&str> = header.lines().collect();
        let args = lines[1].strip_prefix("-> ").expect("a stanza").split(' ');
        let body = STANDARD_NO_PAD.decode(lines[2]).expect("Base64");
        (args.map(str::to_owned).collect(), body)
    }

    /// The header's MAC says whether a file key is the right one.
    fn is_file_key(file: &[u8], file_key: &[u8]) -> bool {
        let mark = file.windows(5).position(|window| window == b"\n--- ");
        let (text, rest) = file.split_at(mark.expect("an end") + 4);
        let mac = hmac_sha256(&hkdf(file_key, b"", b"header"), text);
        let line = format!(" {}\n", STANDARD_NO_PAD.encode(mac));
        rest.starts_with(line.as_bytes())
    }

    fn slot_for(cost: Cost) -> Vec<u8> {
        let passphrase = Passphrase::new("correct horse").with_cost(cost);
        let recipients = [Recipient::Passphrase(passphrase)];
        age::encrypt(&recipients, b"root seed", &Counter::new(6)).expect("a good cost")
    }

    #[test]
    fn scrypt_slots_are_what_the_specification_says() {
        let file = slot_for(Cost::Scrypt { log_n: 8 });
        let (args, body) = stanza_of(&file);
        let [kind, salt, log_n] = args.as_slice() else {
            panic!("{args:?}");
        };
        assert_eq!((kind.as_str(), log_n.as_str()), ("scrypt", "8"));
        let salt = STANDARD_NO_PAD.decode(salt).unwrap();
        assert_eq!(salt.len(), 16);
        let salt = [&b"age-encryption.org/v1/scrypt"[..], &salt].concat();
        let mut key = [0; 32];
        let params = scrypt::Params::new(8, 8, 1).unwrap();
        scrypt::scrypt(b"correct horse", &salt, &params, &mut key).unwrap();
        assert!(is_file_key(&file, &open(&key, [0; 12], &body)));
    }

    #[test]
    fn argon2id_slots_are_what_the_format_says() {
        let file = slot_for(Cost::Argon2id {
            memory_kib: 96,
            passes: 2,
            lanes: 3,
        });
        let (args, body) = stanza_of(&file);
        assert_eq!(args[0], "mmh-rs/argon2id");
        assert_eq!(args[2..], ["96", "2", "3"]);
        let salt = STANDARD_NO_PAD.decode(&args[1]).unwrap();
        assert_eq!(salt.len(), 16);
        let salt = [&b"mmh-rs/v1/argon2id"[..], &salt].concat();
        let params = argon2::Params::new(96, 2, 3, Some(32)).unwrap();
        let mut memory = vec![argon2::Block::new(); params.block_count()];
        let mut key = [0; 32];
        argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params)
            .hash_password_into_with_memory(b"correct horse", &salt, &mut key, &mut memory)
            .unwrap();
        assert!(is_file_key(&file, &open(&key, [0; 12], &body)));
        assert!(!is_file_key(&file, &[0; 16]));
    }

    /// HPKE's labelled extraction and expansion, RFC 9180 section 4, for the suite of age.
    fn labelled(label: &str, ikm_or_info: &[u8]) -> Vec<u8> {
        let suite = [&b"HPKE"[..], &[0x64, 0x7a, 0, 1, 0, 3]].concat();
        [b"HPKE-v1", suite.as_slice(), label.as_bytes(), ikm_or_info].concat()
    }

    /// A hybrid slot opened by hand: X-Wing's two halves, the combiner, HPKE's schedule.
    #[test]
    fn hybrid_slots_are_what_the_specifications_say() {
        use ml_kem::kem::Decapsulate;
        use sha3::{Digest as _, Sha3_256};
        use shake::{ExtendableOutput, Shake256, Update, XofReader};

        let seed = [0x24; 32];
        let secret = mmh_crypto::xwing::SecretKey::from_secret(Secret::from_bytes(&seed));
        let recipients = [Identity::Hybrid(secret).recipient().unwrap()];
        let file = age::encrypt(&recipients, b"root seed", &Counter::new(7)).unwrap();
        let (args, body) = stanza_of(&file);
        assert_eq!(args[0], "mlkem768x25519");
        let encapsulated = STANDARD_NO_PAD.decode(&args[1]).unwrap();
        assert_eq!((args.len(), encapsulated.len(), body.len()), (2, 1120, 32));

        let mut expanded = [0; 96];
        let mut shake = Shake256::default();
        Update::update(&mut shake, &seed);
        shake.finalize_xof().read(&mut expanded);
        let m_seed: [u8; 64] = expanded[..64].try_into().unwrap();
        let x_secret: [u8; 32] = expanded[64..].try_into().unwrap();
        let (m_ciphertext, share) = encapsulated.split_at(1088);
        let m_key = ml_kem::DecapsulationKey768::from_seed(m_seed.into());
        let m_shared = m_key.decapsulate_slice(m_ciphertext).unwrap();
        let x_shared = x25519_dalek::x25519(x_secret, share.try_into().unwrap());
        let x_public = x25519_dalek::x25519(x_secret, x25519_dalek::X25519_BASEPOINT_BYTES);
        let joined = [&m_shared[..], &x_shared, share, &x_public, b"\\.//^\\"].concat();
        let shared = Sha3_256::digest(&joined);

        let info = b"age-encryption.org/mlkem768x25519";
        let psk_id_hash = hmac_sha256(b"", &labelled("psk_id_hash", b""));
        let info_hash = hmac_sha256(b"", &labelled("info_hash", info));
        let context = [&[0][..], &psk_id_hash, &info_hash].concat();
        let secret = hmac_sha256(&shared, &labelled("secret", b""));
        let expand = |label: &str, len: u8| {
            let info = labelled(label, &context);
            let block = hmac_sha256(&secret, &[&[0, len][..], &info, &[1]].concat());
            block[..usize::from(len)].to_vec()
        };
        let nonce = expand("base_nonce", 12).try_into().unwrap();
        let file_key = open(&expand("key", 32), nonce, &body);
        assert!(is_file_key(&file, &file_key));
    }

    /// An X25519 slot opened line by line, as the age specification tells it.
    #[test]
    fn slots_are_what_the_specification_says() {
        let secret = [0x42; 32];
        let identity = Identity::X25519(Secret::from_bytes(&secret));
        let recipients = [identity.recipient().unwrap()];
        let file = age::encrypt(&recipients, b"root seed", &Counter::new(5)).unwrap();

        let mark = file
            .windows(5)
            .position(|window| window == b"\n--- ")
            .unwrap();
        let header = std::str::from_utf8(&file[..mark]).unwrap();
        let lines: Vec<&str> = header.lines().collect();
        let [version, stanza, body] = lines[..] else {
            panic!("{header}");
        };
        assert_eq!(version, "age-encryption.org/v1");
        let share = STANDARD_NO_PAD
            .decode(stanza.strip_prefix("-> X25519 ").unwrap())
            .unwrap();
        let share: [u8; 32] = share.try_into().unwrap();
        let shared = x25519_dalek::x25519(secret, share);
        let recipient = x25519_dalek::x25519(secret, x25519_dalek::X25519_BASEPOINT_BYTES);
        let salt = [share, recipient].concat();
        let wrap_key = hkdf(&shared, &salt, b"age-encryption.org/v1/X25519");
        let file_key = open(&wrap_key, [0; 12], &STANDARD_NO_PAD.decode(body).unwrap());
        assert_eq!(file_key.len(), 16);

        let mac_key = hkdf(&file_key, b"", b"header");
        let mac = hmac_sha256(&mac_key, &file[..mark + 4]);
        let end = format!(" {}\n", STANDARD_NO_PAD.encode(mac));
        let rest = file[mark + 4..]
            .strip_prefix(end.as_bytes())
            .expect("the MAC");
        let (nonce, sealed) = rest.split_at(16);
        let payload_key = hkdf(&file_key, nonce, b"payload");
        let last = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        assert_eq!(open(&payload_key, last, sealed), b"root seed");
    }
}

mod signatures {
    use super::*;
    use ml_dsa::{EncodedSignature, EncodedVerifyingKey, MlDsa65, Signature, VerifyingKey};
    use sha2::{Digest as _, Sha512};

    /// Each half verifies by itself over the message that the draft prescribes.
    #[test]
    fn composites_are_what_the_draft_says() {
        let key = composite::SigningKey::from_seed(Secret::from_bytes(&[6; 64]));
        let public = key.public_key().to_bytes();
        for (context, message) in [(&b""[..], &b"message"[..]), (b"context", b"")] {
            let signature = key.sign(context, message).unwrap();
            let label = b"COMPSIG-MLDSA65-Ed25519-SHA512";
            let context_len = u8::try_from(context.len()).unwrap();
            let hash = Sha512::digest(message);
            let parts: [&[u8]; 5] = [
                b"CompositeAlgorithmSignatures2025",
                label,
                &[context_len],
                context,
                &hash,
            ];
            let representative = parts.concat();
            let (m_signature, ed_signature) = signature.split_at(3309);
            let (m_key, ed_key) = public[1..].split_at(1952);

            let m_key = EncodedVerifyingKey::<MlDsa65>::try_from(m_key).unwrap();
            let m_key = VerifyingKey::<MlDsa65>::decode(&m_key);
            let m_signature = EncodedSignature::<MlDsa65>::try_from(m_signature).unwrap();
            let m_signature = Signature::<MlDsa65>::decode(&m_signature).unwrap();
            assert!(m_key.verify_with_context(&representative, label, &m_signature));
            assert!(!m_key.verify_with_context(&representative, b"", &m_signature));
            ring::signature::UnparsedPublicKey::new(&ring::signature::ED25519, ed_key)
                .verify(&representative, ed_signature)
                .unwrap();
        }
    }
}

mod key_tree {
    use super::*;

    /// Every arrow of the table in FORMAT.md, with BLAKE3's own function.
    #[test]
    fn keys_are_derived_as_the_format_says() {
        let root_bytes = [0x33; 32];
        let root = RootSeed::from_secret(Secret::from_bytes(&root_bytes));
        let derive = |what: &str, parent: &[u8; 32]| {
            blake3::derive_key(&format!("mmh-rs 2026-11-25 {what} v1"), parent)
        };
        let read = derive("read key", &root_bytes);
        assert_eq!(root.read_key().secret().expose(), &read);

        let id_key = derive("id key", &read);
        let id = blake3::keyed_hash(&id_key, b"content");
        assert_eq!(
            root.read_key().id_key().id(b"content").as_bytes(),
            id.as_bytes()
        );

        let mut hasher = blake3::Hasher::new_derive_key("mmh-rs 2026-11-25 signing seed v1");
        hasher.update(&root_bytes);
        let mut signing = [0; 64];
        hasher.finalize_xof().fill(&mut signing);
        assert_eq!(root.signing_seed().expose(), &signing);

        let chunker = derive("chunker key", &root_bytes);
        let mut table = vec![0; 2048];
        blake3::Hasher::new_keyed(&chunker)
            .finalize_xof()
            .fill(&mut table);
        let words = table
            .as_chunks::<8>()
            .0
            .iter()
            .map(|word| u64::from_le_bytes(*word));
        assert!(root.chunker_key().gear().iter().copied().eq(words));
    }

    /// Content and structure are sealed under keys of their own.
    #[test]
    fn purposes_do_not_share_a_key() {
        let key = ReadKey::from_secret(Secret::from_bytes(&[1; 32]));
        let [mut content, mut index] = [b"bytes".to_vec(), b"bytes".to_vec()];
        key.content().seal(b"name", &mut content).unwrap();
        key.index().seal(b"name", &mut index).unwrap();
        assert_ne!(content, index);
        assert!(key.index().open(b"name", &mut content).is_err());
        key.index().open(b"name", &mut index).unwrap();
        assert_eq!(index, b"bytes");
    }
}

mod bundles {
    use super::*;
    use base64::engine::general_purpose::STANDARD;
    use mmh_crypto::bundle::{self, Resource, Statement, p256};
    use serde_json::Value;
    use sha2::{Digest as _, Sha256};

    const KEY: &str = include_str!("../../testdata/bundle/key.pem");
    const PUBLIC: &str = include_str!("../../testdata/bundle/public.pem");

    fn hex_of(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// JSON by another reader, the envelope's encoding by hand, the signature by `ring` itself.
    #[test]
    fn bundles_are_what_the_specifications_say() {
        let key = p256::SigningKey::from_pem(KEY).unwrap();
        let contents = [("a", b"first".as_slice()), ("b/c", b"second")];
        let resources = contents.map(|(name, content)| Resource {
            name: name.to_owned(),
            sha256: Sha256::digest(content).into(),
        });
        let statement = Statement::new("my model", resources.into()).unwrap();
        let text = bundle::sign(&statement, &key, None).unwrap();

        let bundle: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            bundle["mediaType"],
            "application/vnd.dev.sigstore.bundle.v0.3+json"
        );
        let hint = &bundle["verificationMaterial"]["publicKey"]["hint"];
        assert_eq!(*hint, hex_of(&Sha256::digest(PUBLIC)));
        let envelope = &bundle["dsseEnvelope"];
        let decode = |value: &Value| STANDARD.decode(value.as_str().unwrap()).unwrap();
        let payload = decode(&envelope["payload"]);
        let kind = "application/vnd.in-toto+json";
        assert_eq!(envelope["payloadType"], kind);

        let mut message = format!("DSSEv1 28 {kind} {} ", payload.len()).into_bytes();
        message.extend_from_slice(&payload);
        let body: String = PUBLIC
            .lines()
            .filter(|line| !line.starts_with('-'))
            .collect();
        let point = STANDARD.decode(body).unwrap()[26..].to_vec();
        let algorithm = &ring::signature::ECDSA_P256_SHA256_ASN1;
        ring::signature::UnparsedPublicKey::new(algorithm, point)
            .verify(&message, &decode(&envelope["signatures"][0]["sig"]))
            .unwrap();

        let said: Value = serde_json::from_slice(&payload).unwrap();
        assert_eq!(said["_type"], "https://in-toto.io/Statement/v1");
        assert_eq!(
            said["predicateType"],
            "https://model_signing/signature/v1.0"
        );
        assert_eq!(said["subject"][0]["name"], "my model");
        let digests = contents.map(|(_, content)| Sha256::digest(content).to_vec());
        let all = hex_of(&Sha256::digest(digests.concat()));
        assert_eq!(said["subject"][0]["digest"]["sha256"], all);
        for (i, (name, _)) in contents.iter().enumerate() {
            let resource = &said["predicate"]["resources"][i];
            assert_eq!(resource["name"], *name);
            assert_eq!(resource["algorithm"], "sha256");
            assert_eq!(resource["digest"], hex_of(&digests[i]));
        }
    }
}

mod lengths {
    use super::*;
    use mmh_crypto::padding::padme;

    /// Padmé by its words: as many leading bits stay as the exponent's own length, rounded up.
    fn by_words(len: u64) -> u64 {
        let exponent = (0..64).rev().find(|&bit| len >> bit & 1 == 1).unwrap_or(0);
        let digits = (0..7)
            .rev()
            .find(|&bit| exponent >> bit & 1 == 1)
            .map_or(0, |bit| bit + 1);
        let free = (exponent - digits).max(0);
        let unit = 1 << free;
        len.div_ceil(unit) * unit
    }

    /// Sealed lengths follow from content lengths by this alone, whatever the content is.
    #[test]
    fn sealed_lengths_are_padded_lengths() {
        let sealer = ReadKey::from_secret(Secret::from_bytes(&[2; 32])).content();
        for len in (0..300u64).chain([1000, 4095, 4096, 4097, 65_535, 65_536, 100_000]) {
            assert_eq!(
                padme(len),
                if len < 2 { len } else { by_words(len) },
                "{len}"
            );
            for filling in [0, 0x80, 0xff] {
                let mut bytes = vec![filling; usize::try_from(len).unwrap()];
                sealer.seal(b"name", &mut bytes).unwrap();
                let expected = if len == 0 { 1 } else { by_words(len + 1) };
                assert_eq!(bytes.len() as u64, expected + 16 + 32, "{len}");
            }
        }
    }
}
