//! `gguf.quantise/TYPE`: rows of numbers to blocks of a GGUF type.
//!
//! Parameters: `from` (F32, F16 or BF16), `row` (numbers in a row), `contraction`. A second
//! operand, if there is one, is the row of an importance matrix, in F32.

use mmh_core::Dtype;

use super::{Grain, Job, Op, Params};
use crate::cast::Cast;
use crate::error::{Error, Result};
use crate::float::NanRule;
use crate::gguf::Quantiser;

/// The quantiser to one type.
#[derive(Debug)]
pub(super) struct QuantiseOp {
    to: Dtype,
    name: String,
}

impl QuantiseOp {
    /// One for each type.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        Quantiser::TYPES.into_iter().map(|to| Self {
            to,
            name: format!("gguf.quantise/{}", to.as_str().to_lowercase()),
        })
    }
}

#[derive(Debug)]
struct QuantiseJob {
    quantiser: Quantiser,
    /// To F32, if the input is something else.
    widen: Option<Cast>,
    rows: u64,
    weighted: bool,
}

impl Op for QuantiseOp {
    fn name(&self) -> &str {
        &self.name
    }

    fn version(&self) -> u32 {
        1
    }

    fn prepare(&self, params: &Params, operands: &[u64]) -> Result<Box<dyn Job>> {
        params.only(&["from", "row", "contraction"])?;
        let contraction = params.text("contraction")?.parse()?;
        let quantiser = Quantiser::new(self.to, params.count("row")?, contraction)?;
        let from = params.dtype("from")?;
        let widen = match from {
            Dtype::F32 => None,
            Dtype::F16 | Dtype::BF16 => Some(Cast::new(from, Dtype::F32, NanRule::Raw, false)?),
            _ => return Err(Error::parameter("from", "must be F32, F16 or BF16")),
        };
        let (len, weights) = match *operands {
            [len] => (len, None),
            [len, weights] => (len, Some(weights)),
            _ => return Err(Error::length("number of operands", operands.len(), 1)),
        };
        let wanted = quantiser.row_len() as u64 * 4;
        if let Some(actual) = weights.filter(|&len| len != wanted) {
            return Err(Error::Length {
                what: "importance row",
                actual,
                expected: wanted,
            });
        }
        let row = quantiser.row_len() as u64 * u64::from(from.block().1);
        if !len.is_multiple_of(row) {
            return Err(Error::Length {
                what: "rows",
                actual: len,
                expected: len / row * row,
            });
        }
        Ok(Box::new(QuantiseJob {
            quantiser,
            widen,
            rows: len / row,
            weighted: weights.is_some(),
        }))
    }
}

impl QuantiseJob {
    fn element_bytes(&self) -> usize {
        self.widen.map_or(4, |cast| cast.element_bytes().0)
    }
}

impl Job for QuantiseJob {
    fn output_len(&self) -> u64 {
        self.rows * self.quantiser.row_bytes() as u64
    }

    fn grain(&self) -> Grain {
        let row = self.quantiser.row_len() * self.element_bytes();
        let mut operands = vec![Some(row as u64)];
        if self.weighted {
            operands.push(None);
        }
        Grain {
            output: self.quantiser.row_bytes() as u64,
            operands,
        }
    }

    fn run(&self, operands: &[&[u8]], out: &mut [u8]) -> Result<()> {
        let (input, weights) = match *operands {
            [input] if !self.weighted => (input, None),
            [input, weights] if self.weighted => (input, Some(numbers(weights, None)?)),
            _ => return Err(Error::length("number of operands", operands.len(), 1)),
        };
        let row = self.quantiser.row_len() * self.element_bytes();
        // A few rows at a time, so that they stay in the nearer caches between the two passes.
        let at_once = (64 << 10) / row + 1;
        let inputs = input.chunks(row * at_once);
        let lens = (input.len() / row, out.len() / self.quantiser.row_bytes());
        if lens.0 != lens.1 || !out.len().is_multiple_of(self.quantiser.row_bytes()) {
            return Err(Error::length("rows", lens.1, lens.0));
        }
        for (input, out) in inputs.zip(out.chunks_mut(self.quantiser.row_bytes() * at_once)) {
            let x = numbers(input, self.widen)?;
            self.quantiser.rows(&x, weights.as_deref(), out)?;
        }
        Ok(())
    }
}

/// Bytes as numbers.
fn numbers(bytes: &[u8], widen: Option<Cast>) -> Result<Vec<f32>> {
    let mut wide = Vec::new();
    let bytes = match widen {
        None => bytes,
        Some(cast) => {
            wide.resize(bytes.len() / cast.element_bytes().0 * 4, 0);
            cast.run(bytes, &mut wide)?;
            &wide
        }
    };
    let (numbers, rest) = bytes.as_chunks();
    if !rest.is_empty() {
        return Err(Error::length(
            "numbers",
            bytes.len(),
            bytes.len() - rest.len(),
        ));
    }
    Ok(numbers
        .iter()
        .map(|&bytes| f32::from_le_bytes(bytes))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op(to: Dtype) -> QuantiseOp {
        QuantiseOp::all().find(|op| op.to == to).unwrap()
    }

    fn params(from: &str, row: u64) -> Params {
        Params::new()
            .with("from", from)
            .with("row", row)
            .with("contraction", "off")
    }

    #[test]
    fn lengths_follow_from_rows_and_types() {
        let job = op(Dtype::Q4_K)
            .prepare(&params("BF16", 512), &[3 * 1024, 2048])
            .unwrap();
        assert_eq!(job.output_len(), 3 * 288);
        let grain = job.grain();
        assert_eq!(
            (grain.output, grain.operands),
            (288, vec![Some(1024), None])
        );
        let job = op(Dtype::Q8_0).prepare(&params("F32", 32), &[256]).unwrap();
        assert_eq!(
            (job.output_len(), job.grain().operands),
            (68, vec![Some(128)])
        );
        let mut out = [9; 68];
        job.run(&[&[0; 256]], &mut out).unwrap();
        assert_eq!(out, [0; 68]);
    }

    /// Numbers that are the same in all three types become the same blocks.
    #[test]
    fn inputs_of_other_types_are_widened() {
        let halves: Vec<u8> = (0..256u16)
            .flat_map(|i| (0x3c00 + (i << 3)).to_le_bytes())
            .collect();
        let wide = |from: Dtype, bytes: &[u8], to: Dtype| {
            let cast = Cast::new(from, to, NanRule::Raw, false).unwrap();
            let (a, b) = cast.element_bytes();
            let mut out = vec![0; bytes.len() / a * b];
            cast.run(bytes, &mut out).unwrap();
            out
        };
        let f32s = wide(Dtype::F16, &halves, Dtype::F32);
        let brains = wide(Dtype::F32, &f32s, Dtype::BF16);
        let run = |from: &str, bytes: &[u8]| {
            let job = op(Dtype::Q5_1)
                .prepare(&params(from, 64), &[bytes.len() as u64])
                .unwrap();
            let mut out = vec![0; usize::try_from(job.output_len()).unwrap()];
            job.run(&[bytes], &mut out).unwrap();
            out
        };
        assert_eq!(run("F16", &halves), run("F32", &f32s));
        let widened = wide(Dtype::BF16, &brains, Dtype::F32);
        assert_eq!(run("BF16", &brains), run("F32", &widened));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let op = op(Dtype::Q4_K);
        for (params, operands) in [
            (params("F32", 100), &[400][..]),
            (params("F32", 0), &[0]),
            (params("F32", u64::MAX), &[0]),
            (params("I8", 256), &[256]),
            (params("F32", 256), &[1000]),
            (params("F32", 256), &[1024, 1000]),
            (params("F32", 256), &[]),
            (params("F32", 256).with("contraction", "maybe"), &[1024]),
            (params("F32", 256).with("to", "Q4_K"), &[1024]),
        ] {
            assert!(
                op.prepare(&params, operands).is_err(),
                "{params:?} {operands:?}"
            );
        }
        let job = op.prepare(&params("F32", 256), &[1024]).unwrap();
        assert!(job.run(&[&[0; 1024]], &mut [0; 100]).is_err());
        assert!(job.run(&[&[0; 1024], &[0; 1024]], &mut [0; 144]).is_err());
        let nan = f32::NAN.to_le_bytes().repeat(256);
        assert!(matches!(
            job.run(&[&nan], &mut [0; 144]),
            Err(Error::NotFinite { .. })
        ));
    }
}
