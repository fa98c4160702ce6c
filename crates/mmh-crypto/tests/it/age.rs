//! Key slots are age files: the community's vectors, and files for recipients of every kind.

use std::fs;
use std::path::Path;

use mmh_core::ErrorKind;
use mmh_crypto::Error;
use mmh_crypto::age::{self, Cost, Identity, Passphrase, Recipient, armor, fuzz_decrypt};
use mmh_crypto::testing::{Counter, Dry};
use proptest::prelude::*;
use sha2::{Digest, Sha256};

/// One file of the C2SP CCTV age vectors, as its README describes it.
#[derive(Debug, Default)]
struct Vector {
    expect: String,
    payload: Option<Vec<u8>>,
    identities: Vec<Identity>,
    file: Vec<u8>,
}

fn vector(path: &Path) -> Vector {
    let bytes = fs::read(path).expect("a readable vector");
    let border = bytes.windows(2).position(|pair| pair == b"\n\n");
    let (head, body) = bytes.split_at(border.expect("an empty line"));
    let mut vector = Vector {
        file: body[2..].to_vec(),
        ..Vector::default()
    };
    for line in std::str::from_utf8(head).expect("a textual head").lines() {
        let (key, value) = line.split_once(": ").expect("key and value");
        match key {
            "expect" => value.clone_into(&mut vector.expect),
            "payload" => vector.payload = Some(crate::hex(value)),
            "identity" => vector.identities.push(value.parse().expect("an identity")),
            "passphrase" => {
                let passphrase = Identity::Passphrase(Passphrase::new(value));
                vector.identities.push(passphrase);
            }
            "compressed" => {
                vector.file = miniz_oxide::inflate::decompress_to_vec_zlib(&vector.file)
                    .expect("a zlib stream");
            }
            "file key" | "comment" | "armored" => {}
            other => panic!("{}: unknown key {other}", path.display()),
        }
    }
    vector
}

/// What an error says in the terms of the vectors.
fn verdict(error: &Error) -> &'static str {
    match error {
        Error::NoMatch => "no match",
        Error::Forged { what: "age header" } => "HMAC failure",
        Error::Forged { .. } => "payload failure",
        Error::Malformed {
            what: "age payload",
            ..
        } => "payload failure",
        Error::Malformed {
            what: "age armor", ..
        } => "armor failure",
        _ => "header failure",
    }
}

/// All of the vectors: hybrid, X25519, scrypt, header, armor and payload.
#[test]
fn the_community_vectors_pass() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/age");
    let mut n_vectors = 0;
    for entry in fs::read_dir(folder).expect("the vectors") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some() {
            continue; // The README.
        }
        let vector = vector(&path);
        let name = path.file_name().expect("a name").to_string_lossy();
        match age::decrypt(&vector.identities, &vector.file) {
            Ok(content) => {
                assert_eq!(vector.expect, "success", "{name} was opened");
                let digest = Sha256::digest(&*content).to_vec();
                assert_eq!(Some(digest), vector.payload, "{name}");
            }
            Err(error) => {
                // Armor that does not begin as armor is a binary file that does not begin as one.
                let found = match vector.expect.as_str() {
                    "armor failure" if !armor::is_armored(&vector.file) => "armor failure",
                    _ => verdict(&error),
                };
                assert_eq!(found, vector.expect, "{name}: {error}");
            }
        }
        n_vectors += 1;
    }
    assert_eq!(n_vectors, 143, "all vectors were found");
}

fn identities() -> [Identity; 4] {
    let entropy = Counter::new(1);
    let argon2id = Cost::Argon2id {
        memory_kib: 64,
        passes: 2,
        lanes: 2,
    };
    [
        Identity::generate_hybrid(&entropy).expect("random bytes"),
        Identity::generate_x25519(&entropy).expect("random bytes"),
        Identity::Passphrase(Passphrase::new("correct horse").with_cost(Cost::TEST)),
        Identity::Passphrase(Passphrase::new("battery staple").with_cost(argon2id)),
    ]
}

fn recipient(identity: &Identity) -> Recipient {
    match identity {
        Identity::Passphrase(passphrase) => Recipient::Passphrase(passphrase.clone()),
        key => key.recipient().expect("a key"),
    }
}

#[test]
fn each_kind_opens_its_own_and_no_other() {
    let identities = identities();
    for (i, identity) in identities.iter().enumerate() {
        let file = age::encrypt(&[recipient(identity)], b"root seed", &Counter::new(2)).unwrap();
        for (j, other) in identities.iter().enumerate() {
            let opened = age::decrypt(std::slice::from_ref(other), &file);
            match opened {
                Ok(content) => assert_eq!((i, content.as_slice()), (j, &b"root seed"[..])),
                Err(error) => {
                    assert_ne!(i, j, "{error}");
                    assert_eq!(error.kind(), ErrorKind::Denied);
                }
            }
        }
        let opened = age::decrypt(&identities, &file).expect("one of them opens");
        assert_eq!(opened.as_slice(), b"root seed");
        assert!(age::decrypt(&[], &file).is_err());
    }
}

#[test]
fn a_wrong_passphrase_is_denied() {
    for identity in &identities()[2..] {
        let file = age::encrypt(&[recipient(identity)], b"x", &Counter::new(2)).unwrap();
        let wrong = Identity::Passphrase(Passphrase::new("Correct horse"));
        let error = age::decrypt(&[wrong], &file).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied);
    }
}

/// Recipients come and go by writing a small file; what was sealed under the key stays.
#[test]
fn recipients_are_added_and_removed_without_touching_data() {
    let entropy = Counter::new(3);
    let [alice, bob] = [(); 2].map(|()| Identity::generate_hybrid(&entropy).unwrap());
    let both = [recipient(&alice), recipient(&bob)];
    let first = age::encrypt(&both[..1], b"root seed", &entropy).unwrap();
    let seed = age::decrypt(std::slice::from_ref(&alice), &first).unwrap();
    let second = age::encrypt(&both, &seed, &entropy).unwrap();
    assert_eq!(
        *age::decrypt(std::slice::from_ref(&bob), &second).unwrap(),
        *seed
    );
    let third = age::encrypt(&both[1..], &seed, &entropy).unwrap();
    assert!(age::decrypt(&[alice], &third).is_err());
    assert_eq!(*age::decrypt(&[bob], &third).unwrap(), *seed);
}

#[test]
fn sets_that_promise_too_much_are_refused() {
    let [hybrid, x25519, scrypt, argon2id] = identities().map(|identity| recipient(&identity));
    for set in [
        vec![],
        vec![hybrid.clone(), x25519.clone()],
        vec![scrypt.clone(), x25519],
        vec![argon2id.clone(), hybrid],
        vec![scrypt, argon2id],
    ] {
        let error = age::encrypt(&set, b"x", &Counter::new(2)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
}

/// A point of low order would make the shared secret known to everybody.
#[test]
fn recipients_of_low_order_are_refused() {
    for point in [
        crate::hex("0000000000000000000000000000000000000000000000000000000000000000"),
        crate::hex("0100000000000000000000000000000000000000000000000000000000000000"),
        crate::hex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
        crate::hex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
    ] {
        let key: [u8; 32] = point.as_slice().try_into().unwrap();
        let error = age::encrypt(&[Recipient::X25519(key)], b"x", &Counter::new(2)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);

        let good = Identity::generate_hybrid(&Counter::new(4)).unwrap();
        let Some(Recipient::Hybrid(good)) = good.recipient() else {
            panic!("hybrid");
        };
        let mut bytes = good.to_bytes();
        let at = bytes.len() - 32;
        bytes[at..].copy_from_slice(&key);
        let bad = mmh_crypto::xwing::PublicKey::from_bytes(&bytes).unwrap();
        let error = age::encrypt(&[Recipient::Hybrid(bad)], b"x", &Counter::new(2)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
}

/// The example texts of the specification at <https://c2sp.org/age>.
#[test]
fn texts_are_those_of_the_specification() {
    let x25519 = "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX";
    let identity: Identity = x25519.parse().unwrap();
    assert_eq!(*identity.to_secret_text().unwrap(), x25519);
    assert_eq!(
        identity.recipient().unwrap().to_string(),
        "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj"
    );
    let hybrid = "AGE-SECRET-KEY-PQ-1XX76JRALNLXDMEW0CRK45QMCCH4X06SE84UN3VPM33W6HWDX0H3SK3ZQFR";
    let identity: Identity = hybrid.parse().unwrap();
    assert_eq!(*identity.to_secret_text().unwrap(), hybrid);
    let text = identity.recipient().unwrap().to_string();
    assert!(text.starts_with("age1pq1x34nzsvr0rxjsgdn8zgyhfe8j7ceq5r9rdelkjuh3y235jzxshfg87pzf"));
    assert!(text.ends_with("7saeq0d3fzv49zc0k"), "{text}");
    let again: Recipient = text.parse().unwrap();
    assert_eq!(again.to_string(), text);
}

#[test]
fn other_texts_are_refused() {
    for text in [
        "",
        "age-secret-key-1gfpyysjzgfpyysjzgfpyysjzgfpyysjzgfpyysjzgfpyysjzgfpq4egaex",
        "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEY",
        "AGE-SECRET-KEY-PQ-1",
        "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj",
    ] {
        assert!(text.parse::<Identity>().is_err(), "{text}");
    }
    for text in [
        "",
        "age1",
        "age1pq1",
        "AGE1ZVKYG2LQZRAA2LNJVQEJ32NKUU0UES2S82HZRYE869XEEXVN73EQUNUJWJ",
    ] {
        assert!(text.parse::<Recipient>().is_err(), "{text}");
    }
    let passphrase = Identity::Passphrase(Passphrase::new("p"));
    assert!(passphrase.to_secret_text().is_none() && passphrase.recipient().is_none());
}

#[test]
fn every_flipped_byte_and_every_cut_is_noticed() {
    let identities = identities();
    for identity in &identities[..2] {
        let file = age::encrypt(&[recipient(identity)], b"seed", &Counter::new(5)).unwrap();
        let step = file.len() / 150 + 1;
        for at in (0..file.len()).step_by(step) {
            let mut flipped = file.clone();
            flipped[at] ^= 1;
            assert!(
                age::decrypt(std::slice::from_ref(identity), &flipped).is_err(),
                "{at}"
            );
            assert!(
                age::decrypt(std::slice::from_ref(identity), &file[..at]).is_err(),
                "{at}"
            );
        }
    }
}

#[test]
fn armored_files_open_too() {
    let identity = &identities()[1];
    let file = age::encrypt(&[recipient(identity)], b"seed", &Counter::new(5)).unwrap();
    let text = armor::encode(&file);
    let opened = age::decrypt(std::slice::from_ref(identity), text.as_bytes()).unwrap();
    assert_eq!(opened.as_slice(), b"seed");
}

/// Files that age 1.1.1 and age-encryption 0.3.1 wrote.
#[test]
fn files_of_stock_tools_open() {
    let x25519: Identity =
        "AGE-SECRET-KEY-1K5SPR28TEZS7XGAC944Q44A5S9UV76Z050390FCZ0S7WW5RS34JSNT7YNN"
            .parse()
            .unwrap();
    let hybrid = "AGE-SECRET-KEY-PQ-1HRLPT4KQARZQJMZHQ8H7XAMSSMD9HMVAN9TVXPUCRUVQJ3KJRZPS2SLKC0";
    let hybrid: Identity = hybrid.parse().unwrap();
    let scrypt = Identity::Passphrase(Passphrase::new("battery staple"));
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/stock");
    for (name, identity, content) in [
        ("x25519.age", &x25519, &b"hello root seed\n"[..]),
        ("x25519.armor.age", &x25519, b"hello root seed\n"),
        ("hybrid.age", &hybrid, b"hello from npm"),
        ("scrypt.age", &scrypt, b"hello passphrase"),
    ] {
        let file = fs::read(folder.join(name)).unwrap();
        let opened = age::decrypt(std::slice::from_ref(identity), &file).unwrap();
        assert_eq!(opened.as_slice(), content, "{name}");
    }
}

/// A file as text, so that tests can change its header.
fn with_header(file: &[u8], change: impl Fn(&str) -> String) -> Vec<u8> {
    let end = file
        .windows(5)
        .position(|window| window == b"\n--- ")
        .expect("the end of the header");
    let head = std::str::from_utf8(&file[..end + 1]).expect("a textual header");
    [change(head).as_bytes(), &file[end + 1..]].concat()
}

/// What a file asks for is weighed before it is paid: none of these takes a second.
#[test]
fn files_cannot_ask_for_all_memory_or_time() {
    let [_, _, scrypt, argon2id] = identities();
    let file = age::encrypt(&[recipient(&scrypt)], b"x", &Counter::new(7)).unwrap();
    for cost in ["21", "22", "63", "64", "255", "256", "99999999999999999999"] {
        let dear = with_header(&file, |head| head.replace(" 10\n", &format!(" {cost}\n")));
        let error = age::decrypt(std::slice::from_ref(&scrypt), &dear).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{cost}");
    }
    let file = age::encrypt(&[recipient(&argon2id)], b"x", &Counter::new(7)).unwrap();
    for cost in [
        "64 2 0",
        "64 17 2",
        "15 2 2",
        "4294967295 2 2",
        "1048577 2 2",
        "64 4294967295 2",
        "64 2 16777216",
        "64 02 2",
        "64 2",
        "64 2 2 2",
        "64  2 2",
    ] {
        let dear = with_header(&file, |head| {
            head.replace(" 64 2 2\n", &format!(" {cost}\n"))
        });
        assert_ne!(dear, file);
        let error = age::decrypt(std::slice::from_ref(&argon2id), &dear).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{cost}");
    }
}

/// Who knows one recipient's key must not be able to add or drop stanzas unnoticed.
#[test]
fn added_and_dropped_stanzas_are_noticed() {
    let entropy = Counter::new(8);
    let both = [(); 2].map(|()| Identity::generate_x25519(&entropy).unwrap());
    let file = age::encrypt(&both.each_ref().map(recipient), b"x", &entropy).unwrap();
    let add = with_header(&file, |head| format!("{head}-> grease\n\n"));
    let drop = with_header(&file, |head| {
        let (first, _) = head.rsplit_once("-> ").expect("two stanzas");
        first.to_owned()
    });
    for changed in [add, drop] {
        let error = age::decrypt(&both[..1], &changed).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
    }
}

/// A passphrase beside anything else would be a claim that nobody can check.
#[test]
fn passphrase_stanzas_must_be_alone() {
    for identity in &identities()[2..] {
        let file = age::encrypt(&[recipient(identity)], b"x", &Counter::new(9)).unwrap();
        for extra in ["-> grease\n\n", "-> scrypt a 10\n\n"] {
            let mixed = with_header(&file, |head| format!("{head}{extra}"));
            let error = age::decrypt(std::slice::from_ref(identity), &mixed).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid);
        }
    }
}

/// Two files to one recipient have nothing in common but the version line and the stanza's type.
#[test]
fn files_do_not_repeat_themselves() {
    let entropy = Counter::new(10);
    let identity = Identity::generate_hybrid(&entropy).unwrap();
    let set = [recipient(&identity)];
    let [a, b] = [(); 2].map(|()| age::encrypt(&set, b"seed", &entropy).unwrap());
    assert_eq!(a.len(), b.len());
    let from = b"age-encryption.org/v1\n-> mlkem768x25519 ".len();
    assert_eq!(a[..from], b[..from]);
    let same = a.iter().zip(&b).skip(from).filter(|(x, y)| x == y).count();
    assert!(same < a.len() / 16, "{same} of {} bytes are alike", a.len());
}

#[test]
fn a_dry_generator_is_unavailable() {
    for identity in identities() {
        let error = age::encrypt(&[recipient(&identity)], b"x", &Dry).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn any_content_reaches_every_recipient(
        content in proptest::collection::vec(any::<u8>(), 0..500),
        n_recipients in 1usize..4,
        rng_seed in any::<u32>(),
    ) {
        let entropy = Counter::new(rng_seed.into());
        let identities: Vec<_> = (0..n_recipients)
            .map(|_| Identity::generate_x25519(&entropy).unwrap())
            .collect();
        let recipients: Vec<_> = identities.iter().map(recipient).collect();
        let file = age::encrypt(&recipients, &content, &entropy).unwrap();
        for identity in &identities {
            let opened = age::decrypt(std::slice::from_ref(identity), &file).unwrap();
            prop_assert_eq!(opened.as_slice(), content.as_slice());
        }
    }
}

proptest! {
    #[test]
    fn noise_is_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        fuzz_decrypt(&bytes);
        fuzz_decrypt(&[b"age-encryption.org/v1\n-> X25519 ", &bytes[..]].concat());
        fuzz_decrypt(&[b"-----BEGIN AGE ENCRYPTED FILE-----\n", &bytes[..]].concat());
    }
}
