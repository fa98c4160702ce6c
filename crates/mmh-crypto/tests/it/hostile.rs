//! Good samples of everything that is parsed, mutilated in many ways, given to the fuzz bodies.

use mmh_crypto::age::{self, Cost, Identity, Passphrase, Recipient, armor};
use mmh_crypto::seal::{Sealer, fuzz_open};
use mmh_crypto::seed::{Scope, Seed, SeedKey};
use mmh_crypto::sign::{Signer, composite, fuzz_sign};
use mmh_crypto::testing::Counter;
use mmh_crypto::{ReadKey, RootSeed, Secret, seed, share};

/// Numbers that are the same in each run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit.max(1) as u64).expect("less than a usize")
    }

    /// One mutation: a byte changed, bytes taken out, doubled, moved or made equal.
    fn mutate(&mut self, bytes: &mut Vec<u8>, other: &[u8]) {
        if bytes.is_empty() {
            bytes.push(0);
            return;
        }
        let (a, b) = (self.below(bytes.len()), self.below(bytes.len()));
        let (from, to) = (a.min(b), a.max(b));
        match self.below(7) {
            0 => bytes[a] ^= 1 << self.below(8),
            1 => bytes[a] = b" \n\r-1q?\0\xff"[self.below(9)],
            2 => drop(bytes.drain(from..to)),
            3 => bytes.truncate(a),
            4 => {
                let doubled = bytes[from..to].to_vec();
                bytes.splice(a..a, doubled);
            }
            5 => bytes.swap(a, b),
            _ => {
                let at = self.below(other.len());
                let piece = &other[at..other.len().min(at + 40)];
                bytes.splice(from..to, piece.iter().copied());
            }
        }
        bytes.truncate(1 << 16);
    }
}

/// Runs `body` over every cut of `sample`, and over `rounds` chains of mutations.
fn attack(sample: &[u8], other: &[u8], rounds: usize, body: impl Fn(&[u8])) {
    for cut in (0..sample.len()).step_by(sample.len() / 200 + 1) {
        body(&sample[..cut]);
    }
    let mut numbers = Numbers(0x5eed_5eed);
    for _ in 0..rounds {
        let mut bytes = sample.to_vec();
        for _ in 0..=numbers.below(4) {
            numbers.mutate(&mut bytes, other);
        }
        body(&bytes);
    }
}

fn as_text(body: impl Fn(&str)) -> impl Fn(&[u8]) {
    move |bytes| body(&String::from_utf8_lossy(bytes))
}

#[test]
fn mutilated_key_slots() {
    let entropy = Counter::new(1);
    let argon2id = Cost::Argon2id {
        memory_kib: 8,
        passes: 1,
        lanes: 1,
    };
    let recipients = [
        Identity::X25519(Secret::from_bytes(&[4; 32])).recipient(),
        Some(Recipient::Passphrase(
            Passphrase::new("fuzz").with_cost(argon2id),
        )),
    ];
    let files: Vec<Vec<u8>> = recipients
        .into_iter()
        .flatten()
        .map(|recipient| age::encrypt(&[recipient], b"seed", &entropy).expect("a good recipient"))
        .collect();
    for (file, other) in [(&files[0], &files[1]), (&files[1], &files[0])] {
        attack(file, other, 400, age::fuzz_decrypt);
        let text = armor::encode(file);
        attack(text.as_bytes(), other, 400, age::fuzz_decrypt);
    }
}

#[test]
fn mutilated_hybrid_key_slots() {
    let secret = mmh_crypto::xwing::SecretKey::from_secret(Secret::from_bytes(&[3; 32]));
    let recipient = Identity::Hybrid(secret).recipient().expect("a key");
    let file = age::encrypt(&[recipient], b"seed", &Counter::new(2)).expect("a good recipient");
    attack(&file, b"-> X25519 ", 300, age::fuzz_decrypt);
}

#[test]
fn mutilated_sealed_bytes() {
    let read_key = ReadKey::from_secret(Secret::from_bytes(&[9; 32]));
    let sealer: Sealer = read_key.content();
    let mut sealed = b"some content".to_vec();
    sealer.seal(b"name", &mut sealed).expect("short");
    attack(&sealed, &sealed, 3000, |bytes| {
        fuzz_open(bytes);
        let mut opened = bytes.to_vec();
        let is_good = sealer.open(b"name", &mut opened).is_ok();
        assert_eq!(is_good, bytes == sealed, "only what was sealed opens");
    });
}

#[test]
fn mutilated_seeds() {
    let texts = [
        (Scope::Repository, "s3://bucket"),
        (
            Scope::Name("models/acme/minilm".parse().expect("a name")),
            "/mnt",
        ),
    ]
    .map(|(scope, hint)| {
        let seed = Seed {
            key: SeedKey::Root(RootSeed::from_secret(Secret::from_bytes(&[7; 32]))),
            scope,
            state: None,
            hints: vec![hint.to_owned()],
        };
        seed.to_text().expect("a good seed").as_bytes().to_vec()
    });
    attack(&texts[0], &texts[1], 3000, as_text(seed::fuzz_parse));
    attack(&texts[1], &texts[0], 3000, as_text(seed::fuzz_parse));
    // And behind the checksum.
    let content = [&[1, 4][..], &[7; 32], b"\x12models/acme/minilm\x04/mnt"].concat();
    attack(&content, b"\x00\xff\x80", 3000, seed::fuzz_content);
}

#[test]
fn mutilated_shares() {
    let shares = share::split(&[7; 16], (2, 3), "TREZOR", &Counter::new(3)).expect("2 of 3");
    let both = format!("{}\n{}", *shares[0], *shares[1]);
    attack(
        both.as_bytes(),
        shares[2].as_bytes(),
        1000,
        as_text(share::fuzz_combine),
    );
}

#[test]
fn mutilated_public_keys_and_signatures() {
    let key = composite::SigningKey::from_seed(Secret::from_bytes(&[8; 64]));
    let public = key.public_key().to_bytes();
    attack(&public, b"\x02", 60, fuzz_sign);
    let signature = key.sign(b"c", b"m").expect("a short context");
    attack(&signature, &public, 60, |bytes| {
        let verdict = key.public_key().verify(b"c", b"m", bytes);
        assert_eq!(verdict.is_ok(), bytes == signature);
    });
}
