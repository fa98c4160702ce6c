//! The values a pickle builds, kept symbolic: nothing is imported, called or resolved.
//!
//! All values live in one arena and refer to each other by number, so that cycles are harmless
//! and dropping a deep structure recurses nowhere. The arena's size is accounted and limited.

use crate::container::Container;
use crate::error::{Error, Result};

/// A value on the machine's stack or inside another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Value {
    None,
    Bool(bool),
    Int(i64),
    /// A number or object that no reader of tensors asks about.
    Other,
    Node(NodeId),
}

/// A value's place in the arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NodeId(u32);

impl NodeId {
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// A value that has parts.
#[derive(Debug)]
pub(crate) enum Node {
    Text(Text),
    /// `module.name` of something the pickle would import.
    Global(Box<str>),
    Tuple(Vec<Value>),
    /// A list or a set.
    List(Vec<Value>),
    Dict(Vec<(Value, Value)>),
    Object(Box<Object>),
    /// A reference that the reader of the pickle would resolve, such as a torch storage.
    Persistent(Value),
    Array(RawArray),
}

/// A string or byte string; only short ones are held, long ones are a place in the file.
#[derive(Debug)]
pub(crate) struct Text {
    pub(crate) offset: u64,
    pub(crate) len: u64,
    /// The text, if it is UTF-8 of at most [`TEXT_KEPT_MAX`] bytes.
    pub(crate) text: Option<Box<str>>,
    /// Whether the file holds the very bytes of the value, without escapes or encoding.
    pub(crate) raw: bool,
}

/// The result of a call that is never made: an instance with what it is built from.
#[derive(Debug)]
pub(crate) struct Object {
    pub(crate) class: Value,
    pub(crate) args: Value,
    pub(crate) state: Value,
    pub(crate) items: Vec<Value>,
    pub(crate) pairs: Vec<(Value, Value)>,
}

/// An array whose raw elements lie in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RawArray {
    pub(crate) offset: u64,
    pub(crate) len: u64,
    pub(crate) dtype: mmh_core::Dtype,
    /// Outermost dimension first, as the elements lie in the file.
    pub(crate) shape: Vec<u64>,
}

/// The arena.
#[derive(Debug, Default)]
pub(crate) struct Heap {
    nodes: Vec<Node>,
    used: usize,
}

impl Heap {
    /// Counts `len` more bytes against the limit.
    pub(crate) fn charge(&mut self, container: Container, len: usize) -> Result<()> {
        self.used = self.used.saturating_add(len);
        if self.used > MEMORY_MAX {
            let what = format!("the pickle's objects need more than {MEMORY_MAX} bytes");
            return Err(Error::too_large(container, what));
        }
        Ok(())
    }

    /// Adds a value.
    pub(crate) fn add(&mut self, container: Container, node: Node) -> Result<Value> {
        let parts = match &node {
            Node::Text(text) => text.text.as_ref().map_or(0, |t| t.len()),
            Node::Global(name) => name.len(),
            Node::Tuple(values) | Node::List(values) => size_of_val(values.as_slice()),
            Node::Dict(pairs) => size_of_val(pairs.as_slice()),
            Node::Object(_) => size_of::<Object>(),
            Node::Persistent(_) => 0,
            Node::Array(array) => size_of_val(array.shape.as_slice()),
        };
        self.charge(container, parts + size_of::<Node>())?;
        let id = u32::try_from(self.nodes.len())
            .map_err(|_| Error::too_large(container, "too many objects in the pickle"))?;
        self.nodes.push(node);
        Ok(Value::Node(NodeId(id)))
    }

    /// Every node with its number.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter()
    }

    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    pub(crate) fn node(&self, value: Value) -> Option<&Node> {
        match value {
            Value::Node(id) => self.nodes.get(id.index()),
            _ => None,
        }
    }

    pub(crate) fn node_mut(&mut self, value: Value) -> Option<&mut Node> {
        match value {
            Value::Node(id) => self.nodes.get_mut(id.index()),
            _ => None,
        }
    }

    pub(crate) fn text(&self, value: Value) -> Option<&str> {
        match self.node(value) {
            Some(Node::Text(text)) => text.text.as_deref(),
            _ => None,
        }
    }

    /// The place of a byte string that stands in the file as it is.
    pub(crate) fn raw(&self, value: Value) -> Option<(u64, u64)> {
        match self.node(value) {
            Some(Node::Text(text)) if text.raw => Some((text.offset, text.len)),
            _ => None,
        }
    }

    pub(crate) fn global(&self, value: Value) -> Option<&str> {
        match self.node(value) {
            Some(Node::Global(name)) => Some(name),
            _ => None,
        }
    }

    /// The elements of a tuple or list.
    pub(crate) fn elements(&self, value: Value) -> Option<&[Value]> {
        match self.node(value) {
            Some(Node::Tuple(values) | Node::List(values)) => Some(values),
            _ => None,
        }
    }

    pub(crate) fn object(&self, value: Value) -> Option<&Object> {
        match self.node(value) {
            Some(Node::Object(object)) => Some(object),
            _ => None,
        }
    }

    /// The value of `key` in a small dict: only the first few are looked at, so that a hostile
    /// pickle gains nothing by asking often.
    pub(crate) fn item(&self, dict: Value, key: &str) -> Option<Value> {
        let Some(Node::Dict(pairs)) = self.node(dict) else {
            return None;
        };
        pairs
            .iter()
            .take(FIELDS_MAX)
            .find(|(k, _)| self.text(*k) == Some(key))
            .map(|&(_, v)| v)
    }

    /// A shape or a stride: integers that are not negative, or `None`.
    pub(crate) fn dims(&self, value: Value) -> Option<Vec<u64>> {
        // `torch.Size` is pickled as a call with the tuple inside.
        let value = match self.object(value) {
            Some(object) if self.global(object.class) == Some("torch.Size") => {
                *self.elements(object.args)?.first()?
            }
            _ => value,
        };
        let elements = self.elements(value)?;
        if elements.len() > mmh_core::limits::TENSOR_RANK_MAX {
            return None;
        }
        elements
            .iter()
            .map(|v| match v {
                Value::Int(i) => u64::try_from(*i).ok(),
                _ => None,
            })
            .collect()
    }
}

/// Most bytes that the symbolic objects of one pickle may take.
pub(crate) const MEMORY_MAX: usize = 96 << 20;
/// Longest string that is held in memory; tensor names are not longer.
pub(crate) const TEXT_KEPT_MAX: u64 = mmh_core::limits::TENSOR_NAME_LEN_MAX as u64;
/// Most fields of a dict that are looked through for one.
const FIELDS_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    const C: Container = Container::Pickle;

    fn text(heap: &mut Heap, text: &str, raw: bool) -> Value {
        let text = Text {
            offset: 3,
            len: 4,
            text: Some(text.into()),
            raw,
        };
        heap.add(C, Node::Text(text)).unwrap()
    }

    #[test]
    fn a_value_is_asked_for_as_what_it_is() {
        let mut heap = Heap::default();
        let name = text(&mut heap, "name", true);
        let global = heap.add(C, Node::Global("os.system".into())).unwrap();
        let tuple = heap.add(C, Node::Tuple(vec![name, global])).unwrap();
        assert_eq!(heap.text(name), Some("name"));
        assert_eq!(heap.raw(name), Some((3, 4)));
        assert_eq!(heap.global(global), Some("os.system"));
        assert_eq!(heap.elements(tuple), Some(&[name, global][..]));
        for value in [global, tuple, Value::None, Value::Int(0), Value::Other] {
            assert_eq!(heap.text(value), None);
            assert_eq!(heap.raw(value), None);
            assert!(heap.object(value).is_none());
            assert_eq!(heap.item(value, "name"), None);
        }
        assert_eq!(heap.global(name), None);
        assert_eq!(heap.elements(global), None);
    }

    #[test]
    fn text_that_is_escaped_or_encoded_has_no_place() {
        let mut heap = Heap::default();
        let escaped = text(&mut heap, "name", false);
        assert_eq!(heap.raw(escaped), None);
    }

    #[test]
    fn dimensions_are_whole_numbers_in_a_tuple_list_or_size() {
        let mut heap = Heap::default();
        let tuple = heap
            .add(C, Node::Tuple(vec![Value::Int(2), Value::Int(0)]))
            .unwrap();
        assert_eq!(heap.dims(tuple), Some(vec![2, 0]));
        let list = heap.add(C, Node::List(vec![Value::Int(9)])).unwrap();
        assert_eq!(heap.dims(list), Some(vec![9]));
        let class = heap.add(C, Node::Global("torch.Size".into())).unwrap();
        let args = heap.add(C, Node::Tuple(vec![tuple])).unwrap();
        let (state, items, pairs) = (Value::None, Vec::new(), Vec::new());
        let object = Object {
            class,
            args,
            state,
            items,
            pairs,
        };
        let size = heap.add(C, Node::Object(Box::new(object))).unwrap();
        assert_eq!(heap.dims(size), Some(vec![2, 0]));
        for bad in [Value::Int(-1), Value::Bool(true), Value::Other, Value::None] {
            let tuple = heap.add(C, Node::Tuple(vec![bad])).unwrap();
            assert_eq!(heap.dims(tuple), None, "{bad:?}");
            assert_eq!(heap.dims(bad), None, "{bad:?}");
        }
        let many = vec![Value::Int(1); mmh_core::limits::TENSOR_RANK_MAX + 1];
        let many = heap.add(C, Node::Tuple(many)).unwrap();
        assert_eq!(heap.dims(many), None);
    }

    #[test]
    fn a_field_is_found_among_the_first_of_a_dict() {
        let mut heap = Heap::default();
        let key = text(&mut heap, "key", false);
        let mut pairs = vec![(Value::Int(0), Value::None); FIELDS_MAX - 1];
        pairs.push((key, Value::Int(5)));
        let dict = heap.add(C, Node::Dict(pairs.clone())).unwrap();
        assert_eq!(heap.item(dict, "key"), Some(Value::Int(5)));
        assert_eq!(heap.item(dict, "other"), None);
        pairs.insert(0, (Value::Int(0), Value::None));
        let dict = heap.add(C, Node::Dict(pairs)).unwrap();
        assert_eq!(heap.item(dict, "key"), None);
    }

    #[test]
    fn memory_is_counted_with_what_values_hold() {
        let mut heap = Heap::default();
        let values = vec![Value::None; MEMORY_MAX / size_of::<Value>() / 2];
        heap.add(C, Node::List(values.clone())).unwrap();
        let result = heap.add(C, Node::Tuple(values));
        assert!(matches!(result, Err(Error::TooLarge { .. })));
        assert!(
            heap.charge(C, usize::MAX).is_err(),
            "the count must not wrap"
        );
    }
}
