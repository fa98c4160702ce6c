//! Tests of the public functions, one module for each part of the crate.

mod age;
mod bundle;
mod certificate;
mod hostile;
mod model;
mod seal;
mod seed;
mod share;
mod sign;
mod story;
mod typing;
mod vectors;
mod xwing;

/// The bytes that `text` spells in hexadecimal digits.
fn hex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2), "whole bytes");
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hexadecimal digits"))
        .collect()
}
