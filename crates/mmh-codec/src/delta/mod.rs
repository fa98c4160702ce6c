//! Floats as differences from a base: an older version of the same tensor.
//!
//! The base first *predicts*: as it is, or after the multiplications that an optimiser's decay
//! does to weights without gradient. What remains is the difference of the numbers' places among
//! all numbers in order (a sign-magnitude integer taken as two's complement), whose magnitude
//! falls into half octaves. An update has about one size in a row, while a number's step doubles
//! with its exponent; so size of the row less exponent of the base tells how large a difference
//! to expect. And updates are sums of a few products of rows with columns, which tell the more
//! likely sign. Both make the class that a symbol is coded in. FORMAT.md, "Deltas".

mod bits;
mod directions;
mod encode;
mod fit;
mod forecast;
mod magnitude;
mod number;
mod replay;
mod rows;
mod scheme;
mod tables;
#[cfg(test)]
mod tests;

pub(crate) use encode::put_delta;

use std::ops::Range;

use crate::entropy::{Alphabet, Classes, DecodeSet, EachBlock, Engine};
use crate::error::{Error, Result, corrupt};
use crate::input::Input;
use crate::kernel::Kernels;
use crate::layout::{FloatFormat, Layout};
use crate::plane::PlaneDecoder;
use forecast::{Forecast, Span};
use number::Number;
use replay::Replay;
use tables::Tables;

/// What is known of the numbers of a block. Kept from one frame to the next, so that memory is not
/// fetched anew: only the first `n` of each are of this block.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    n: usize,
    classes: Vec<u8>,
    shifts: Vec<u8>,
    symbols: Vec<u8>,
}

impl Buffers {
    fn block<'a>(&'a mut self, coded: &'a [u8]) -> EachBlock<'a> {
        EachBlock {
            classes: &self.classes[..self.n],
            coded,
            symbols: &mut self.symbols[..self.n],
        }
    }
}

/// Coded symbols, and the bits that they leave open.
#[derive(Debug, Clone, Copy)]
struct Block<'a> {
    coded: &'a [u8],
    fields: &'a [u8],
}

/// Fills `out` from a body and a base of the same length: with all blocks that have bytes of
/// `wanted`, and says where in the content they begin.
pub(crate) fn read_delta(
    decoder: &mut PlaneDecoder<'_>,
    body: &[u8],
    base: &[u8],
    (raw_len, wanted): (usize, Range<usize>),
    out: &mut Vec<u8>,
) -> Result<usize> {
    if base.len() != raw_len {
        return corrupt("the base has another length");
    }
    let mut input = Input::new(body);
    let code = input.u8()?;
    let read = match Layout::from_code(code)? {
        Layout::Float(FloatFormat::Bf16) => read::<number::Bf16>,
        Layout::Float(FloatFormat::F16) => read::<number::F16>,
        Layout::Float(FloatFormat::F32) => read::<number::F32>,
        _ => {
            return Err(Error::UnknownCode {
                what: "layout of a delta",
                code,
            });
        }
    };
    read(decoder, &mut input, base, wanted, out)
}

fn read<N: Number>(
    decoder: &mut PlaneDecoder<'_>,
    input: &mut Input<'_>,
    base: &[u8],
    wanted: Range<usize>,
    out: &mut Vec<u8>,
) -> Result<usize> {
    let n = base.len() / N::LEN;
    let tail = input.take(base.len() - n * N::LEN)?;
    let replay = Replay::read(input)?;
    let forecast = Forecast::read(input, (n, N::SHIFT_MAX), decoder)?;
    let spans = forecast.spans(n);
    let changed = forecast.has_changes();
    let set = if changed {
        Some(Tables::read(input, &forecast)?.decode_set())
    } else {
        None
    };
    let mut blocks = Vec::with_capacity(spans.len());
    for _ in spans.iter().filter(|_| changed) {
        blocks.push(Block {
            coded: input.sized()?,
            fields: input.sized()?,
        });
    }
    std::mem::replace(input, Input::new(&[])).expect_end()?;

    let bytes = |span: &Span| span.numbers.start * N::LEN..span.numbers.end * N::LEN;
    let first = spans.iter().position(|span| bytes(span).end > wanted.start);
    let first = first.unwrap_or(spans.len() - 1);
    let last = spans
        .iter()
        .rposition(|span| bytes(span).start < wanted.end);
    let last = last.map_or(first, |last| last.max(first));
    let start = bytes(&spans[first]).start;
    out.clear();
    out.reserve(bytes(&spans[last]).end - start + tail.len());
    let delta = Delta {
        forecast: &forecast,
        replay,
        base,
        set: set.as_ref(),
        engine: decoder.engine,
        kernels: decoder.engine.kernels(),
    };
    let buffers = &mut decoder.buffers.delta;
    for i in (first..=last).step_by(2) {
        let pair = i..(i + 2).min(last + 1);
        let blocks = blocks.get(pair.clone()).unwrap_or_default();
        delta.read_spans::<N>(&spans[pair], blocks, buffers, out)?;
    }
    if last + 1 == spans.len() {
        out.extend_from_slice(tail);
    }
    Ok(start)
}

/// All that the blocks of a delta have in common.
struct Delta<'a> {
    forecast: &'a Forecast,
    replay: Option<Replay>,
    base: &'a [u8],
    set: Option<&'a DecodeSet>,
    engine: &'a dyn Engine,
    kernels: Kernels,
}

impl Delta<'_> {
    /// Appends the numbers of one or two spans, which have as many blocks, or none at all.
    fn read_spans<N: Number>(
        &self,
        spans: &[Span],
        blocks: &[Block<'_>],
        buffers: &mut [Buffers; 2],
        out: &mut Vec<u8>,
    ) -> Result<()> {
        for (span, buffers) in spans.iter().zip(&mut *buffers) {
            let targets = (&mut buffers.classes, &mut buffers.shifts);
            buffers.n = self
                .forecast
                .expect::<N>(span, self.base, &self.kernels, targets);
            grow(&mut buffers.symbols, buffers.n);
        }
        let [first, second] = &mut *buffers;
        match (self.set, blocks) {
            (Some(set), [a, b]) => {
                let both = [first.block(a.coded), second.block(b.coded)];
                self.engine.decode_two(set, both)?;
            }
            (Some(set), [a]) => {
                let EachBlock {
                    classes,
                    coded,
                    symbols,
                } = first.block(a.coded);
                let classes = Classes::Symbols(classes);
                self.engine.decode(set, classes, coded, symbols)?;
            }
            _ => {}
        }
        for (i, (span, buffers)) in spans.iter().zip(&*buffers).enumerate() {
            let fields = blocks.get(i).map_or(&[][..], |block| block.fields);
            self.put_span::<N>(span, buffers, fields, out)?;
        }
        Ok(())
    }

    /// Appends the numbers of a span: the base's, moved as its symbols and fields say.
    fn put_span<N: Number>(
        &self,
        span: &Span,
        buffers: &Buffers,
        fields: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let (mut done, mut at) = (0, 0);
        for piece in self.forecast.pieces(span) {
            // Row by row, so that what is copied is moved while it is at hand.
            let start = out.len();
            out.extend_from_slice(
                &self.base[piece.numbers.start * N::LEN..piece.numbers.end * N::LEN],
            );
            let row = &mut out[start..];
            N::predict(row, self.replay, &self.kernels);
            if piece.changed.is_some() {
                let here = done..done + piece.numbers.len();
                done = here.end;
                let each = (&buffers.symbols[here.clone()], &buffers.shifts[here]);
                at = N::apply(row, each, fields, at, &self.kernels);
            }
        }
        bits::expect_end(fields, at)
    }
}

/// Makes sure that there are `n` bytes; what they are is left open.
fn grow(bytes: &mut Vec<u8>, n: usize) {
    if bytes.len() < n {
        bytes.resize(n, 0);
    }
}

/// The alphabet of the symbols of differences, with signs.
const SIGNED: Alphabet = Alphabet::ThirtyTwo;
