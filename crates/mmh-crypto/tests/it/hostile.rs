//! Good samples of everything that is parsed, mutilated in many ways, given to the fuzz bodies.

use mmh_crypto::hostile::{fuzz_any, samples};
use mmh_crypto::sign::{Signer, composite};
use mmh_crypto::{ReadKey, Secret};

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

/// Runs `body` over every cut of `sample` (or 200 of them), and over `rounds` chains of mutations.
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

/// Every sample with pieces of the next one.
#[test]
fn mutilated_samples_break_no_promise() {
    let samples = samples().unwrap();
    let names: Vec<_> = samples.iter().map(|(name, _)| *name).collect();
    assert!(names.is_sorted() && names.len() == 13, "{names:?}");
    for ((name, sample), (_, other)) in samples.iter().zip(samples.iter().cycle().skip(1)) {
        let is_dear = [
            "age-hybrid",
            "certificate",
            "public-key",
            "shares",
            "signature",
        ]
        .contains(name);
        attack(sample, other, if is_dear { 150 } else { 1500 }, fuzz_any);
    }
    fuzz_any(&[]);
}

#[test]
fn mutilated_sealed_bytes_do_not_open() {
    let sealer = ReadKey::from_secret(Secret::from_bytes(&[9; 32])).content();
    let mut sealed = b"some content".to_vec();
    sealer.seal(b"name", &mut sealed).unwrap();
    attack(&sealed, &sealed, 3000, |bytes| {
        let mut opened = bytes.to_vec();
        let is_good = sealer.open(b"name", &mut opened).is_ok();
        assert_eq!(is_good, bytes == sealed, "only what was sealed opens");
    });
}

#[test]
fn mutilated_signatures_do_not_verify() {
    let key = composite::SigningKey::from_seed(Secret::from_bytes(&[8; 64]));
    let signature = key.sign(b"c", b"m").unwrap();
    let public = key.public_key();
    attack(&signature, &public.to_bytes(), 100, |bytes| {
        let verdict = public.verify(b"c", b"m", bytes);
        assert_eq!(verdict.is_ok(), bytes == signature);
    });
}

/// Found by mutation: a name that may be written shorter gave a seed two spellings.
#[test]
fn a_name_in_a_seed_is_written_in_full() {
    use mmh_crypto::seed::{Scope, Seed, fuzz_content};
    let short = [&[1, 4][..], &[7; 32], b"\x0bacme/minilm"].concat();
    fuzz_content(&short);
    let name: mmh_core::name::RepoName = "acme/minilm".parse().unwrap();
    assert_eq!(
        name.as_str(),
        "models/acme/minilm",
        "the family may be left out"
    );
    let seed = Seed {
        key: mmh_crypto::seed::SeedKey::Read(ReadKey::from_secret(Secret::from_bytes(&[7; 32]))),
        scope: Scope::Name(name),
        state: None,
        hints: Vec::new(),
    };
    assert_eq!(Seed::parse(&seed.to_text().unwrap()).unwrap().seed, seed);
}
