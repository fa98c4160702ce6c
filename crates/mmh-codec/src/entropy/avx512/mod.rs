//! The engine for CPUs with AVX-512 and its byte instructions (Ice Lake, Zen 4 and later).

#![allow(
    unsafe_code,
    reason = "functions for CPUs with AVX-512 are called where one was found"
)]

mod decode;
mod encode;

pub(crate) use decode::{Block, decode_groups};

use super::{Classes, DecodeSet, EncodeSet, Engine, Kernels};
use crate::error::Result;

/// The engine, on a CPU that has the instructions.
#[derive(Debug, Clone, Copy)]
pub struct Avx512(());

impl Avx512 {
    /// The engine, if this CPU has the instructions.
    #[must_use]
    pub fn detect() -> Option<Self> {
        let found = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vbmi")
            && is_x86_feature_detected!("avx512vbmi2")
            && is_x86_feature_detected!("avx512vnni")
            && is_x86_feature_detected!("avx512vpopcntdq")
            && is_x86_feature_detected!("gfni")
            && is_x86_feature_detected!("bmi2")
            && is_x86_feature_detected!("popcnt");
        found.then_some(Self(()))
    }
}

impl Engine for Avx512 {
    fn name(&self) -> &'static str {
        "avx512"
    }

    fn kernels(&self) -> Kernels {
        Kernels::avx512(*self)
    }

    fn encode(
        &self,
        set: &EncodeSet,
        classes: Classes<'_>,
        symbols: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<()> {
        // SAFETY: an `Avx512` is only made where its instructions were found.
        unsafe { encode::encode(set, classes, symbols, out) }
    }

    fn decode(
        &self,
        set: &DecodeSet,
        classes: Classes<'_>,
        block: &[u8],
        symbols: &mut [u8],
    ) -> Result<()> {
        // SAFETY: an `Avx512` is only made where its instructions were found.
        unsafe { decode::decode(set, classes, block, symbols) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_the_exam() {
        if let Some(engine) = Avx512::detect() {
            crate::conformance::examine(&engine);
        }
    }
}
