//! GGUF quantisers: blocks of few bits, with exactly the bytes that llama.cpp's quantisers write.
//!
//! Written from what the algorithms do; the source that they were held against is
//! `ggml/src/ggml-quants.c` of llama.cpp (MIT), and `cargo xtask drill quantisers` compares them
//! with its library bit by bit. Only numbers whose result depends on nothing but IEEE 754 are
//! taken: tensors with NaN or infinity, or whose scales become such, are refused, as llama.cpp
//! refuses them when it checks what it wrote.

mod contraction;
mod engine;
mod k;
mod lanes;
mod legacy;
mod nonlinear;
mod search;
mod ternary;

pub use contraction::Contraction;
pub use engine::Engine;

use mmh_core::Dtype;

use crate::error::{Error, Result};
use crate::float;

/// Longest row that is quantised, in numbers: 16 MiB of F32.
pub const ROW_LEN_MAX: usize = 4 << 20;

/// A quantiser for rows of one length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quantiser {
    to: Dtype,
    row_len: usize,
    contraction: Contraction,
    engine: Engine,
}

impl Quantiser {
    /// The types that there are quantisers for.
    pub const TYPES: [Dtype; 14] = [
        Dtype::Q4_0,
        Dtype::Q4_1,
        Dtype::Q5_0,
        Dtype::Q5_1,
        Dtype::Q8_0,
        Dtype::Q2_K,
        Dtype::Q3_K,
        Dtype::Q4_K,
        Dtype::Q5_K,
        Dtype::Q6_K,
        Dtype::IQ4_NL,
        Dtype::IQ4_XS,
        Dtype::TQ1_0,
        Dtype::TQ2_0,
    ];

    /// A quantiser to `to` for rows of `row_len` numbers, with the fastest engine of this machine.
    ///
    /// # Errors
    /// [`Error::Parameter`] for types that are none of [`TYPES`](Self::TYPES), and for rows that
    /// are empty, longer than [`ROW_LEN_MAX`], or no whole blocks.
    pub fn new(to: Dtype, row_len: usize, contraction: Contraction) -> Result<Self> {
        if !Self::TYPES.contains(&to) {
            return Err(Error::parameter(
                "to",
                format!("there is no quantiser to {to}"),
            ));
        }
        let block = to.block().0 as usize;
        if row_len == 0 || row_len > ROW_LEN_MAX || !row_len.is_multiple_of(block) {
            let reason =
                format!("{row_len} is not a row of {to}: 1 to {ROW_LEN_MAX}, times {block}");
            return Err(Error::parameter("row", reason));
        }
        Ok(Self {
            to,
            row_len,
            contraction,
            engine: Engine::detect(),
        })
    }

    /// The same with another engine, for comparison; one that this machine lacks is not taken.
    #[must_use]
    pub fn with_engine(self, engine: Engine) -> Self {
        let engine = if engine.is_here() {
            engine
        } else {
            self.engine
        };
        Self { engine, ..self }
    }

    /// Numbers in a row.
    #[must_use]
    pub fn row_len(&self) -> usize {
        self.row_len
    }

    /// Bytes that a row becomes.
    #[must_use]
    pub fn row_bytes(&self) -> usize {
        let (numbers, bytes) = self.to.block();
        self.row_len / numbers as usize * bytes as usize
    }

    /// Quantises whole rows. `weights` has the importance of each column (one row of an importance
    /// matrix); rows do not depend on each other.
    ///
    /// # Errors
    /// [`Error::Length`] if the slices do not fit each other, [`Error::NotFinite`] for NaN and
    /// infinity in numbers or weights, and for numbers whose scale has no finite F16; `out` has
    /// then no meaning.
    pub fn rows(&self, x: &[f32], weights: Option<&[f32]>, out: &mut [u8]) -> Result<()> {
        let rows = x.len() / self.row_len;
        if !x.len().is_multiple_of(self.row_len) {
            return Err(Error::length("numbers", x.len(), rows * self.row_len));
        }
        if out.len() != rows * self.row_bytes() {
            return Err(Error::length("output", out.len(), rows * self.row_bytes()));
        }
        if let Some(weights) = weights
            && weights.len() != self.row_len
        {
            return Err(Error::length("weights", weights.len(), self.row_len));
        }
        if !float::all_finite(x) || !weights.is_none_or(float::all_finite) {
            return Err(Error::NotFinite { what: "number" });
        }
        let rows = x.chunks_exact(self.row_len);
        for (x, out) in rows.zip(out.chunks_exact_mut(self.row_bytes())) {
            engine::row(
                self.engine,
                self.to,
                self.contraction,
                Row { x, weights },
                out,
            );
        }
        if has_finite_scales(self.to, out) {
            Ok(())
        } else {
            Err(Error::NotFinite { what: "scale" })
        }
    }
}

/// Some blocks of a row, with the weights of their columns.
#[derive(Debug, Clone, Copy)]
struct Row<'a> {
    x: &'a [f32],
    weights: Option<&'a [f32]>,
}

impl Row<'_> {
    #[inline(always)]
    fn slice(self, start: usize, len: usize) -> Self {
        Self {
            x: &self.x[start..start + len],
            weights: self.weights.map(|weights| &weights[start..start + len]),
        }
    }
}

/// Groups of `n` blocks with their output, and `true`; what is left at the end comes block by
/// block, with `false`.
#[inline(always)]
fn groups<'a>(
    row: Row<'a>,
    block: usize,
    block_bytes: usize,
    n: usize,
    out: &'a mut [u8],
) -> impl Iterator<Item = (Row<'a>, &'a mut [u8], bool)> {
    let whole = row.x.len() / (n * block) * n;
    let (groups, rest) = out.split_at_mut(whole * block_bytes);
    let groups = groups.chunks_exact_mut(n * block_bytes).enumerate();
    let groups = groups.map(move |(idx, out)| (row.slice(idx * n * block, n * block), out, true));
    let rest = rest.chunks_exact_mut(block_bytes).enumerate();
    let rest = rest.map(move |(idx, out)| (row.slice((whole + idx) * block, block), out, false));
    groups.chain(rest)
}

/// The codes of up to 32 numbers in each lane, as bytes of one lane after the other.
#[inline(always)]
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "codes are integers of a few bits"
)]
fn codes_of<V: lanes::Lanes>(found: &[V; 32]) -> [[u8; 32]; 8] {
    let mut codes = [[0; 32]; 8];
    let mut lanes = [0.0; 8];
    for (i, found) in found.iter().enumerate() {
        found.store(&mut lanes);
        for (codes, lane) in codes.iter_mut().zip(lanes) {
            codes[i] = lane as u8;
        }
    }
    codes
}

/// Writes a number as F16 to the first two bytes.
#[inline(always)]
fn put_half(out: &mut [u8], x: f32) {
    out[..2].copy_from_slice(&float::half_from(x).to_le_bytes());
}

/// The F16 in the first two bytes.
#[inline(always)]
fn rounded_half(from: &[u8]) -> f32 {
    float::from_half(u16::from_le_bytes([from[0], from[1]]))
}

/// The low byte of a number cut to an integer, as x86-64 cuts it: of what does not fit, 0.
#[inline(always)]
#[allow(
    clippy::cast_possible_truncation,
    reason = "the low byte is what is meant"
)]
fn low_byte(x: f32) -> i8 {
    let int = x as i32;
    if x >= 2_147_483_648.0 { 0 } else { int as i8 }
}

/// Rounded to an integer, away from 0 at a tie: C's `roundf`, without a call.
#[inline(always)]
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "numbers beyond 2^23 are integers and are left as they are"
)]
fn round_away(x: f32) -> f32 {
    let cut = x as i32 as f32;
    let rest = x - cut;
    let up = f32::from(u8::from(rest >= 0.5));
    let down = f32::from(u8::from(rest <= -0.5));
    if x.abs() < 8_388_608.0 {
        cut + up - down
    } else {
        x
    }
}

/// Whether the scales of all blocks are numbers: where they lie in a block, by type.
fn has_finite_scales(of: Dtype, blocks: &[u8]) -> bool {
    let at: &[usize] = match of {
        Dtype::Q4_1 | Dtype::Q5_1 | Dtype::Q4_K | Dtype::Q5_K => &[0, 2],
        Dtype::Q2_K => &[80, 82],
        Dtype::Q3_K => &[108],
        Dtype::Q6_K => &[208],
        Dtype::TQ1_0 => &[52],
        Dtype::TQ2_0 => &[64],
        _ => &[0],
    };
    let finite = |block: &[u8], at: usize| block[at + 1] & 0x7c != 0x7c;
    let mut blocks = blocks.chunks_exact(of.block().1 as usize);
    blocks.all(|block| at.iter().all(|&at| finite(block, at)))
}

#[cfg(test)]
mod tests;
