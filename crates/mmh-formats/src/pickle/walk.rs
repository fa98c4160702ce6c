//! Finds the arrays among a pickle's values and names each by its path from the root.
//!
//! Iterative and each value once, so depth and cycles are harmless. The first path wins.

use mmh_core::limits::TENSOR_NAME_LEN_MAX;

use crate::pickle::heap::{Heap, Node, Object, RawArray, Value};
use crate::pickle::numpy;
use crate::pickle::torch::{self, View};

/// Something that holds the elements of a tensor.
#[derive(Debug)]
pub(crate) enum Found<'a> {
    /// Elements in this file.
    Array(std::borrow::Cow<'a, RawArray>),
    /// A torch tensor.
    View(View),
    /// The persistent id of a torch storage.
    Storage(Value),
    /// A numpy array whose elements are written as text: they are in the file, but not as they
    /// lie in memory.
    Encoded,
    /// A torch file within this one.
    Blob { offset: u64, len: u64 },
}

/// Calls `visit` with the path and every array that is reachable from `root`.
pub(crate) fn walk<'a>(heap: &'a Heap, root: Value, mut visit: impl FnMut(&str, Found<'a>)) {
    let mut seen = vec![false; heap.len()];
    let mut path = String::new();
    let mut reported_len = 0;
    let mut frames: Vec<Frame> = Vec::new();
    let mut entering = Some((root, Role::Plain));
    loop {
        if let Some((value, role)) = entering.take()
            && let Value::Node(id) = value
            && let Some(seen) = seen.get_mut(id.index())
            && !std::mem::replace(seen, true)
        {
            let shown = if reported_len > PATHS_LEN_MAX {
                ""
            } else {
                &path
            };
            report(heap, value, shown, &mut |path: &str, found: Found<'a>| {
                reported_len += path.len();
                visit(path, found);
            });
            frames.push(Frame {
                value,
                role,
                next: 0,
                path_len: path.len(),
            });
        }
        let Some(frame) = frames.last_mut() else {
            return;
        };
        path.truncate(frame.path_len);
        match child(heap, frame) {
            Some((step, value, role)) => {
                frame.next += 1;
                extend(heap, &mut path, step);
                entering = Some((value, role));
            }
            None => drop(frames.pop()),
        }
    }
}

struct Frame {
    value: Value,
    role: Role,
    /// The child to visit next.
    next: usize,
    /// The length of this value's own path.
    path_len: usize,
}

/// What a value is to the one above it, where that changes how its own children are named.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Plain,
    /// The arguments of a call that rebuilds the first of them.
    Rebuilt,
    /// The arguments of an ordered dict: a list of pairs.
    DictArgs,
    /// The list of pairs itself.
    PairList,
}

/// How a child's path differs from its parent's.
enum Step {
    Same,
    Index(usize),
    Key(Value),
}

fn report<'a>(heap: &'a Heap, value: Value, path: &str, visit: &mut impl FnMut(&str, Found<'a>)) {
    match heap.node(value) {
        Some(Node::Array(array)) => visit(path, Found::Array(std::borrow::Cow::Borrowed(array))),
        Some(Node::Persistent(id)) => visit(path, Found::Storage(*id)),
        Some(Node::Object(object)) => {
            if let Some(array) = numpy::array(heap, object) {
                visit(path, Found::Array(std::borrow::Cow::Owned(array)));
            } else if let Some(view) = torch::view(heap, object.class, object.args) {
                visit(path, Found::View(view));
            } else if numpy::is_encoded(heap, object) {
                visit(path, Found::Encoded);
            } else if heap.global(object.class) == Some("torch.storage._load_from_bytes")
                && let Some(&[blob]) = heap.elements(object.args)
                && let Some((offset, len)) = heap.raw(blob)
            {
                visit(path, Found::Blob { offset, len });
            }
        }
        _ => {}
    }
}

fn child(heap: &Heap, frame: &Frame) -> Option<(Step, Value, Role)> {
    let next = frame.next;
    match heap.node(frame.value)? {
        Node::Tuple(values) | Node::List(values) => {
            let value = *values.get(next)?;
            Some(match frame.role {
                Role::Rebuilt if next == 0 => (Step::Same, value, Role::Plain),
                Role::DictArgs => (Step::Same, value, Role::PairList),
                Role::PairList => match heap.elements(value) {
                    Some(&[key, value]) => (Step::Key(key), value, Role::Plain),
                    _ => (Step::Index(next), value, Role::Plain),
                },
                _ => (Step::Index(next), value, Role::Plain),
            })
        }
        Node::Dict(pairs) => pairs
            .get(next)
            .map(|&(key, value)| (Step::Key(key), value, Role::Plain)),
        Node::Object(object) => child_of_object(heap, object, next),
        Node::Persistent(id) => (next == 0).then_some((Step::Same, *id, Role::Plain)),
        Node::Text(_) | Node::Global(_) | Node::Array(_) => None,
    }
}

fn child_of_object(heap: &Heap, object: &Object, next: usize) -> Option<(Step, Value, Role)> {
    let index = match next {
        0 => {
            let role = match heap.global(object.class) {
                Some("collections.OrderedDict") => Role::DictArgs,
                Some(name) if name.starts_with("torch._") => Role::Rebuilt,
                _ => Role::Plain,
            };
            return Some((Step::Same, object.args, role));
        }
        // An array of objects: only its elements have a place in names.
        1 => {
            let elements = numpy::objects(heap, object).unwrap_or(object.state);
            return Some((Step::Same, elements, Role::Plain));
        }
        _ => next - 2,
    };
    if let Some(&value) = object.items.get(index) {
        return Some((Step::Index(index), value, Role::Plain));
    }
    let &(key, value) = object.pairs.get(index - object.items.len())?;
    Some((Step::Key(key), value, Role::Plain))
}

/// Appends a step to the path, unless the name would become too long.
fn extend(heap: &Heap, path: &mut String, step: Step) {
    let component = match step {
        Step::Same => return,
        Step::Index(index) => index.to_string(),
        Step::Key(Value::Int(key)) => key.to_string(),
        Step::Key(key) => match heap.text(key) {
            // The attributes in which a module keeps what its state dict shows flat.
            None | Some("_parameters" | "_buffers" | "_modules") => return,
            Some(text) => text.to_owned(),
        },
    };
    if component.is_empty() || path.len() + 1 + component.len() > TENSOR_NAME_LEN_MAX {
        return;
    }
    if !path.is_empty() {
        path.push('.');
    }
    path.push_str(&component);
}

/// Most bytes of paths for one pickle; what is found beyond has none.
const PATHS_LEN_MAX: usize = 32 << 20;
