//! Operations on elements that do not depend on each other: casts, and exclusive or.

use super::{Grain, Job, Op, Params, exactly};
use crate::cast::Cast;
use crate::error::{Error, Result};
use crate::float::NanRule;

/// `cast`: parameters `from`, `to` (element types), `nan` (a [`NanRule`]) and `saturate`.
#[derive(Debug)]
pub(super) struct CastOp;

#[derive(Debug)]
struct CastJob {
    cast: Cast,
    elements: u64,
}

impl Op for CastOp {
    fn name(&self) -> &'static str {
        "cast"
    }

    fn version(&self) -> u32 {
        1
    }

    fn prepare(&self, params: &Params, operands: &[u64]) -> Result<Box<dyn Job>> {
        params.only(&["from", "to", "nan", "saturate"])?;
        let nan = NanRule::parse(params.text("nan")?)?;
        let (from, to) = (params.dtype("from")?, params.dtype("to")?);
        let cast = Cast::new(from, to, nan, params.bool("saturate")?)?;
        let [len] = exactly(operands)?;
        let size = cast.element_bytes().0 as u64;
        if !len.is_multiple_of(size) {
            return Err(Error::Length {
                what: "operand",
                actual: len,
                expected: len / size * size,
            });
        }
        let elements = len / size;
        Ok(Box::new(CastJob { cast, elements }))
    }
}

impl Job for CastJob {
    fn output_len(&self) -> u64 {
        self.elements * self.cast.element_bytes().1 as u64
    }

    fn grain(&self) -> Grain {
        let (before, after) = self.cast.element_bytes();
        Grain {
            output: after as u64,
            operands: vec![Some(before as u64)],
        }
    }

    fn run(&self, operands: &[&[u8]], out: &mut [u8]) -> Result<()> {
        let [input] = exactly(operands)?;
        self.cast.run(input, out)
    }
}

/// `xor`: two operands of equal length, no parameters. What remains after a prediction, and the
/// way back.
#[derive(Debug)]
pub(super) struct XorOp;

#[derive(Debug)]
struct XorJob {
    len: u64,
}

impl Op for XorOp {
    fn name(&self) -> &'static str {
        "xor"
    }

    fn version(&self) -> u32 {
        1
    }

    fn prepare(&self, params: &Params, operands: &[u64]) -> Result<Box<dyn Job>> {
        params.only(&[])?;
        let [len, other] = exactly(operands)?;
        if len != other {
            return Err(Error::Length {
                what: "second operand",
                actual: other,
                expected: len,
            });
        }
        Ok(Box::new(XorJob { len }))
    }
}

impl Job for XorJob {
    fn output_len(&self) -> u64 {
        self.len
    }

    fn grain(&self) -> Grain {
        Grain {
            output: 1,
            operands: vec![Some(1), Some(1)],
        }
    }

    fn run(&self, operands: &[&[u8]], out: &mut [u8]) -> Result<()> {
        let [a, b] = exactly(operands)?;
        if a.len() != out.len() || b.len() != out.len() {
            return Err(Error::length("operand", a.len().min(b.len()), out.len()));
        }
        for ((out, a), b) in out.iter_mut().zip(a).zip(b) {
            *out = a ^ b;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cast() -> Params {
        let params = Params::new().with("from", "F32").with("to", "BF16");
        params.with("nan", "keep").with("saturate", false)
    }

    #[test]
    fn a_cast_knows_its_lengths_and_runs_in_grains() {
        let job = CastOp.prepare(&cast(), &[12]).unwrap();
        assert_eq!((job.output_len(), job.grain().output), (6, 2));
        assert_eq!(job.grain().operands, [Some(4)]);
        let mut out = [0; 4];
        let input = [1f32.to_le_bytes(), (-2f32).to_le_bytes()].concat();
        job.run(&[&input], &mut out).unwrap();
        assert_eq!(out, [0x80, 0x3f, 0x00, 0xc0]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert!(CastOp.prepare(&cast(), &[13]).is_err());
        assert!(CastOp.prepare(&cast(), &[4, 4]).is_err());
        assert!(CastOp.prepare(&cast().with("nan", "what"), &[4]).is_err());
        assert!(CastOp.prepare(&cast().with("more", 1), &[4]).is_err());
        assert!(XorOp.prepare(&Params::new(), &[4, 5]).is_err());
        assert!(
            XorOp
                .prepare(&Params::new().with("by", 1), &[4, 4])
                .is_err()
        );
    }

    #[test]
    fn exclusive_or_undoes_itself() {
        let job = XorOp.prepare(&Params::new(), &[3, 3]).unwrap();
        let (a, b) = ([1, 2, 255], [7, 2, 0]);
        let (mut once, mut twice) = ([0; 3], [0; 3]);
        job.run(&[&a, &b], &mut once).unwrap();
        assert_eq!(once, [6, 0, 255]);
        job.run(&[&once, &b], &mut twice).unwrap();
        assert_eq!(twice, a);
        assert!(job.run(&[&a[..2], &b], &mut once).is_err());
    }
}
