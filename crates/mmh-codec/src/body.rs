//! The body of the frames that are divided into planes: a layout, its planes in order, and the
//! bytes that fill no unit.

use mmh_core::Dtype;

use crate::error::{Result, corrupt};
use crate::frame::{Method, PlaneInfo};
use crate::input::Input;
use crate::layout::{Blocks, Division, Layout};
use crate::plane::{Coder, PlaneDecoder, PlaneEncoder, Rows, Shape};
use crate::settings::Hint;

/// Appends the body of `raw`, whose elements are of type `dtype`.
pub(crate) fn put_body(
    encoder: &mut PlaneEncoder<'_>,
    (layout, dtype): (Layout, Dtype),
    raw: &[u8],
    hint: &Hint,
    out: &mut Vec<u8>,
) -> Result<()> {
    out.push(layout.code());
    let division = layout.division();
    let (units, tail) = raw.split_at(raw.len() - raw.len() % division.unit_len());
    let sequential = layout.sequential();
    match &division {
        Division::Blocks(blocks) => {
            for field in &blocks.fields {
                let rows = rows(hint, field.per_block, blocks.elements);
                let shape = Shape {
                    width: field.width,
                    rows,
                    sequential,
                };
                encoder.put(&field.split(units, blocks.len), shape, out)?;
            }
        }
        Division::Float(format) => {
            // Complex numbers are two floats each.
            let rows = rows(hint, dtype.block().1 as usize / format.len(), 1);
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
    }
    out.extend_from_slice(tail);
    Ok(())
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

/// Fills `raw` from a body.
pub(crate) fn read_body(
    decoder: &mut PlaneDecoder<'_>,
    method: Method,
    body: &[u8],
    raw: &mut [u8],
) -> Result<()> {
    let mut input = Input::new(body);
    let division = read_layout(&mut input, method)?;
    let n_units = raw.len() / division.unit_len();
    let (units, tail) = raw.split_at_mut(n_units * division.unit_len());
    match division {
        Division::Blocks(Blocks { len, fields, .. }) => {
            for field in fields {
                let mut values = vec![0; n_units * field.per_block];
                decoder.read(&mut input, field.width, &mut values)?;
                field.join(&mut values, units, len);
            }
        }
        Division::Float(format) => {
            let mut planes = Vec::new();
            for (_, width) in format.planes() {
                let mut values = vec![0; n_units];
                decoder.read(&mut input, width, &mut values)?;
                planes.push(values);
            }
            format.join(&planes, units)?;
        }
    }
    let rest = input.finish();
    if rest.len() != tail.len() {
        return corrupt("the bytes after the planes are not as many as stated");
    }
    tail.copy_from_slice(rest);
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
        Division::Float(format) => format.planes().map(|(name, _)| name).collect(),
    };
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
