//! Measures this crate: `cargo run --release -p mmh-crypto --example speed`.
//!
//! One thread, best of several rounds; GB/s are 1e9 bytes a second.

#![allow(
    clippy::print_stdout,
    reason = "an example of the command line prints its findings"
)]

use std::time::Instant;

use mmh_crypto::age::{self, Identity};
use mmh_crypto::seed::{Scope, Seed, SeedKey};
use mmh_crypto::sign::{Signer, composite, root};
use mmh_crypto::testing::Counter;
use mmh_crypto::{Result, RootSeed, Secret, share};

fn main() -> Result<()> {
    for len in [64 << 10, 1 << 20, 4 << 20] {
        sealing(len)?;
    }
    signatures(
        &composite::SigningKey::from_seed(Secret::from_bytes(&[7; 64])),
        50,
    )?;
    signatures(
        &root::SigningKey::from_seed(Secret::from_bytes(&[7; 48])),
        3,
    )?;
    slots()?;
    seeds()
}

/// Shortest time of `rounds` runs, in seconds.
fn best(rounds: usize, mut run: impl FnMut() -> Result<()>) -> Result<f64> {
    let mut best = f64::INFINITY;
    for _ in 0..rounds {
        let start = Instant::now();
        run()?;
        best = best.min(start.elapsed().as_secs_f64());
    }
    Ok(best)
}

fn sealing(len: u32) -> Result<()> {
    let key = RootSeed::from_secret(Secret::from_bytes(&[7; 32])).read_key();
    let (ids, sealer) = (key.id_key(), key.content());
    let content: Vec<u8> = (0..len)
        .map(|i| i.wrapping_mul(0x9E37_79B1).to_le_bytes()[3])
        .collect();
    let id = ids.id(&content);
    let mut bytes = Vec::with_capacity(content.len() * 2);
    let mut times = [f64::INFINITY; 3];
    for _ in 0..9 * (4 << 20) / len {
        bytes.clear();
        bytes.extend_from_slice(&content);
        times[0] = times[0].min(best(1, || {
            std::hint::black_box(ids.id(&bytes));
            Ok(())
        })?);
        times[1] = times[1].min(best(1, || sealer.seal(id.as_bytes(), &mut bytes))?);
        times[2] = times[2].min(best(1, || sealer.open(id.as_bytes(), &mut bytes))?);
    }
    let [id, seal, open] = times.map(|seconds| f64::from(len) / seconds / 1e9);
    println!(
        "{:5} KiB: id {id:.2}, seal {seal:.2}, open {open:.2} GB/s",
        len >> 10
    );
    Ok(())
}

fn signatures(key: &dyn Signer, rounds: usize) -> Result<()> {
    let public = key.public_key();
    let signature = key.sign(b"context", b"message")?;
    let sign = best(rounds, || key.sign(b"context", b"message").map(drop))?;
    let verify = best(rounds, || public.verify(b"context", b"message", &signature))?;
    println!(
        "{}: sign {:.3} ms, verify {:.3} ms, {} bytes",
        public.algorithm().name(),
        sign * 1e3,
        verify * 1e3,
        signature.len()
    );
    Ok(())
}

fn slots() -> Result<()> {
    let entropy = Counter::new(1);
    let identity = Identity::generate_hybrid(&entropy)?;
    let recipients: Vec<_> = identity.recipient().into_iter().collect();
    let file = age::encrypt(&recipients, &[7; 32], &entropy)?;
    let seal = best(20, || {
        age::encrypt(&recipients, &[7; 32], &entropy).map(drop)
    })?;
    let identities = [identity];
    let open = best(20, || age::decrypt(&identities, &file).map(drop))?;
    println!(
        "hybrid slot: seal {:.3} ms, open {:.3} ms, {} bytes",
        seal * 1e3,
        open * 1e3,
        file.len()
    );
    Ok(())
}

fn seeds() -> Result<()> {
    let seed = Seed {
        key: SeedKey::Root(RootSeed::from_secret(Secret::from_bytes(&[7; 32]))),
        scope: Scope::Repository,
        state: None,
        hints: vec!["s3://bucket/models".to_owned()],
    };
    let text = seed.to_text()?;
    // A letter that stands there four times, and another instead.
    let wrong = text.replacen('q', "z", 4);
    assert_eq!(Seed::parse(&wrong)?.corrected.len(), 4);
    let parse = best(20, || Seed::parse(&wrong).map(drop))?;
    let combine = {
        let shares = share::split(&[7; 32], (3, 5), "", &Counter::new(2))?;
        let some: Vec<&str> = shares.iter().take(3).map(|words| words.as_str()).collect();
        best(5, || share::combine(&some, "").map(drop))?
    };
    println!(
        "seed of {} characters with four errors: {:.3} ms; three shares: {:.3} ms",
        text.len(),
        parse * 1e3,
        combine * 1e3
    );
    Ok(())
}
