//! The engine for CPUs with AVX2 (Haswell, Zen and later).

#![allow(
    unsafe_code,
    reason = "functions for CPUs with AVX2 are called where one was found"
)]

mod decode;
mod encode;

use super::{Classes, DecodeSet, EncodeSet, Engine, Kernels};
use crate::error::Result;

/// The engine, on a CPU that has the instructions.
#[derive(Debug, Clone, Copy)]
pub struct Avx2(());

impl Avx2 {
    /// The engine, if this CPU has the instructions.
    #[must_use]
    pub fn detect() -> Option<Self> {
        let found = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("popcnt");
        found.then_some(Self(()))
    }
}

impl Engine for Avx2 {
    fn name(&self) -> &'static str {
        "avx2"
    }

    fn kernels(&self) -> Kernels {
        Kernels::avx2(*self)
    }

    fn encode(
        &self,
        set: &EncodeSet,
        classes: Classes<'_>,
        symbols: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<()> {
        // SAFETY: an `Avx2` is only made where its instructions were found.
        unsafe { encode::encode(set, classes, symbols, out) }
    }

    fn decode(
        &self,
        set: &DecodeSet,
        classes: Classes<'_>,
        block: &[u8],
        symbols: &mut [u8],
    ) -> Result<()> {
        // SAFETY: an `Avx2` is only made where its instructions were found.
        unsafe { decode::decode(set, classes, block, symbols) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_the_exam() {
        if let Some(engine) = Avx2::detect() {
            crate::conformance::examine(&engine);
        }
    }
}
