//! torch tensors inside pickles: views of storages whose bytes lie elsewhere.
//!
//! Rebuilding functions: `torch/_utils.py` and `torch/_tensor.py`; persistent ids of storages:
//! `torch/serialization.py`.

use std::collections::BTreeMap;

use mmh_core::{Dtype, TensorInfo};

use crate::error::Result;
use crate::layout::LayoutBuilder;
use crate::pickle::heap::{Heap, Node, Value};
use crate::pickle::machine::Pickle;
use crate::pickle::walk::{Found, walk};

/// One storage of a torch file: the key that names its bytes and what is known of its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Storage {
    /// The first tensor that uses it, or its key.
    pub(crate) name: String,
    pub(crate) dtype: Dtype,
    /// Elements, or bytes if the storage is untyped.
    pub(crate) n_elements: u64,
    /// Bytes of one of `n_elements`.
    pub(crate) width: u64,
    /// The shape of a tensor that covers exactly the storage, in order.
    pub(crate) shape: Option<Vec<u64>>,
}

impl Storage {
    /// The length in bytes, or `None` on overflow.
    pub(crate) fn bytes(&self) -> Option<u64> {
        self.n_elements.checked_mul(self.width)
    }
}

/// A tensor as a view.
#[derive(Debug)]
pub(crate) struct View {
    /// The storage's persistent id.
    storage: Value,
    /// In elements of the tensor.
    offset: u64,
    /// The shape if the view has no gaps and is in order.
    shape: Option<Vec<u64>>,
    /// The element type, if the tensor and not the storage states it.
    dtype: Option<Dtype>,
}

/// The storages of a pickle by key.
pub(crate) fn storages(pickle: &Pickle) -> BTreeMap<String, Storage> {
    let heap = &pickle.heap;
    // For each key: the rank of the best use so far (offset, named, name), and the storage.
    let mut found: BTreeMap<String, ((u64, bool, String), Storage)> = BTreeMap::new();
    let mut offer = |id: Value, view: Option<&View>, name: &str| {
        let Some((key, mut storage)) = storage_of_id(heap, id) else {
            return;
        };
        storage.name = if name.is_empty() {
            key.clone()
        } else {
            name.to_owned()
        };
        let mut rank = (u64::MAX, name.is_empty(), name.to_owned());
        if let Some(view) = view {
            storage.see(view);
            rank.0 = view.offset;
        }
        match found.get_mut(&key) {
            Some((best, _)) if *best <= rank => {}
            Some(slot) => *slot = (rank, storage),
            None => drop(found.insert(key, (rank, storage))),
        }
    };
    walk(heap, pickle.root, |name, what| match what {
        Found::View(view) => offer(view.storage, Some(&view), name),
        Found::Storage(id) => offer(id, None, name),
        Found::Array(_) | Found::Encoded | Found::Blob { .. } => {}
    });
    for node in heap.nodes() {
        if let Node::Persistent(id) = node {
            offer(*id, None, "");
        }
    }
    found
        .into_iter()
        .map(|(key, (_, storage))| (key, storage))
        .collect()
}

impl Storage {
    /// Places the storage's bytes, which lie at `offset`.
    pub(crate) fn place(self, builder: &mut LayoutBuilder, offset: u64, len: u64) -> Result<()> {
        let Self {
            name, dtype, shape, ..
        } = self;
        match shape {
            Some(shape) => builder.tensor(offset, len, TensorInfo { name, dtype, shape }),
            None => builder.storage(offset, len, name, dtype),
        }
    }

    /// Takes over what a view says about the content.
    fn see(&mut self, view: &View) {
        if let Some(dtype) = view.dtype {
            self.dtype = dtype;
        }
        let covers = |shape: &Vec<u64>| {
            let elements = shape.iter().try_fold(1u64, |n, &d| n.checked_mul(d));
            let bytes = elements.and_then(|n| self.dtype.bytes_for(n));
            view.offset == 0 && bytes.is_some() && bytes == self.bytes()
        };
        self.shape = view.shape.clone().filter(covers);
    }
}

/// The view that a call of `function` with `args` rebuilds.
pub(crate) fn view(heap: &Heap, function: Value, args: Value) -> Option<View> {
    let args = heap.elements(args)?;
    let function = heap.global(function)?;
    match function {
        "torch._utils._rebuild_tensor"
        | "torch._utils._rebuild_tensor_v2"
        | "torch._utils._rebuild_tensor_v3"
        | "torch._utils._rebuild_qtensor" => {}
        "torch._tensor._rebuild_from_type_v2" => {
            let (inner, inner_args) = (*args.first()?, *args.get(2)?);
            // One level: the inner function is one of those above.
            let name = heap.global(inner)?;
            return if name == function {
                None
            } else {
                view(heap, inner, inner_args)
            };
        }
        _ => return None,
    }
    let Some(&Node::Persistent(storage)) = heap.node(*args.first()?) else {
        return None;
    };
    let offset = match *args.get(1)? {
        Value::Int(i) => u64::try_from(i).ok()?,
        _ => return None,
    };
    let shape = heap.dims(*args.get(2)?)?;
    let stride = heap.dims(*args.get(3)?)?;
    let dtype = match function {
        "torch._utils._rebuild_tensor_v3" => heap.global(*args.get(6)?).and_then(dtype_of_name),
        _ => None,
    };
    let shape = contiguous(&shape, &stride).then_some(shape);
    Some(View {
        storage,
        offset,
        shape,
        dtype,
    })
}

/// Whether elements of `shape` follow each other in order.
fn contiguous(shape: &[u64], stride: &[u64]) -> bool {
    let mut expected = 1u64;
    shape.len() == stride.len()
        && shape.iter().zip(stride).rev().all(|(&dim, &step)| {
            let fits = dim == 1 || step == expected;
            expected = expected.saturating_mul(dim);
            fits
        })
}

/// Reads `("storage", type, key, location, n_elements, …)`.
fn storage_of_id(heap: &Heap, id: Value) -> Option<(String, Storage)> {
    let [tag, class, key, _location, n_elements, ..] = *heap.elements(id)? else {
        return None;
    };
    if heap.text(tag) != Some("storage") {
        return None;
    }
    let Value::Int(n_elements) = n_elements else {
        return None;
    };
    let dtype = dtype_of_class(heap.global(class)?)?;
    let storage = Storage {
        name: String::new(),
        dtype,
        n_elements: u64::try_from(n_elements).ok()?,
        width: u64::from(dtype.block().1),
        shape: None,
    };
    Some((heap.text(key)?.to_owned(), storage))
}

/// The storage's element type; quantised ones are the integers they hold.
fn dtype_of_class(class: &str) -> Option<Dtype> {
    let class = class.strip_prefix("torch.")?;
    Some(match class.rsplit('.').next()? {
        "DoubleStorage" => Dtype::F64,
        "FloatStorage" => Dtype::F32,
        "HalfStorage" => Dtype::F16,
        "BFloat16Storage" => Dtype::BF16,
        "LongStorage" => Dtype::I64,
        "IntStorage" | "QInt32Storage" => Dtype::I32,
        "ShortStorage" => Dtype::I16,
        "CharStorage" | "QInt8Storage" => Dtype::I8,
        "BoolStorage" => Dtype::Bool,
        "ComplexFloatStorage" => Dtype::C64,
        "ComplexDoubleStorage" => Dtype::C128,
        "ByteStorage" | "QUInt8Storage" | "QUInt4x2Storage" | "QUInt2x4Storage"
        | "UntypedStorage" | "_UntypedStorage" => Dtype::U8,
        _ => return None,
    })
}

/// An element type such as `torch.uint16`, which has no storage class of its own.
fn dtype_of_name(name: &str) -> Option<Dtype> {
    Some(match name.strip_prefix("torch.")? {
        "float64" => Dtype::F64,
        "float32" => Dtype::F32,
        "float16" => Dtype::F16,
        "bfloat16" => Dtype::BF16,
        "uint64" => Dtype::U64,
        "int64" => Dtype::I64,
        "uint32" => Dtype::U32,
        "int32" => Dtype::I32,
        "uint16" => Dtype::U16,
        "int16" => Dtype::I16,
        "uint8" => Dtype::U8,
        "int8" => Dtype::I8,
        "bool" => Dtype::Bool,
        "complex64" => Dtype::C64,
        "complex128" => Dtype::C128,
        "float8_e4m3fn" => Dtype::F8_E4M3,
        "float8_e5m2" => Dtype::F8_E5M2,
        "float8_e8m0fnu" => Dtype::F8_E8M0,
        "float4_e2m1fn_x2" => Dtype::F4,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_views_in_order_are_contiguous() {
        assert!(contiguous(&[2, 3], &[3, 1]));
        assert!(contiguous(&[2, 1, 3], &[3, 99, 1]));
        assert!(contiguous(&[], &[]));
        assert!(!contiguous(&[3, 2], &[1, 3]));
        assert!(!contiguous(&[2, 3], &[3]));
        assert!(!contiguous(&[u64::MAX, u64::MAX, 2], &[1, 1, 2]));
    }

    #[test]
    fn storage_classes_of_every_device_are_known() {
        assert_eq!(dtype_of_class("torch.FloatStorage"), Some(Dtype::F32));
        assert_eq!(dtype_of_class("torch.cuda.HalfStorage"), Some(Dtype::F16));
        assert_eq!(
            dtype_of_class("torch.storage.UntypedStorage"),
            Some(Dtype::U8)
        );
        assert_eq!(dtype_of_class("os.FloatStorage"), None);
        assert_eq!(dtype_of_class("torch.SomeStorage"), None);
    }

    #[test]
    fn element_types_have_the_width_of_their_names() {
        for (name, bits) in [
            ("float64", 64),
            ("float32", 32),
            ("float16", 16),
            ("bfloat16", 16),
            ("uint64", 64),
            ("int64", 64),
            ("uint32", 32),
            ("int32", 32),
            ("uint16", 16),
            ("int16", 16),
            ("uint8", 8),
            ("int8", 8),
            ("bool", 8),
            ("complex64", 64),
            ("complex128", 128),
            ("float8_e4m3fn", 8),
            ("float8_e5m2", 8),
            ("float8_e8m0fnu", 8),
            ("float4_e2m1fn_x2", 4),
        ] {
            let dtype = dtype_of_name(&format!("torch.{name}")).unwrap();
            assert_eq!(dtype.bits_per_element(), f64::from(bits), "{name}");
            assert_eq!(dtype_of_name(name), None);
        }
        // Another meaning of the same bits is not that type.
        assert_eq!(dtype_of_name("torch.float8_e4m3fnuz"), None);
    }

    #[test]
    fn storage_classes_have_the_width_of_their_names() {
        for (class, width) in [
            ("DoubleStorage", 8),
            ("HalfStorage", 2),
            ("BFloat16Storage", 2),
            ("LongStorage", 8),
            ("IntStorage", 4),
            ("QInt32Storage", 4),
            ("ShortStorage", 2),
            ("CharStorage", 1),
            ("QInt8Storage", 1),
            ("BoolStorage", 1),
            ("ComplexFloatStorage", 8),
            ("ComplexDoubleStorage", 16),
            ("ByteStorage", 1),
            ("QUInt8Storage", 1),
            ("QUInt4x2Storage", 1),
            ("QUInt2x4Storage", 1),
            ("storage._UntypedStorage", 1),
        ] {
            let dtype = dtype_of_class(&format!("torch.{class}")).unwrap();
            assert_eq!(dtype.block(), (1, width), "{class}");
        }
    }

    #[test]
    fn a_storage_takes_a_shape_only_from_a_view_that_covers_it() {
        let storage = |n_elements, width| Storage {
            name: String::new(),
            dtype: Dtype::U8,
            n_elements,
            width,
            shape: None,
        };
        let view = |offset, shape: &[u64], dtype| View {
            storage: Value::None,
            offset,
            shape: Some(shape.to_vec()),
            dtype,
        };
        let seen = |mut storage: Storage, view: View| {
            storage.see(&view);
            (storage.dtype, storage.shape)
        };
        assert_eq!(
            seen(storage(6, 1), view(0, &[2, 3], None)),
            (Dtype::U8, Some(vec![2, 3]))
        );
        assert_eq!(seen(storage(6, 1), view(0, &[5], None)).1, None);
        assert_eq!(seen(storage(6, 1), view(1, &[6], None)).1, None);
        // An untyped storage of 6 bytes is 3 elements of 2.
        let u16s = view(0, &[3], Some(Dtype::U16));
        assert_eq!(seen(storage(6, 1), u16s), (Dtype::U16, Some(vec![3])));
        assert_eq!(
            seen(storage(u64::MAX, 2), view(0, &[u64::MAX, 2], None)).1,
            None
        );
    }
}
