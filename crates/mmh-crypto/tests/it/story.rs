//! The life of a sealed repository, from its first key to its restoring from cards.

use mmh_core::object::{Record, RecordTag};
use mmh_core::{Digest, ErrorKind, ObjectId};
use mmh_crypto::age::{self, Cost, Identity, Passphrase, Recipient};
use mmh_crypto::seed::{Scope, Seed, SeedKey};
use mmh_crypto::sign::certificate::PURPOSE_SNAPSHOT;
use mmh_crypto::sign::{Certificate, Signer, Terms, composite, root, sign_record, verify_record};
use mmh_crypto::testing::Counter;
use mmh_crypto::{ReadKey, RootSeed, Secret, share};

/// What lies on other people's disks: sealed chunks by id, and key slots.
struct Disks {
    chunks: Vec<(Digest, Vec<u8>)>,
    slot: Vec<u8>,
}

const CHUNKS: [&[u8]; 3] = [b"weights", b"more weights", b""];

fn fill(root: &RootSeed, slot: Vec<u8>) -> Disks {
    let key = root.read_key();
    let chunks = CHUNKS.map(|content| {
        let id = key.id_key().id(content);
        let mut bytes = content.to_vec();
        key.content()
            .seal(id.as_bytes(), &mut bytes)
            .expect("short");
        (id, bytes)
    });
    Disks {
        chunks: chunks.into(),
        slot,
    }
}

/// Reads everything with the read key alone, comparing ids as readers do.
fn check(disks: &Disks, key: &ReadKey) {
    for ((id, sealed), content) in disks.chunks.iter().zip(CHUNKS) {
        let mut bytes = sealed.clone();
        key.content().open(id.as_bytes(), &mut bytes).expect("ours");
        assert_eq!((bytes.as_slice(), key.id_key().id(&bytes)), (content, *id));
    }
}

#[test]
fn a_repository_comes_back_from_its_slot_its_seed_and_its_shares() {
    let entropy = Counter::new(77);
    let root = RootSeed::generate(&entropy).unwrap();
    let holder = Identity::generate_hybrid(&entropy).unwrap();
    let recipients = [holder.recipient().unwrap()];
    let slot = age::encrypt(&recipients, root.secret().expose(), &entropy).unwrap();
    let disks = fill(&root, slot);

    // By the holder's key.
    let opened = age::decrypt(&[holder], &disks.slot).unwrap();
    let secret = Secret::from_bytes(opened.as_slice().try_into().unwrap());
    assert_eq!(RootSeed::from_secret(secret), root);

    // From a card with four wrong characters.
    let seed = Seed {
        key: SeedKey::Root(root.clone()),
        scope: Scope::Repository,
        state: Some(Digest::of(b"the last log entry")),
        hints: vec!["s3://bucket/models".to_owned()],
    };
    let mut card = seed.to_text().unwrap().as_bytes().to_vec();
    for at in [6, 60, 61, 130] {
        card[at] = if card[at] == b'q' { b'p' } else { b'q' };
    }
    let parsed = Seed::parse(&String::from_utf8(card).unwrap()).unwrap();
    assert_eq!(parsed.corrected, [6, 60, 61, 130]);
    let SeedKey::Root(restored) = &parsed.seed.key else {
        panic!("a root seed");
    };
    check(&disks, &restored.read_key());

    // From three of five shares.
    let shares = share::split(root.secret().expose(), (3, 5), "", &entropy).unwrap();
    let some = [&shares[1], &shares[4], &shares[0]].map(|words| words.as_str());
    let secret = share::combine(&some, "").unwrap();
    let secret = Secret::from_bytes(secret.as_slice().try_into().unwrap());
    check(&disks, &RootSeed::from_secret(secret).read_key());
}

/// A read-only seed reads all, and neither signs nor cuts as its owner would.
#[test]
fn a_reader_reads_and_no_more() {
    let root = RootSeed::from_secret(Secret::from_bytes(&[5; 32]));
    let disks = fill(&root, Vec::new());
    let seed = Seed {
        key: SeedKey::Read(root.read_key()),
        scope: Scope::Repository,
        state: None,
        hints: Vec::new(),
    };
    let parsed = Seed::parse(&seed.to_text().unwrap()).unwrap();
    let SeedKey::Read(key) = parsed.seed.key else {
        panic!("a read key");
    };
    check(&disks, &key);
    // Taken for a root seed, the read key gives other keys altogether.
    let pretended = RootSeed::from_secret(key.secret().clone());
    assert_ne!(pretended.read_key(), root.read_key());
    assert_ne!(pretended.signing_seed(), root.signing_seed());
    assert_ne!(pretended.chunker_key(), root.chunker_key());
}

/// Whoever holds the disks can neither read, nor swap chunks, nor test for known content.
#[test]
fn disks_tell_and_allow_nothing() {
    let root = RootSeed::from_secret(Secret::from_bytes(&[5; 32]));
    let disks = fill(&root, Vec::new());
    let key = root.read_key();
    let (first, second) = (&disks.chunks[0], &disks.chunks[1]);
    let swapped = key
        .content()
        .open(first.0.as_bytes(), &mut second.1.clone());
    assert_eq!(swapped.unwrap_err().kind(), ErrorKind::Corrupt);
    for ((id, sealed), content) in disks.chunks.iter().zip(CHUNKS) {
        assert_ne!(
            *id,
            Digest::of(content),
            "a known file's digest is not its id"
        );
        let is_inside = !content.is_empty() && sealed.windows(content.len()).any(|w| w == content);
        assert!(!is_inside);
    }
    let other = fill(
        &RootSeed::from_secret(Secret::from_bytes(&[6; 32])),
        Vec::new(),
    );
    for (a, b) in disks.chunks.iter().zip(&other.chunks) {
        assert!(
            a.0 != b.0 && a.1 != b.1,
            "repositories share nothing visible"
        );
        assert_eq!(a.1.len(), b.1.len());
    }
}

/// A root vouches for the repository's own key, whose signature on a record then counts.
#[test]
fn trust_goes_from_a_root_to_a_key_to_a_record() {
    let repository = RootSeed::from_secret(Secret::from_bytes(&[5; 32]));
    let daily = composite::SigningKey::from_seed(repository.signing_seed());
    let authority = root::SigningKey::from_seed(Secret::from_bytes(&[1; 48]));
    let terms = Terms {
        key: daily.public_key(),
        names: vec!["acme/*".parse().unwrap()],
        purposes: vec![PURPOSE_SNAPSHOT.to_owned()],
        not_before_ms: 0,
        not_after_ms: 1_000,
    };
    let certificate = Certificate::issue(&authority, terms).unwrap();
    let mut record = Record {
        r#type: RecordTag::default(),
        subject: ObjectId::from_digest(Digest::of(b"model")),
        payload_type: "application/vnd.in-toto+json".to_owned(),
        payload: b"{}".to_vec().into(),
        signatures: Vec::new(),
    };
    sign_record(&daily, Some(&certificate), &mut record).unwrap();

    // A reader who knows the root alone.
    let signature = &record.signatures[0];
    let shown = Certificate::from_bytes(signature.certificate.as_ref().unwrap()).unwrap();
    let terms = shown.verify(&authority.public_key()).unwrap();
    verify_record(&record, signature, &terms.key).unwrap();
    assert_eq!(terms.objection(&"acme/m".parse().unwrap(), 500), None);
}

/// A forgotten passphrase is replaced without touching a chunk.
#[test]
fn passphrases_change_and_chunks_stay() {
    let entropy = Counter::new(78);
    let root = RootSeed::generate(&entropy).unwrap();
    let passphrase = |text| Passphrase::new(text).with_cost(Cost::TEST);
    let slot = |text| {
        let recipients = [Recipient::Passphrase(passphrase(text))];
        age::encrypt(&recipients, root.secret().expose(), &entropy).unwrap()
    };
    let mut disks = fill(&root, slot("old"));
    let before = disks.chunks.clone();
    disks.slot = slot("new");
    let old = Identity::Passphrase(passphrase("old"));
    assert_eq!(
        age::decrypt(&[old], &disks.slot).unwrap_err().kind(),
        ErrorKind::Denied
    );
    let new = Identity::Passphrase(passphrase("new"));
    let secret = age::decrypt(&[new], &disks.slot).unwrap();
    let secret = Secret::from_bytes(secret.as_slice().try_into().unwrap());
    check(&disks, &RootSeed::from_secret(secret).read_key());
    assert_eq!(before, disks.chunks);
}
