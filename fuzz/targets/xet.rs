//! Any bytes as a xorb, a shard, the text of a hash, or content to be cut and packed.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| mmh_xet::hostile::fuzz_any(bytes));
