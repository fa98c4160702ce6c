//! Which instructions quantise a row. Each gives the same bytes: they differ in how many blocks
//! are searched at once, and in whether fused products take one instruction or a call.

use mmh_core::Dtype;

use super::contraction::{Contract, Contraction, Off, On};
use super::lanes::Lanes;
use super::legacy::Shape;
use super::{Row, k, legacy, nonlinear, ternary};

/// The instructions of an inner loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// One number at a time, on any machine: the reference.
    Scalar,
    /// Eight at a time, on x86-64 with AVX2 and FMA.
    Avx2,
}

impl Engine {
    /// All of them, the reference first.
    pub const ALL: [Self; 2] = [Self::Scalar, Self::Avx2];

    /// The fastest that this machine has.
    #[must_use]
    pub fn detect() -> Self {
        if Self::Avx2.is_here() {
            Self::Avx2
        } else {
            Self::Scalar
        }
    }

    /// Whether this machine has it.
    #[must_use]
    pub fn is_here(self) -> bool {
        match self {
            Self::Scalar => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            #[cfg(not(target_arch = "x86_64"))]
            Self::Avx2 => false,
        }
    }
}

/// Quantises one row, whose lengths were compared.
pub(super) fn row(
    engine: Engine,
    to: Dtype,
    contraction: Contraction,
    row: Row<'_>,
    out: &mut [u8],
) {
    match engine {
        #[cfg(target_arch = "x86_64")]
        Engine::Avx2 => avx2::row(to, contraction, row, out),
        _ => by_contraction::<f32>(to, contraction, row, out),
    }
}

#[cfg(target_arch = "x86_64")]
#[allow(
    unsafe_code,
    reason = "calls a function whose instructions were found at run time"
)]
mod avx2 {
    use super::super::lanes::Eight;
    use super::*;

    pub(super) fn row(to: Dtype, contraction: Contraction, row: Row<'_>, out: &mut [u8]) {
        #[target_feature(enable = "avx2,fma")]
        fn inner(to: Dtype, contraction: Contraction, row: Row<'_>, out: &mut [u8]) {
            by_contraction::<Eight>(to, contraction, row, out);
        }
        // SAFETY: a quantiser has this engine only if `Engine::is_here` found the instructions.
        unsafe { inner(to, contraction, row, out) }
    }
}

#[inline(always)]
fn by_contraction<V: Lanes>(to: Dtype, contraction: Contraction, row: Row<'_>, out: &mut [u8]) {
    match contraction {
        Contraction::Off => by_type::<Off, V>(to, row, out),
        Contraction::On => by_type::<On, V>(to, row, out),
    }
}

#[inline(always)]
fn legacy<C: Contract, V: Lanes>(bits: u32, minimum: bool, row: Row<'_>, out: &mut [u8]) {
    let shape = Shape { bits, minimum };
    if row.weights.is_some() {
        legacy::weighted::<C, V>(shape, row, out);
    } else {
        legacy::plain(shape, row.x, out);
    }
}

#[inline(always)]
fn by_type<C: Contract, V: Lanes>(to: Dtype, row: Row<'_>, out: &mut [u8]) {
    match to {
        Dtype::Q4_0 => legacy::<C, V>(4, false, row, out),
        Dtype::Q4_1 => legacy::<C, V>(4, true, row, out),
        Dtype::Q5_0 => legacy::<C, V>(5, false, row, out),
        Dtype::Q5_1 => legacy::<C, V>(5, true, row, out),
        Dtype::Q8_0 => legacy::q8_0(row.x, out),
        Dtype::Q2_K => k::q2_k::<C, V>(row, out),
        Dtype::Q3_K => k::q3_k::<C, V>(row, out),
        Dtype::Q4_K => k::q4_k::<C, V>(row, out),
        Dtype::Q5_K => k::q5_k::<C, V>(row, out),
        Dtype::Q6_K => k::q6_k::<C, V>(row, out),
        Dtype::IQ4_NL => nonlinear::iq4_nl::<C, V>(row, out),
        Dtype::IQ4_XS => nonlinear::iq4_xs::<C, V>(row, out),
        Dtype::TQ1_0 => ternary::tq1_0(row.x, out),
        Dtype::TQ2_0 => ternary::tq2_0(row.x, out),
        // `Quantiser::new` takes no other.
        _ => out.fill(0),
    }
}
