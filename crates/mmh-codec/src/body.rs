//! The body of the frames that are divided into planes: a layout, its planes in order, and the
//! bytes before and after them that fill no unit.

use std::ops::Range;

use mmh_core::Dtype;
use mmh_core::limits::TENSOR_CHUNK_LEN;

use crate::error::{Error, Result, corrupt};
use crate::frame::{Method, PlaneInfo};
use crate::input::{Input, put_varint};
use crate::layout::{Blocks, Division, Field, FloatFormat, Form, Layout};
use crate::log2::entropy;
use crate::plane::{Coder, Grid, Numbers, PlaneDecoder, PlaneEncoder, Rows, Shape, find_grid};
use crate::settings::Hint;

/// Appends the body of `raw`, whose elements are of type `dtype`.
pub(crate) fn put_body(
    encoder: &mut PlaneEncoder<'_>,
    (layout, dtype): (Layout, Dtype),
    raw: &[u8],
    hint: &Hint,
    out: &mut Vec<u8>,
) -> Result<()> {
    let division = layout.division();
    let head_len = match &division {
        Division::Blocks(blocks) => head_len(blocks, raw, hint),
        Division::Float(..) => 0,
    };
    let (head, rest) = raw.split_at(head_len);
    let (units, tail) = rest.split_at(rest.len() - rest.len() % division.unit_len());
    let start = out.len();
    out.push(layout.code());
    put_varint(out, head_len);
    let sequential = layout.sequential();
    match &division {
        Division::Float(_, Form::Signed | Form::Fine) => return Err(NOT_CHOSEN),
        Division::Blocks(blocks) => {
            let skipped = if head_len > 0 {
                blocks.elements as u64
            } else {
                0
            };
            let hint = &Hint {
                first: hint.first.saturating_add(skipped),
                ..*hint
            };
            let mut planes = Vec::with_capacity(blocks.fields.len());
            let split = encoder.engine.kernels().split_field;
            for field in &blocks.fields {
                let rows = rows(hint, field.per_block, blocks.elements);
                let shape = Shape {
                    width: field.width,
                    rows,
                    sequential,
                };
                let plane = field.split(units, blocks.len, split);
                encoder.put_field((field, &plane), &planes, shape, out)?;
                planes.push(plane);
            }
        }
        Division::Float(format, Form::Plain) => {
            let rows = float_rows(*format, dtype, hint);
            let done = encoder.put_floats(*format, units, rows, out)?;
            let quick = done.is_some();
            if let Some(layout) = done {
                out[start] = layout.code();
            } else {
                for (values, (_, width)) in format.split(units).iter().zip(format.planes()) {
                    encoder.put(
                        values,
                        Shape {
                            width,
                            rows,
                            sequential,
                        },
                        out,
                    )?;
                }
            }
            let plain = (start, quick);
            put_denser(encoder, *format, (units, rows), plain, out)?;
        }
    }
    out.extend_from_slice(head);
    out.extend_from_slice(tail);
    Ok(())
}

/// No element type has this layout; it is an alternative to another.
const NOT_CHOSEN: Error = Error::Unencodable {
    what: "a layout is not for this type",
};

/// Dense coding must save one part in this many: decoding takes twice as long as of numbers that
/// are split in one pass, and no longer than of others.
const DENSE_SHARE: usize = 56;
const DENSE_SHARE_OF_SLOW: usize = 200;
/// What must be saved of a sample, which is short for its tables, of numbers split in one pass.
const SAMPLED_SHARE: usize = 100;

/// Replaces the planes of floats, which begin at `start` and are split in one pass if `quick`, by
/// densely coded ones if these are shorter.
fn put_denser(
    encoder: &mut PlaneEncoder<'_>,
    format: FloatFormat,
    (units, rows): (&[u8], Rows),
    (start, quick): (usize, bool),
    out: &mut Vec<u8>,
) -> Result<()> {
    if !encoder.dense {
        return Ok(());
    }
    let Some(grid) = find_grid(format, units, rows) else {
        return Ok(());
    };
    let (share, of_sample) = if quick {
        (DENSE_SHARE, SAMPLED_SHARE)
    } else {
        (DENSE_SHARE_OF_SLOW, DENSE_SHARE_OF_SLOW)
    };
    if units.len() / format.len() >= SAMPLED_MIN
        && !denser_by_sample(encoder, format, units, (rows, grid, of_sample))?
    {
        return Ok(());
    }
    let layout = if grid.has_signs() {
        Layout::Signed(format)
    } else {
        Layout::Float(format)
    };
    let mut dense = vec![layout.code(), 0];
    encoder.put_dense(format, units, grid, &mut dense)?;
    let len = out.len() - start;
    if dense.len() < len - len / share {
        out.truncate(start);
        out.extend_from_slice(&dense);
    }
    Ok(())
}

/// From so many numbers on a sample decides whether dense coding is tried.
const SAMPLED_MIN: usize = 1 << 17;
/// One row in this many is in that sample. Without kernels, which have many distributions, it need
/// not have more numbers than this, nor more rows than are needed.
const SAMPLE_SHARE: usize = 8;
const SAMPLE_MAX: usize = 1 << 16;
const SAMPLE_ROWS_MIN: usize = 16;

/// Whether dense coding makes rows from the middle of the units shorter by one part in `share`.
fn denser_by_sample(
    encoder: &mut PlaneEncoder<'_>,
    format: FloatFormat,
    units: &[u8],
    (rows, grid, share): (Rows, Grid, usize),
) -> Result<bool> {
    let row_len = usize::try_from(rows.len).unwrap_or(usize::MAX).max(1);
    let before = usize::try_from(rows.before).unwrap_or(0);
    let n_rows = units.len() / format.len() / row_len;
    let most = if grid.has_signs() {
        usize::MAX
    } else {
        (SAMPLE_MAX / row_len).max(SAMPLE_ROWS_MIN)
    };
    let len = (n_rows / SAMPLE_SHARE)
        .min(most)
        .saturating_mul(row_len.saturating_mul(format.len()));
    let start = (n_rows / 2 * row_len).saturating_sub(before) * format.len();
    let sample = units.get(start..start.saturating_add(len)).unwrap_or(units);
    let rows = Rows::new(rows.len, 0);
    match find_grid(format, sample, rows) {
        Some(grid) => encoder.denser(format, sample, (rows, grid), share),
        // Too few rows to say, or too little to tell columns from each other.
        None => Ok(grid.has_signs()),
    }
}

/// Bytes before the first whole block. A hint names the block in which a chunk begins, not the
/// byte; but tensors are cut at multiples of one length, so that only two places are likely, and
/// the content decides between them.
fn head_len(blocks: &Blocks, raw: &[u8], hint: &Hint) -> usize {
    const SAMPLE_BLOCKS: usize = 512;
    let len = blocks.len as u64;
    let Some(block) = (hint.first / blocks.elements as u64).checked_mul(len) else {
        return 0;
    };
    let Some(next) = block.checked_next_multiple_of(TENSOR_CHUNK_LEN as u64) else {
        return 0;
    };
    let into = next - block;
    let head = match usize::try_from(len.wrapping_sub(into)) {
        Ok(head) if into > 0 && head < blocks.len && head < raw.len() => head,
        _ => return 0,
    };
    let cost = |raw: &[u8]| -> u64 {
        let n = (raw.len() / blocks.len).min(SAMPLE_BLOCKS) * blocks.len;
        blocks
            .fields
            .iter()
            .map(|field| sample_cost(&field.split(&raw[..n], blocks.len, Field::take).widened()))
            .sum()
    };
    if cost(&raw[head..]) < cost(raw) {
        head
    } else {
        0
    }
}

/// Order-0 cost of the bytes of values, in bits times 2^10.
fn sample_cost(values: &[u16]) -> u64 {
    let mut counts = [[0u32; 256]; 2];
    for value in values {
        for (counts, byte) in counts.iter_mut().zip(value.to_le_bytes()) {
            counts[usize::from(byte)] += 1;
        }
    }
    entropy(&counts[0]) + entropy(&counts[1])
}

/// The rows of a plane that has `values` values for each `elements` elements.
fn rows(hint: &Hint, values: usize, elements: usize) -> Rows {
    let scaled = |n: u64| n / elements as u64 * values as u64;
    if hint.row_len.is_multiple_of(elements as u64) && hint.row_len < 1 << 32 {
        Rows::new(
            scaled(hint.row_len),
            scaled(hint.first % hint.row_len.max(1)),
        )
    } else {
        Rows::default()
    }
}

/// The rows of the numbers of a type. Complex numbers are two floats each.
pub(crate) fn float_rows(format: FloatFormat, dtype: Dtype, hint: &Hint) -> Rows {
    rows(hint, dtype.block().1 as usize / format.len(), 1)
}

/// Fills `raw` from a body.
pub(crate) fn read_body(
    decoder: &mut PlaneDecoder<'_>,
    method: Method,
    body: &[u8],
    raw: &mut [u8],
) -> Result<()> {
    let mut input = Input::new(body);
    let division = read_layout(&mut input, method)?;
    let Some((head, rest)) = raw.split_at_mut_checked(input.varint()?) else {
        return corrupt("the bytes before the planes are more than all");
    };
    let n_units = rest.len() / division.unit_len();
    let (units, tail) = rest.split_at_mut(n_units * division.unit_len());
    match division {
        Division::Blocks(blocks) => {
            decoder.read_blocks(&mut input, &blocks, (n_units, 0..n_units), units)?;
        }
        Division::Float(format, form) => {
            read_numbers(decoder, &mut input, (format, form), units)?;
        }
    }
    head.copy_from_slice(input.take(head.len())?);
    tail.copy_from_slice(input.take(tail.len())?);
    input.expect_end()
}

/// Hands the content of a body of `raw_len` bytes to `each` in pieces, each with its place, in their
/// order. Floats are decoded block by block in `room`, so that what is decoded stays in the caches.
pub(crate) fn each_piece(
    decoder: &mut PlaneDecoder<'_>,
    (method, body): (Method, &[u8]),
    raw_len: usize,
    room: &mut Vec<u8>,
    each: &mut dyn FnMut(usize, &[u8]),
) -> Result<()> {
    let mut input = Input::new(body);
    let (format, form) = match read_layout(&mut input, method)? {
        Division::Float(format, form) => (format, form),
        Division::Blocks(_) => {
            room.resize(raw_len, 0);
            read_body(decoder, method, body, room)?;
            each(0, room);
            return Ok(());
        }
    };
    let (head_len, len) = (input.varint()?, format.len());
    let Some(rest) = raw_len.checked_sub(head_len) else {
        return corrupt("the bytes before the planes are more than all");
    };
    let numbers = Numbers::read(decoder, &mut input, (format, form), rest / len)?;
    let (head, tail) = (input.take(head_len)?, input.take(rest % len)?);
    input.expect_end()?;
    each(0, head);
    for i in 0..numbers.n_blocks() {
        let range = numbers.range(i);
        room.resize(room.len().max(range.len() * len), 0);
        let block = &mut room[..range.len() * len];
        numbers.block(decoder.engine, decoder.buffers, i, block)?;
        each(head_len + range.start * len, block);
    }
    numbers.into_buffers(decoder.buffers);
    each(raw_len - tail.len(), tail);
    Ok(())
}

/// Replaces `out` with a part of the content that has `part`, a range within its `raw_len` bytes,
/// and says where in the content that begins. Decodes the blocks that are needed.
pub(crate) fn read_part(
    decoder: &mut PlaneDecoder<'_>,
    (method, body): (Method, &[u8]),
    raw_len: usize,
    part: &Range<usize>,
    out: &mut Vec<u8>,
) -> Result<usize> {
    let mut input = Input::new(body);
    let division = read_layout(&mut input, method)?;
    let head_len = input.varint()?;
    let Some(rest) = raw_len.checked_sub(head_len) else {
        return corrupt("the bytes before the planes are more than all");
    };
    let len = division.unit_len();
    let n = rest / len;
    let first = (part.start.saturating_sub(head_len) / len).min(n);
    let end = part.end.saturating_sub(head_len).div_ceil(len);
    let wanted = first..end.clamp(first, n);
    let units = match division {
        Division::Blocks(blocks) => {
            out.resize(wanted.len() * len, 0);
            decoder.read_blocks(&mut input, &blocks, (n, wanted.clone()), out)?;
            wanted
        }
        Division::Float(format, form) => {
            part_of_numbers(decoder, &mut input, (format, form), (n, wanted), out)?
        }
    };
    let head = input.take(head_len)?;
    let tail = input.take(rest % len)?;
    input.expect_end()?;
    if part.end > head_len + n * len {
        out.extend_from_slice(tail);
    }
    if part.start < head_len {
        out.splice(..0, head.iter().copied());
        return Ok(0);
    }
    Ok(head_len + units.start * len)
}

/// Replaces `out` with the blocks of `n` numbers that have the `wanted` ones, and says which
/// numbers these are.
fn part_of_numbers(
    decoder: &mut PlaneDecoder<'_>,
    input: &mut Input<'_>,
    form: (FloatFormat, Form),
    (n, wanted): (usize, Range<usize>),
    out: &mut Vec<u8>,
) -> Result<Range<usize>> {
    let len = form.0.len();
    let numbers = Numbers::read(decoder, input, form, n)?;
    let blocks = numbers.blocks_of(wanted);
    let all = numbers.range(blocks.start).start..numbers.range(blocks.end - 1).end;
    out.resize(len * all.len(), 0);
    for i in blocks {
        let range = numbers.range(i);
        let place = len * (range.start - all.start)..len * (range.end - all.start);
        numbers.block(decoder.engine, decoder.buffers, i, &mut out[place])?;
    }
    numbers.into_buffers(decoder.buffers);
    Ok(all)
}

/// Fills `units` with numbers, block by block.
fn read_numbers(
    decoder: &mut PlaneDecoder<'_>,
    input: &mut Input<'_>,
    form: (FloatFormat, Form),
    units: &mut [u8],
) -> Result<()> {
    let len = form.0.len();
    let n = units.len() / len;
    let numbers = Numbers::read(decoder, input, form, n)?;
    for i in 0..numbers.n_blocks() {
        let range = numbers.range(i);
        let raw = &mut units[range.start * len..range.end * len];
        numbers.block(decoder.engine, decoder.buffers, i, raw)?;
    }
    numbers.into_buffers(decoder.buffers);
    Ok(())
}

fn read_layout(input: &mut Input<'_>, method: Method) -> Result<Division> {
    let layout = Layout::from_code(input.u8()?)?;
    if layout.method() != method {
        return corrupt("the layout belongs to another method");
    }
    Ok(layout.division())
}

/// Names and lengths of the planes of a body.
pub(crate) fn planes_info(method: Method, body: &[u8]) -> Result<Vec<PlaneInfo>> {
    let mut input = Input::new(body);
    let names: Vec<&'static str> = match read_layout(&mut input, method)? {
        Division::Blocks(blocks) => blocks.fields.iter().map(|field| field.name).collect(),
        Division::Float(format, _) => format.planes().map(|(name, _)| name).collect(),
    };
    input.varint()?;
    let mut planes = Vec::with_capacity(names.len());
    for name in names {
        let coder = Coder::read(&mut input)?.as_str();
        planes.push(PlaneInfo {
            name,
            coder,
            coded_len: input.sized()?.len(),
        });
    }
    Ok(planes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks_of(dtype: Dtype) -> Blocks {
        match Layout::of(dtype).map(Layout::division) {
            Some(Division::Blocks(blocks)) => blocks,
            other => panic!("{other:?}"),
        }
    }

    fn by_sample(format: FloatFormat, raw: &[u8], rows: Rows) -> bool {
        let mut encoder = PlaneEncoder {
            engine: &crate::entropy::Reference,
            packer: &mut crate::zstd::Packer::new(3),
            scratch: &mut crate::plane::Scratch::default(),
            effort: crate::cluster::Effort {
                classes_max: 8,
                rounds: 3,
            },
            dense: true,
        };
        find_grid(format, raw, rows).is_some_and(|grid| {
            denser_by_sample(&mut encoder, format, raw, (rows, grid, 200)).unwrap()
        })
    }

    /// Kernels pay, rows alone do not, and what is too small or too odd to say is left open.
    #[test]
    fn a_sample_tells_convolutions_from_weights() {
        let n = SAMPLED_MIN * 2;
        let like = crate::samples::convolution(Dtype::BF16, [3, 3, 1], 32, n, 1);
        for before in [0, 5, 287] {
            assert!(by_sample(FloatFormat::Bf16, &like, Rows::new(288, before)));
        }
        let few_rows = crate::samples::convolution(Dtype::BF16, [3, 3, 1], 512, n, 1);
        assert!(by_sample(FloatFormat::Bf16, &few_rows, Rows::new(4608, 0)));
        let plain = crate::samples::weights(Dtype::BF16, 288, 2 * n, 1);
        assert!(!by_sample(FloatFormat::Bf16, &plain, Rows::new(288, 0)));
        for row_len in [0, 1, n as u64 / 2, n as u64 * 3, u64::MAX] {
            for before in [0, 1, 1000, u64::MAX] {
                let rows = Rows::new(row_len, before);
                assert!(!by_sample(FloatFormat::Bf16, &plain, rows), "no grid");
            }
        }
    }

    #[test]
    fn rows_are_counted_in_values_of_each_plane() {
        let hint = Hint {
            dtype: None,
            row_len: 512,
            first: 1024 + 256,
        };
        assert_eq!(
            rows(&hint, 256, 256),
            Rows {
                len: 512,
                before: 256
            }
        );
        assert_eq!(rows(&hint, 8, 256), Rows { len: 16, before: 8 });
        assert_eq!(
            rows(&hint, 2, 1),
            Rows {
                len: 1024,
                before: 512
            }
        );
        assert_eq!(
            rows(
                &Hint {
                    row_len: 100,
                    ..hint
                },
                256,
                256
            ),
            Rows::default()
        );
        assert_eq!(
            rows(
                &Hint {
                    row_len: u64::MAX,
                    ..hint
                },
                2,
                1
            ),
            Rows::default()
        );
        assert_eq!(rows(&Hint::bytes(), 2, 1), Rows::default());
    }

    /// 2^22 = 22 * 190650 + 4: the second chunk begins 4 bytes into a block.
    #[test]
    fn the_head_is_found_where_a_tensor_is_cut_within_a_block() {
        let blocks = blocks_of(Dtype::Q5_0);
        let raw: Vec<u8> = (0..2000u32)
            .flat_map(|i| (0..22u32).map(move |j| if j < 2 { 40 + j } else { (i * j * 37) % 251 }))
            .map(|byte| byte.to_le_bytes()[0])
            .collect();
        let hint = Hint {
            first: 32 * 190_650,
            ..Hint::tensor(Dtype::Q5_0, 0)
        };
        assert_eq!(head_len(&blocks, &raw[4..], &hint), 18);
        assert_eq!(
            head_len(&blocks, &raw, &hint),
            0,
            "the chunk begins with its block"
        );
        assert_eq!(head_len(&blocks, &raw[4..], &Hint { first: 32, ..hint }), 0);
        assert_eq!(
            head_len(&blocks, &raw[4..20], &hint),
            0,
            "shorter than the head"
        );
        assert_eq!(
            head_len(
                &blocks,
                &raw,
                &Hint {
                    first: u64::MAX,
                    ..hint
                }
            ),
            0
        );
    }

    #[test]
    fn heads_and_methods_that_cannot_be_are_refused() {
        let unpacker = &mut crate::zstd::Unpacker::default();
        let mut decoder = PlaneDecoder {
            engine: &crate::entropy::Reference,
            unpacker,
            buffers: &mut crate::plane::Buffers::default(),
        };
        let mut read = |method, body: &[u8], len: usize| {
            let mut raw = vec![0; len];
            read_body(&mut decoder, method, body, &mut raw).map(|()| raw)
        };
        // Layout 16, a head of 1, a constant plane of two bytes 7, the head.
        let body = [16, 1, 0, 2, 7, 0, 9];
        assert_eq!(read(Method::Integer, &body, 3), Ok(vec![9, 7, 7]));
        assert!(
            read(Method::Float, &body, 3).is_err(),
            "another method's layout"
        );
        assert!(
            read(Method::Integer, &body, 0).is_err(),
            "a head longer than the content"
        );
        assert!(read(Method::Integer, &body[..6], 3).is_err(), "no head");
        assert!(
            read(Method::Integer, &[&body[..], &[0]].concat(), 3).is_err(),
            "one byte more"
        );
    }
}
