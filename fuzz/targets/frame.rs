//! Any bytes as a frame: every method, whole and in parts, with every engine.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| mmh_codec::hostile::fuzz_frame(bytes));
