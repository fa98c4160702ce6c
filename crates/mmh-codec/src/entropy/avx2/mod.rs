//! The engine for CPUs with AVX2 (Haswell, Zen and later).

#![allow(
    unsafe_code,
    reason = "functions for CPUs with AVX2 are called where one was found"
)]

mod decode;
mod encode;

use super::vector::vector_engine;
use super::{Classes, DecodeSet, EncodeSet, Engine, Kernels};
use crate::error::Result;

vector_engine! {
    /// The engine, on a CPU that has the instructions.
    Avx2, "avx2", avx2, {
        is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("bmi2")
            && is_x86_feature_detected!("popcnt")
    }
}
