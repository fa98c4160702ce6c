//! Any bytes as a key slot, sealed bytes, a seed, shares, keys, signatures or a bundle.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| mmh_crypto::hostile::fuzz_any(bytes));
