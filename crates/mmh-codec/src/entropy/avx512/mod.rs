//! The engine for CPUs with AVX-512 and its byte instructions (Ice Lake, Zen 4 and later).

#![allow(
    unsafe_code,
    reason = "functions for CPUs with AVX-512 are called where one was found"
)]

mod decode;
mod encode;

pub(crate) use decode::{Block, decode_groups};

use super::vector::vector_engine;
use super::{Classes, DecodeSet, EachBlock, EncodeSet, Engine, Kernels};
use crate::error::Result;

vector_engine! {
    /// The engine, on a CPU that has the instructions.
    Avx512, "avx512", avx512, {
        is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vbmi")
            && is_x86_feature_detected!("avx512vbmi2")
            && is_x86_feature_detected!("avx512vnni")
            && is_x86_feature_detected!("avx512vpopcntdq")
            && is_x86_feature_detected!("gfni")
            && is_x86_feature_detected!("bmi2")
            && is_x86_feature_detected!("popcnt")
    }, decode_two
}
