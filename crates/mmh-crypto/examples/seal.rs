//! Measures sealing and opening: `cargo run --release -p mmh-crypto --example seal`.
//!
//! Prints GB/s (1e9 bytes) of one thread, best of nine rounds.

#![allow(
    clippy::print_stdout,
    reason = "an example of the command line prints its findings"
)]

use std::time::Instant;

use mmh_crypto::{RootSeed, Secret};

fn main() -> mmh_crypto::Result<()> {
    let key = RootSeed::from_secret(Secret::from_bytes(&[7; 32])).read_key();
    let (ids, sealer) = (key.id_key(), key.content());
    for len in [64 << 10, 1 << 20, 4 << 20] {
        let content: Vec<u8> = (0..len)
            .map(|i: u32| i.wrapping_mul(0x9E37_79B1).to_le_bytes()[3])
            .collect();
        let mut bytes = Vec::with_capacity(content.len() * 2);
        let mut best = [f64::INFINITY; 3];
        for _ in 0..9 * (4 << 20) / len {
            bytes.clear();
            bytes.extend_from_slice(&content);
            let start = Instant::now();
            let id = ids.id(&bytes);
            best[0] = best[0].min(start.elapsed().as_secs_f64());
            let start = Instant::now();
            sealer.seal(id.as_bytes(), &mut bytes)?;
            best[1] = best[1].min(start.elapsed().as_secs_f64());
            let start = Instant::now();
            sealer.open(id.as_bytes(), &mut bytes)?;
            best[2] = best[2].min(start.elapsed().as_secs_f64());
        }
        let rate = best.map(|seconds| content.len() as f64 / seconds / 1e9);
        println!(
            "{:5} KiB: id {:.2}, seal {:.2}, open {:.2} GB/s",
            len >> 10,
            rate[0],
            rate[1],
            rate[2]
        );
    }
    Ok(())
}
