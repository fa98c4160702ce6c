//! ONNX models: initializers and constants are found by walking the protobuf.
//!
//! Specification: `onnx.proto3` of the ONNX project. Raw data is located in the file, or named
//! in the file beside it that the model points to; typed fields are located where the wire holds
//! them as fixed-width numbers (floats and doubles). Numbers stored as varints are bytes.

use std::ops::Range;

use mmh_core::{Dtype, TensorInfo, limits};

use crate::container::Container;
use crate::error::Result;
use crate::externals::Externals;
use crate::layout::{Layout, LayoutBuilder};
use crate::protobuf::{Fields, Value};
use crate::read_at::ReadAt;
use crate::reader::Reader;

/// Deepest nesting of graphs inside attributes of nodes.
const GRAPH_DEPTH_MAX: u32 = 16;
/// Most protobuf fields read from one file: a model has some hundreds for each node.
const FIELDS_MAX: u64 = 1 << 25;
/// Most attributes of a node that are looked at; the largest operators have some dozens.
const ATTRIBUTES_MAX: usize = 4096;
/// Most external data entries of a tensor that are looked at; five are specified.
const ENTRIES_MAX: usize = 16;
/// Longest key or value of an external data entry that is read, in bytes.
const ENTRY_LEN_MAX: u64 = 4096;

/// Whether a file named `name` that begins with `head` may be an ONNX model. The format has no
/// magic: the name must agree with the first field, or the first fields must be the version of
/// the format, the name of the producer and one of those that come next.
#[must_use]
pub fn matches(head: &[u8], name: &str) -> bool {
    let produced = match head {
        [0x08, 1..=0x1f, 0x12, len @ 1..=0x7f, rest @ ..] => {
            let (producer, next) = rest.split_at_checked(usize::from(*len)).unwrap_or_default();
            !producer.is_empty()
                && producer.iter().all(|byte| (0x20..0x7f).contains(byte))
                && matches!(next, [0x1a | 0x22 | 0x28 | 0x32 | 0x3a | 0x42, ..])
        }
        _ => false,
    };
    let named = name.to_ascii_lowercase().ends_with(".onnx");
    produced || named && matches!(head, [0x08, 1..=0x7f, ..] | [0x3a, ..])
}

/// Locates the tensors of an ONNX model.
///
/// # Errors
/// [`crate::Error::Malformed`] if the file is not a model or contradicts itself,
/// [`crate::Error::TooLarge`] beyond limits, [`crate::Error::Io`] if it cannot be read.
pub fn parse(source: &dyn ReadAt) -> Result<Layout> {
    let mut walk = Walk {
        reader: Reader::new(source, Container::Onnx),
        builder: LayoutBuilder::new(Container::Onnx, source.len()),
        externals: Externals::default(),
        n_fields: 0,
    };
    walk.model(0..source.len())?;
    walk.externals.finish(&mut walk.builder)?;
    walk.builder.finish()
}

/// The layout of a file that holds external data, from what its index says about it. Claims
/// that contradict each other or the file's length make it plain bytes with a note.
#[must_use]
pub fn external_layout(len: u64, tensors: &[(u64, u64, TensorInfo)]) -> Layout {
    let mut builder = LayoutBuilder::new(Container::External, len);
    let placed = tensors.iter().try_for_each(|(offset, len, info)| {
        if info.bytes() == Some(*len) {
            builder.tensor(*offset, *len, info.clone())
        } else {
            builder.storage(*offset, *len, info.name.clone(), info.dtype)
        }
    });
    match placed.and_then(|()| builder.finish()) {
        Ok(layout) => layout,
        Err(why) => Layout::bytes(Container::Unknown, len).with_note(why.to_string()),
    }
}

struct Walk<'a> {
    reader: Reader<'a>,
    builder: LayoutBuilder,
    externals: Externals,
    n_fields: u64,
}

/// What a `TensorProto` says, before it is judged.
#[derive(Default)]
struct Tensor {
    name: String,
    dims: Vec<u64>,
    data_type: u64,
    raw: Option<Range<u64>>,
    packed: Option<Range<u64>>,
    external: Vec<(String, String)>,
}

impl Walk<'_> {
    fn next(&mut self, fields: &mut Fields) -> Result<Option<(u32, Value)>> {
        self.n_fields += 1;
        if self.n_fields > FIELDS_MAX {
            return Err(self.reader.too_large("too many protobuf fields"));
        }
        Ok(fields
            .read(&mut self.reader)?
            .map(|field| (field.number, field.value)))
    }

    fn model(&mut self, range: Range<u64>) -> Result<()> {
        let mut has_graph = false;
        let mut fields = Fields::new(range);
        while let Some((number, value)) = self.next(&mut fields)? {
            match (number, value) {
                (7, Value::Bytes(graph)) => {
                    has_graph = true;
                    self.graph(graph, 0)?;
                }
                (20, Value::Bytes(training)) => self.training(training)?,
                (25, Value::Bytes(function)) => self.function(function)?,
                _ => {}
            }
        }
        if has_graph {
            Ok(())
        } else {
            Err(self.reader.malformed("a model without a graph"))
        }
    }

    /// `TrainingInfoProto`: two graphs.
    fn training(&mut self, range: Range<u64>) -> Result<()> {
        let mut fields = Fields::new(range);
        while let Some((number, value)) = self.next(&mut fields)? {
            if let (1 | 2, Value::Bytes(graph)) = (number, value) {
                self.graph(graph, 0)?;
            }
        }
        Ok(())
    }

    /// `FunctionProto`: nodes.
    fn function(&mut self, range: Range<u64>) -> Result<()> {
        let mut fields = Fields::new(range);
        while let Some((number, value)) = self.next(&mut fields)? {
            if let (7, Value::Bytes(node)) = (number, value) {
                self.node(node, 0)?;
            }
        }
        Ok(())
    }

    fn graph(&mut self, range: Range<u64>, depth: u32) -> Result<()> {
        if depth > GRAPH_DEPTH_MAX {
            return Err(self.reader.too_large("graphs nested too deep"));
        }
        let mut fields = Fields::new(range);
        while let Some((number, value)) = self.next(&mut fields)? {
            match (number, value) {
                (1, Value::Bytes(node)) => self.node(node, depth)?,
                (5, Value::Bytes(tensor)) => self.tensor(tensor, "")?,
                (15, Value::Bytes(sparse)) => self.sparse(sparse, "")?,
                _ => {}
            }
        }
        Ok(())
    }

    /// A node's tensors are in its attributes; they are named after its first output. Fields
    /// may come in any order, so the name is looked for first.
    fn node(&mut self, range: Range<u64>, depth: u32) -> Result<()> {
        let mut name = String::new();
        let mut attributes = Vec::new();
        let mut fields = Fields::new(range);
        while let Some((number, value)) = self.next(&mut fields)? {
            match (number, value) {
                (2, Value::Bytes(output)) if name.is_empty() => name = self.name(&output)?,
                (5, Value::Bytes(attribute)) if attributes.len() < ATTRIBUTES_MAX => {
                    attributes.push(attribute);
                }
                _ => {}
            }
        }
        attributes
            .into_iter()
            .try_for_each(|attribute| self.attribute(attribute, depth, &name))
    }

    fn attribute(&mut self, range: Range<u64>, depth: u32, name: &str) -> Result<()> {
        let mut fields = Fields::new(range);
        while let Some((number, value)) = self.next(&mut fields)? {
            match (number, value) {
                (5 | 10, Value::Bytes(tensor)) => self.tensor(tensor, name)?,
                (6 | 11, Value::Bytes(graph)) => self.graph(graph, depth + 1)?,
                (22 | 23, Value::Bytes(sparse)) => self.sparse(sparse, name)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// `SparseTensorProto`: values and indices, each a tensor.
    fn sparse(&mut self, range: Range<u64>, name: &str) -> Result<()> {
        let mut fields = Fields::new(range);
        while let Some((number, value)) = self.next(&mut fields)? {
            if let (1 | 2, Value::Bytes(tensor)) = (number, value) {
                self.tensor(tensor, name)?;
            }
        }
        Ok(())
    }

    fn tensor(&mut self, range: Range<u64>, fallback_name: &str) -> Result<()> {
        let mut tensor = Tensor::default();
        let mut fields = Fields::new(range);
        while let Some((number, value)) = self.next(&mut fields)? {
            match (number, value) {
                (1, Value::Varint(dim)) => self.dim(&mut tensor, dim)?,
                (1, Value::Bytes(dims)) => {
                    let mut packed = Fields::new(dims);
                    while let Some(dim) = packed.packed(&mut self.reader)? {
                        self.dim(&mut tensor, dim)?;
                    }
                }
                (2, Value::Varint(data_type)) => tensor.data_type = data_type,
                (4 | 10, Value::Bytes(packed)) => tensor.packed = Some(packed),
                (8, Value::Bytes(name)) => tensor.name = self.name(&name)?,
                (9, Value::Bytes(raw)) => tensor.raw = Some(raw),
                (13, Value::Bytes(entry)) if tensor.external.len() < ENTRIES_MAX => {
                    tensor.external.push(self.entry(entry)?)
                }
                _ => {}
            }
        }
        if tensor.name.is_empty() {
            fallback_name.clone_into(&mut tensor.name);
        }
        self.place(tensor)
    }

    fn dim(&self, tensor: &mut Tensor, dim: u64) -> Result<()> {
        if tensor.dims.len() >= limits::TENSOR_RANK_MAX {
            return Err(self.reader.too_large("tensor rank"));
        }
        tensor.dims.push(dim);
        Ok(())
    }

    fn name(&self, range: &Range<u64>) -> Result<String> {
        let max = limits::TENSOR_NAME_LEN_MAX as u64;
        let len = (range.end - range.start).min(max);
        let mut name = self.reader.text(range.start, len, max)?;
        while name.len() > limits::TENSOR_NAME_LEN_MAX {
            name.pop();
        }
        Ok(name)
    }

    /// `StringStringEntryProto`.
    fn entry(&mut self, range: Range<u64>) -> Result<(String, String)> {
        let mut entry = (String::new(), String::new());
        let mut fields = Fields::new(range);
        while let Some((number, value)) = self.next(&mut fields)? {
            if let (1 | 2, Value::Bytes(text)) = (number, value) {
                let len = text.end - text.start;
                let text = self.reader.text(text.start, len, ENTRY_LEN_MAX)?;
                if number == 1 {
                    entry.0 = text
                } else {
                    entry.1 = text
                }
            }
        }
        Ok(entry)
    }

    fn place(&mut self, tensor: Tensor) -> Result<()> {
        let Some(dtype) = dtype(tensor.data_type) else {
            return Ok(());
        };
        let info = TensorInfo {
            name: tensor.name,
            dtype,
            shape: tensor.dims,
        };
        if !tensor.external.is_empty() {
            return self.place_external(info, &tensor.external);
        }
        let packed = tensor
            .packed
            .filter(|_| matches!(dtype, Dtype::F32 | Dtype::F64 | Dtype::C64 | Dtype::C128));
        let Some(data) = tensor.raw.or(packed) else {
            return Ok(());
        };
        let len = data.end - data.start;
        if matches!(dtype, Dtype::I4 | Dtype::U4 | Dtype::F4) && info.bytes().is_none() {
            // An odd number of elements leaves half a byte unused.
            return self.builder.storage(data.start, len, info.name, dtype);
        }
        self.builder.tensor(data.start, len, info)
    }

    fn place_external(&mut self, info: TensorInfo, entries: &[(String, String)]) -> Result<()> {
        let value = |key: &str| {
            entries
                .iter()
                .find(|(k, _)| k == key)
                .map(|(_, v)| v.as_str())
        };
        let number = |key: &str| match value(key) {
            Some(text) => text.parse::<u64>().map(Some).map_err(|_| {
                let text = mmh_core::error::shorten(text);
                self.reader
                    .malformed(format!("external data with {key} `{text}`"))
            }),
            None => Ok(None),
        };
        let offset = number("offset")?.unwrap_or(0);
        let given = number("length")?;
        let Some(len) = given.or(info.bytes()) else {
            return Err(self.reader.malformed("external data without a length"));
        };
        let location = value("location")
            .ok_or_else(|| self.reader.malformed("external data without a location"))?;
        self.externals
            .push(Container::Onnx, location, (offset, len), info)
    }
}

/// `TensorProto.DataType`; `None` for strings and types that have no fixed width.
fn dtype(data_type: u64) -> Option<Dtype> {
    Some(match data_type {
        1 => Dtype::F32,
        2 => Dtype::U8,
        3 => Dtype::I8,
        4 => Dtype::U16,
        5 => Dtype::I16,
        6 => Dtype::I32,
        7 => Dtype::I64,
        9 => Dtype::Bool,
        10 => Dtype::F16,
        11 => Dtype::F64,
        12 => Dtype::U32,
        13 => Dtype::U64,
        14 => Dtype::C64,
        15 => Dtype::C128,
        16 => Dtype::BF16,
        17 => Dtype::F8_E4M3,
        19 => Dtype::F8_E5M2,
        // The FNUZ variants of FP8 have another bias and another NaN, and no name of their own.
        18 | 20 => Dtype::U8,
        21 => Dtype::U4,
        22 => Dtype::I4,
        23 => Dtype::F4,
        24 => Dtype::F8_E8M0,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::error::Error;
    use crate::hostile::attack;
    use crate::samples::SampleTensor;
    use crate::samples::onnx::{
        around, bytes_field, embedded, external, header, model, varint_field,
    };

    fn tensors() -> Vec<SampleTensor> {
        vec![
            SampleTensor::new("weight", Dtype::F32, &[3, 2]),
            SampleTensor::new("half", Dtype::F16, &[5]),
            SampleTensor::new("bias", Dtype::I64, &[]),
            SampleTensor::new("empty", Dtype::F32, &[0, 4]),
            SampleTensor::new("nibbles", Dtype::I4, &[2, 3]),
        ]
    }

    #[test]
    fn initializers_with_raw_data_are_found() {
        let file = embedded(&tensors());
        let layout = parse(&file).unwrap();
        assert!(matches(&file, "Model.ONNX"));
        assert!(matches(&file, "without a name"));
        assert!(matches(&file[7..], "graph first.onnx") == (file[7] == 0x3a));
        assert!(!matches(b"\x08\x01\x12\x05ab\x0acd\x3a", "saved_model.pb"));
        assert_eq!(layout.container(), Container::Onnx);
        crate::samples::assert_holds(&layout, &file, &tensors());
    }

    #[test]
    fn external_data_is_named_and_laid_out() {
        let (file, data) = external(&tensors(), "weights/model.data");
        let layout = parse(&file).unwrap();
        assert_eq!(layout.tensors().count(), 0);
        let [found] = layout.externals() else {
            panic!("one external file")
        };
        assert_eq!(found.location, "weights/model.data");
        let layout = external_layout(data.len() as u64, &found.tensors);
        assert_eq!(layout.container(), Container::External);
        crate::samples::assert_holds(&layout, &data, &tensors());
    }

    #[test]
    fn claims_beyond_the_external_file_make_it_bytes() {
        let (file, data) = external(&tensors(), "d");
        let claims = &parse(&file).unwrap().externals()[0].tensors.clone();
        let layout = external_layout(data.len() as u64 - 1, claims);
        assert_eq!(layout.container(), Container::Unknown);
        assert!(layout.note().is_some());
        let info = SampleTensor::new("odd", Dtype::F32, &[4]).info();
        let storage = external_layout(12, &[(0, 12, info)]);
        assert_eq!(storage.tensors().next().unwrap().1.shape, [3]);
    }

    #[test]
    fn external_data_outside_the_folder_is_refused() {
        let (file, _) = external(&tensors(), "../secret");
        assert!(matches!(parse(&file), Err(Error::Malformed { .. })));
    }

    /// The tensor of a Constant node within a subgraph within a node.
    #[test]
    fn constants_in_subgraphs_are_named_after_their_output() {
        let mut constant = SampleTensor::new("", Dtype::F32, &[2]);
        let mut proto = header(&constant);
        bytes_field(&mut proto, 9, &constant.data);
        let node = |field: u64, value: &[u8], output: &[u8]| {
            let mut attribute = Vec::new();
            bytes_field(&mut attribute, field, value);
            let mut node = Vec::new();
            bytes_field(&mut node, 5, &attribute);
            bytes_field(&mut node, 2, output);
            let mut graph = Vec::new();
            bytes_field(&mut graph, 1, &node);
            graph
        };
        let inner = node(5, &proto, b"constant_out");
        let file = around(&node(6, &inner, b"if_out"));
        constant.name = "constant_out".to_owned();
        crate::samples::assert_holds(&parse(&file).unwrap(), &file, &[constant]);
        let deep = (0..40).fold(inner, |graph, _| node(11, &graph, b"x"));
        assert!(matches!(parse(&around(&deep)), Err(Error::TooLarge { .. })));
    }

    #[test]
    fn sparse_training_and_function_tensors_are_found() {
        let tensors = ["a", "b", "c"].map(|name| SampleTensor::new(name, Dtype::F32, &[2]));
        let protos = tensors.each_ref().map(|tensor| {
            let mut proto = header(tensor);
            bytes_field(&mut proto, 9, &tensor.data);
            proto
        });
        let nest = |path: &[u64], proto: &[u8]| {
            path.iter().fold(proto.to_vec(), |inner, &field| {
                let mut outer = Vec::new();
                bytes_field(&mut outer, field, &inner);
                outer
            })
        };
        let mut file = nest(&[1, 15, 7], &protos[0]);
        file.extend(nest(&[5, 1, 20], &protos[1]));
        file.extend(nest(&[5, 5, 7, 25], &protos[2]));
        crate::samples::assert_holds(&parse(&file).unwrap(), &file, &tensors);
    }

    #[test]
    fn packed_floats_are_located_and_varints_are_not() {
        let float = SampleTensor::new("float", Dtype::F32, &[3]);
        let int = SampleTensor::new("int", Dtype::I32, &[2]);
        let mut protos = [header(&float), header(&int)];
        bytes_field(&mut protos[0], 4, &float.data);
        bytes_field(&mut protos[1], 5, &[1, 2]);
        let file = model(&protos);
        crate::samples::assert_holds(&parse(&file).unwrap(), &file, &[float]);
    }

    #[test]
    fn sizes_that_disagree_are_refused() {
        let tensor = SampleTensor::new("w", Dtype::F32, &[3]);
        let mut proto = header(&tensor);
        bytes_field(&mut proto, 9, &tensor.data[..8]);
        assert!(matches!(
            parse(&model(&[proto])),
            Err(Error::Malformed { .. })
        ));
        let mut ranks = header(&tensor);
        (0..70).for_each(|_| varint_field(&mut ranks, 1, 1));
        assert!(matches!(
            parse(&model(&[ranks])),
            Err(Error::TooLarge { .. })
        ));
        assert!(parse(&vec![0x08, 0x08]).is_err(), "a model without a graph");
    }

    #[test]
    fn withstands_bad_input() {
        attack(parse, &embedded(&tensors()), 2000);
        attack(parse, &external(&tensors(), "d").0, 2000);
    }

    proptest! {
        #[test]
        fn any_shapes_come_back(shapes in prop::collection::vec((0usize..8, prop::collection::vec(0u64..5, 0..4)), 0..6)) {
            let types = [Dtype::F32, Dtype::F16, Dtype::BF16, Dtype::F64, Dtype::I8, Dtype::U8, Dtype::Bool, Dtype::F8_E4M3];
            let tensors: Vec<_> = shapes.iter().enumerate()
                .map(|(i, (dtype, shape))| SampleTensor::new(&format!("t{i}"), types[*dtype], shape))
                .collect();
            let file = embedded(&tensors);
            crate::samples::assert_holds(&parse(&file).unwrap(), &file, &tensors);
        }
    }
}
