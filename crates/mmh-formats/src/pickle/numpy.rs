//! numpy arrays inside pickles: element types and the two ways arrays are rebuilt.
//!
//! Protocols up to 4 call `_reconstruct` and set a state `(version, shape, dtype, fortran,
//! bytes)`; protocol 5 calls `_frombuffer(buffer, dtype, shape, order)`. See `array_reduce` in
//! numpy's `methods.c`. jax arrays carry the same inside.

use mmh_core::Dtype;

use crate::pickle::heap::{Heap, Object, RawArray, Value};

/// What the elements of an array are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Little-endian numbers.
    Known(Dtype),
    /// Elements of so many bytes that are no little-endian numbers.
    Opaque(u64),
    /// References to Python objects: a pickle.
    Objects,
}

impl Kind {
    /// Bytes of one element; 0 for objects.
    pub(crate) fn width(self) -> u64 {
        match self {
            Self::Known(dtype) => u64::from(dtype.block().1),
            Self::Opaque(width) => width,
            Self::Objects => 0,
        }
    }
}

/// Reads a type code such as `f4`, in the byte order `order` (`<`, `>`, `|` or `=`).
pub(crate) fn kind_of_code(code: &str, order: &str) -> Option<Kind> {
    let dtype = match code {
        "b1" => Dtype::Bool,
        "u1" => Dtype::U8,
        "i1" => Dtype::I8,
        "u2" => Dtype::U16,
        "i2" => Dtype::I16,
        "u4" => Dtype::U32,
        "i4" => Dtype::I32,
        "u8" => Dtype::U64,
        "i8" => Dtype::I64,
        "f2" => Dtype::F16,
        "f4" => Dtype::F32,
        "f8" => Dtype::F64,
        "c8" => Dtype::C64,
        "c16" => Dtype::C128,
        _ => return opaque_kind(code),
    };
    let width = u64::from(dtype.block().1);
    let big_endian = order == ">" && width > 1;
    Some(if big_endian {
        Kind::Opaque(width)
    } else {
        Kind::Known(dtype)
    })
}

fn opaque_kind(code: &str) -> Option<Kind> {
    let mut chars = code.chars();
    let letter = chars.next()?;
    let number = chars.as_str();
    if letter == 'O' {
        return Some(Kind::Objects);
    }
    let digits = number.bytes().take_while(u8::is_ascii_digit).count();
    let n: u64 = number.get(..digits)?.parse().ok()?;
    match letter {
        'U' => n.checked_mul(4).map(Kind::Opaque),
        'S' | 'a' | 'V' | 'f' | 'c' | 'i' | 'u' | 'M' | 'm' => Some(Kind::Opaque(n)),
        _ => None,
    }
}

/// Reads a pickled `numpy.dtype`.
pub(crate) fn kind(heap: &Heap, dtype: Value) -> Option<Kind> {
    let object = heap.object(dtype)?;
    if heap.global(object.class) != Some("numpy.dtype") {
        return None;
    }
    let code = *heap.elements(object.args)?.first()?;
    if let Some(extension) = heap.global(code) {
        return extension_kind(extension);
    }
    let state = heap.elements(object.state).unwrap_or_default();
    let order = state.get(1).and_then(|v| heap.text(*v)).unwrap_or("|");
    kind_of_code(heap.text(code)?, order)
}

/// The number types that the package `ml_dtypes` adds.
fn extension_kind(name: &str) -> Option<Kind> {
    let dtype = match name.rsplit('.').next()? {
        "bfloat16" => Dtype::BF16,
        "float8_e4m3fn" => Dtype::F8_E4M3,
        "float8_e5m2" => Dtype::F8_E5M2,
        "float8_e8m0fnu" => Dtype::F8_E8M0,
        _ => return None,
    };
    Some(Kind::Known(dtype))
}

/// The array that `object` rebuilds, if it is one of numbers whose bytes stand in the file.
pub(crate) fn array(heap: &Heap, object: &Object) -> Option<RawArray> {
    match heap.global(object.class)? {
        class if is_reconstruct(class) => array_of_state(heap, object.state),
        "numpy.core.numeric._frombuffer" | "numpy._core.numeric._frombuffer" => {
            let [buffer, dtype, shape, order] = *heap.elements(object.args)? else {
                return None;
            };
            let fortran = heap.text(order) == Some("F");
            located(heap, buffer, dtype, shape, fortran)
        }
        "jax._src.array._reconstruct_array"
        | "jax._src.device_array.reconstruct_device_array"
        | "jax.interpreters.xla._DeviceArray" => {
            array_of_state(heap, *heap.elements(object.args)?.get(2)?)
        }
        _ => None,
    }
}

/// The elements of an array of Python objects.
pub(crate) fn objects(heap: &Heap, object: &Object) -> Option<Value> {
    heap.global(object.class)
        .filter(|class| is_reconstruct(class))?;
    let [.., elements] = *heap.elements(object.state)? else {
        return None;
    };
    heap.elements(elements).map(|_| elements)
}

/// Whether `object` is an array of numbers that protocol 2 and below wrote as text.
pub(crate) fn is_encoded(heap: &Heap, object: &Object) -> bool {
    if !heap.global(object.class).is_some_and(is_reconstruct) {
        return false;
    }
    let Some(&[_, _, _, _, buffer]) = heap.elements(object.state) else {
        return false;
    };
    let call = heap.object(buffer).and_then(|call| heap.global(call.class));
    call == Some("_codecs.encode")
}

fn is_reconstruct(class: &str) -> bool {
    matches!(
        class,
        "numpy.core.multiarray._reconstruct" | "numpy._core.multiarray._reconstruct"
    )
}

fn array_of_state(heap: &Heap, state: Value) -> Option<RawArray> {
    let [_version, shape, dtype, fortran, buffer] = *heap.elements(state)? else {
        return None;
    };
    let fortran = matches!(fortran, Value::Bool(true) | Value::Int(1));
    located(heap, buffer, dtype, shape, fortran)
}

fn located(
    heap: &Heap,
    buffer: Value,
    dtype: Value,
    shape: Value,
    fortran: bool,
) -> Option<RawArray> {
    let Kind::Known(dtype) = kind(heap, dtype)? else {
        return None;
    };
    let (offset, len) = heap.raw(buffer)?;
    let mut shape = heap.dims(shape)?;
    if fortran {
        shape.reverse();
    }
    let elements = shape.iter().try_fold(1u64, |n, &d| n.checked_mul(d))?;
    (dtype.bytes_for(elements) == Some(len)).then_some(RawArray {
        offset,
        len,
        dtype,
        shape,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn type_codes_have_the_width_they_name() {
        let cases = [
            ("f4", "<", Some(Kind::Known(Dtype::F32))),
            ("f4", ">", Some(Kind::Opaque(4))),
            ("i1", ">", Some(Kind::Known(Dtype::I8))),
            ("c16", "=", Some(Kind::Known(Dtype::C128))),
            ("U3", "<", Some(Kind::Opaque(12))),
            ("V6", "|", Some(Kind::Opaque(6))),
            ("M8[ns]", "<", Some(Kind::Opaque(8))),
            ("f16", "<", Some(Kind::Opaque(16))),
            ("O", "|", Some(Kind::Objects)),
            ("O8", "|", Some(Kind::Objects)),
            ("U99999999999999999999", "|", None),
            ("U9999999999999999999", "|", None),
            ("x4", "|", None),
            ("f", "|", None),
            ("", "|", None),
        ];
        for (code, order, expected) in cases {
            assert_eq!(kind_of_code(code, order), expected, "{code}");
        }
    }
}
