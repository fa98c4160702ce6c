//! Any content with any hint, with and without a base: it comes back.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| mmh_codec::hostile::fuzz_round_trip(bytes));
