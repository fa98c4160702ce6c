//! `transpose`: axes of an array in another order.
//!
//! Parameters: `element` (bytes of an element), `shape` (dimensions of the operand, outermost
//! first), `axes` (for each dimension of the output, which of the operand's it is).

use super::{Grain, Job, Op, Params, exactly};
use crate::error::{Error, Result};

/// Largest element, in bytes: blocks of GGUF types are moved whole.
const ELEMENT_LEN_MAX: u64 = 1024;
/// Most dimensions.
const RANK_MAX: usize = 8;

/// The operation.
#[derive(Debug)]
pub(super) struct TransposeOp;

#[derive(Debug)]
struct TransposeJob {
    element: usize,
    /// Dimensions of the output, outermost first, and how far apart neighbours lie in the operand.
    axes: Vec<(usize, usize)>,
    len: usize,
}

impl Op for TransposeOp {
    fn name(&self) -> &'static str {
        "transpose"
    }

    fn version(&self) -> u32 {
        1
    }

    fn prepare(&self, params: &Params, operands: &[u64]) -> Result<Box<dyn Job>> {
        params.only(&["element", "shape", "axes"])?;
        let element = params.int("element")?;
        if !(1..=ELEMENT_LEN_MAX).contains(&element) {
            return Err(Error::parameter(
                "element",
                format!("1 to {ELEMENT_LEN_MAX} bytes"),
            ));
        }
        let (shape, axes) = (params.list("shape")?, params.list("axes")?);
        if shape.is_empty() || shape.len() > RANK_MAX || shape.len() != axes.len() {
            let reason = format!("1 to {RANK_MAX} dimensions, as many as axes");
            return Err(Error::parameter("shape", reason));
        }
        let mut sorted = axes.to_vec();
        sorted.sort_unstable();
        if !sorted.into_iter().eq(0..axes.len() as u64) {
            return Err(Error::parameter(
                "axes",
                "each dimension once, counted from 0",
            ));
        }
        let [actual] = exactly(operands)?;
        let expected = shape.iter().try_fold(element, |len, &n| len.checked_mul(n));
        if expected != Some(actual) {
            return Err(Error::Length {
                what: "operand",
                actual,
                expected: expected.unwrap_or(u64::MAX),
            });
        }
        let too_large = |_| Error::parameter("shape", "more than this machine's memory");
        let len = usize::try_from(actual).map_err(too_large)?;
        let mut strides = vec![0; shape.len()];
        let mut stride = 1;
        for (idx, &n) in shape.iter().enumerate().rev() {
            strides[idx] = stride;
            stride *= usize::try_from(n).map_err(too_large)?.max(1);
        }
        let axis = |&axis: &u64| {
            // Axes are dimensions, of which there are few.
            let axis = usize::try_from(axis).unwrap_or(0);
            (usize::try_from(shape[axis]).unwrap_or(0), strides[axis])
        };
        Ok(Box::new(TransposeJob {
            element: usize::try_from(element).map_err(too_large)?,
            axes: axes.iter().map(axis).collect(),
            len,
        }))
    }
}

impl Job for TransposeJob {
    fn output_len(&self) -> u64 {
        self.len as u64
    }

    /// All at once: a row of the output takes from everywhere.
    fn grain(&self) -> Grain {
        Grain {
            output: (self.len as u64).max(1),
            operands: vec![None],
        }
    }

    fn run(&self, operands: &[&[u8]], out: &mut [u8]) -> Result<()> {
        let [input] = exactly(operands)?;
        for len in [input.len(), out.len()] {
            if len != self.len {
                return Err(Error::length("array", len, self.len));
            }
        }
        if self.len == 0 {
            return Ok(());
        }
        match self.element {
            1 => self.copy::<1>(input, out),
            2 => self.copy::<2>(input, out),
            4 => self.copy::<4>(input, out),
            8 => self.copy::<8>(input, out),
            _ => self.each(|at, from| {
                let element = self.element;
                out[at * element..][..element].copy_from_slice(&input[from * element..][..element]);
            }),
        }
        Ok(())
    }
}

impl TransposeJob {
    fn copy<const N: usize>(&self, input: &[u8], out: &mut [u8]) {
        let input = input.as_chunks::<N>().0;
        let out = out.as_chunks_mut::<N>().0;
        self.each(|at, from| out[at] = input[from]);
    }

    /// Calls `f` with each element of the output and where it comes from, in the output's order.
    fn each(&self, mut f: impl FnMut(usize, usize)) {
        let (&(inner, stride), outer) = self.axes.split_last().expect("a shape has dimensions");
        let mut index = [0; RANK_MAX];
        let (mut at, mut from) = (0, 0);
        loop {
            for k in 0..inner {
                f(at + k, from + k * stride);
            }
            at += inner;
            let mut axis = outer.len();
            loop {
                if axis == 0 {
                    return;
                }
                axis -= 1;
                let (n, stride) = outer[axis];
                index[axis] += 1;
                from += stride;
                if index[axis] < n {
                    break;
                }
                from -= stride * n;
                index[axis] = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn params(element: u64, shape: &[u64], axes: &[u64]) -> Params {
        let params = Params::new().with("element", element);
        params
            .with("shape", shape.to_vec())
            .with("axes", axes.to_vec())
    }

    fn run(element: u64, shape: &[u64], axes: &[u64], input: &[u8]) -> Result<Vec<u8>> {
        let job = TransposeOp.prepare(&params(element, shape, axes), &[input.len() as u64])?;
        let mut out = vec![0; input.len()];
        job.run(&[input], &mut out)?;
        Ok(out)
    }

    #[test]
    fn rows_become_columns() {
        let out = run(1, &[2, 3], &[1, 0], b"abcdef").unwrap();
        assert_eq!(out, b"adbecf");
        let out = run(3, &[2, 2], &[1, 0], b"aaabbbcccddd").unwrap();
        assert_eq!(out, b"aaacccbbbddd");
        assert_eq!(run(2, &[0, 7], &[1, 0], b"").unwrap(), b"");
    }

    #[test]
    fn what_is_no_order_of_axes_is_refused() {
        for (element, shape, axes) in [
            (0, &[6][..], &[0][..]),
            (2000, &[6], &[0]),
            (1, &[2, 3], &[0, 0]),
            (1, &[2, 3], &[1, 2]),
            (1, &[2, 3], &[0]),
            (1, &[], &[]),
            (
                1,
                &[1, 1, 1, 1, 1, 1, 1, 1, 6],
                &[0, 1, 2, 3, 4, 5, 6, 7, 8],
            ),
            (1, &[u64::MAX, u64::MAX], &[0, 1]),
            (1, &[7], &[0]),
        ] {
            assert!(run(element, shape, axes, b"abcdef").is_err(), "{shape:?}");
        }
    }

    proptest! {
        /// The order that undoes an order gives the array back; each element has its width.
        #[test]
        fn an_order_and_its_inverse_give_the_array_back(
            shape in prop::collection::vec(1u64..5, 1..5),
            keys in prop::collection::vec(any::<u64>(), 5),
            element in prop::sample::select(vec![1u64, 2, 3, 4, 8, 18]),
        ) {
            let mut axes: Vec<u64> = (0..shape.len() as u64).collect();
            axes.sort_by_key(|&axis| keys[usize::try_from(axis).unwrap()]);
            let len = shape.iter().product::<u64>() * element;
            let input: Vec<u8> = (0..len).map(|i| u8::try_from(i % 251).unwrap()).collect();
            let out = run(element, &shape, &axes, &input).unwrap();
            let at = |axis: u64| usize::try_from(axis).unwrap();
            let turned: Vec<u64> = axes.iter().map(|&axis| shape[at(axis)]).collect();
            let mut back = vec![0; axes.len()];
            for (idx, &axis) in axes.iter().enumerate() {
                back[at(axis)] = idx as u64;
            }
            prop_assert_eq!(run(element, &turned, &back, &out).unwrap(), input);
        }
    }
}
