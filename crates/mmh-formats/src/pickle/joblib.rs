//! joblib: the raw elements of an array follow the opcode that finishes its wrapper.
//!
//! Layout: `NumpyArrayWrapper` in joblib's `numpy_pickle.py`. Since joblib 1.3 a byte holds the
//! number of padding bytes that follow it, so that the elements are aligned in the file.

use crate::error::Result;
use crate::pickle::heap::{Node, RawArray, Value};
use crate::pickle::machine::Machine;
use crate::pickle::numpy::{self, Kind};

/// If `target` is now a complete wrapper, locates the elements behind it, makes it an array and
/// moves the machine behind them.
pub(crate) fn after_build(machine: &mut Machine<'_>, target: Value) -> Result<()> {
    let heap = &machine.heap;
    let Some(object) = heap.object(target) else {
        return Ok(());
    };
    if heap.global(object.class) != Some("joblib.numpy_pickle.NumpyArrayWrapper") {
        return Ok(());
    }
    let field = |name| heap.item(object.state, name);
    let kind = field("dtype").and_then(|d| numpy::kind(heap, d));
    let shape = field("shape").and_then(|s| heap.dims(s));
    let (Some(kind), Some(mut shape)) = (kind, shape) else {
        return Err(machine.malformed("a joblib array whose type or shape is not known"));
    };
    let aligned = matches!(field("numpy_array_alignment_bytes"), Some(Value::Int(_)));
    let fortran = field("order").and_then(|o| heap.text(o)) == Some("F");
    if kind == Kind::Objects {
        let value = machine.nested()?;
        replace(machine, target, Node::Persistent(value));
        return Ok(());
    }
    if aligned {
        let padding = machine.u8()?;
        machine.skip(u64::from(padding))?;
    }
    let offset = machine.at();
    let elements = shape.iter().try_fold(1u64, |n, &d| n.checked_mul(d));
    let len = elements.and_then(|n| n.checked_mul(kind.width()));
    let Some(len) = len else {
        return Err(machine.malformed("a joblib array of impossible size"));
    };
    machine.skip(len)?;
    if let Kind::Known(dtype) = kind {
        if fortran {
            shape.reverse();
        }
        machine
            .heap
            .charge(machine.container, shape.len() * size_of::<u64>())?;
        replace(
            machine,
            target,
            Node::Array(RawArray {
                offset,
                len,
                dtype,
                shape,
            }),
        );
    }
    Ok(())
}

fn replace(machine: &mut Machine<'_>, target: Value, node: Node) {
    if let Some(slot) = machine.heap.node_mut(target) {
        *slot = node;
    }
}
