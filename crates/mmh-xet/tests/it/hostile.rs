//! The body of the fuzzer on cut and flipped samples, and on noise.

use mmh_xet::hostile::{fuzz_any, samples};
use proptest::prelude::*;

use crate::golden::SHARD;

#[test]
fn damaged_samples_do_no_harm() {
    for (_, sample) in samples() {
        fuzz_any(&sample);
        for len in 0..sample.len() {
            fuzz_any(&sample[..len]);
        }
        let mut flipped = sample;
        for at in 1..flipped.len() {
            for flip in [1, 0x80, 0xff] {
                flipped[at] ^= flip;
                fuzz_any(&flipped);
                flipped[at] ^= flip;
            }
        }
    }
}

proptest! {
    #[test]
    fn noise_does_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        fuzz_any(&bytes);
    }

    /// Numbers in a good shard replaced by any others.
    #[test]
    fn patched_shards_do_no_harm(at in 0usize..235, value: u32) {
        let mut bytes = [&[1], SHARD].concat();
        bytes[1 + 4 * at..5 + 4 * at].copy_from_slice(&value.to_le_bytes());
        fuzz_any(&bytes);
    }
}
