//! The stack machine of pickle protocols 0 to 5, run symbolically over a stream.
//!
//! Opcodes: `pickletools.py` of CPython. Byte strings are never loaded, only located. Every loop
//! consumes input; stack, memo, objects and opcode count are limited.

use std::mem;

use crate::container::Container;
use crate::error::{Error, Result};
use crate::pickle::heap::{Heap, Node, TEXT_KEPT_MAX, Text, Value};
use crate::read_at::ReadAt;
use crate::reader::Reader;

/// What one pickle builds.
#[derive(Debug)]
pub(crate) struct Pickle {
    pub(crate) heap: Heap,
    pub(crate) root: Value,
    /// The offset behind the pickle's last opcode.
    pub(crate) end: u64,
}

/// Runs the pickle that begins at `offset`.
///
/// # Errors
/// [`Error::Malformed`] if it is none or ends early; [`Error::TooLarge`] beyond the limits.
pub(crate) fn scan(source: &dyn ReadAt, container: Container, offset: u64) -> Result<Pickle> {
    scan_within(source, container, offset, OPS_MAX)
}

/// As [`scan`], with at most `ops` opcodes.
fn scan_within(source: &dyn ReadAt, container: Container, offset: u64, ops: u64) -> Result<Pickle> {
    let mut machine = Machine {
        reader: Reader::new(source, container),
        container,
        at: offset,
        ops_left: ops,
        heap: Heap::default(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: Vec::new(),
        depth: 0,
    };
    let root = machine.run()?;
    Ok(Pickle {
        heap: machine.heap,
        root,
        end: machine.at,
    })
}

pub(crate) struct Machine<'a> {
    pub(super) reader: Reader<'a>,
    pub(crate) container: Container,
    /// The offset of the next byte to read.
    pub(super) at: u64,
    ops_left: u64,
    pub(crate) heap: Heap,
    pub(super) stack: Vec<Value>,
    pub(super) marks: Vec<usize>,
    pub(super) memo: Vec<Option<Value>>,
    /// How many pickles this one lies within.
    depth: u32,
}

impl Machine<'_> {
    fn run(&mut self) -> Result<Value> {
        loop {
            self.ops_left = self
                .ops_left
                .checked_sub(1)
                .ok_or_else(|| self.too_large("more opcodes than are read"))?;
            let op = self.u8()?;
            match op {
                b'.' => return self.pop(),
                b'N' | b'I' | b'J' | b'K' | b'M' | b'L' | b'F' | b'G' | 0x88..=0x8b => {
                    self.number(op)?;
                }
                b'S' | b'T' | b'U' | b'V' | b'X' | b'B' | b'C' | 0x8c..=0x8e | 0x96 => {
                    self.string(op)?;
                }
                b'('
                | b'0'
                | b'1'
                | b'2'
                | b')'
                | b']'
                | b'}'
                | b't'
                | b'l'
                | b'd'
                | 0x85..=0x87
                | 0x8f
                | 0x91 => self.collection(op)?,
                b'a' | b'e' | b's' | b'u' | 0x90 => self.extend(op)?,
                b'p' | b'q' | b'r' | b'g' | b'h' | b'j' | 0x94 => self.remember(op)?,
                b'c' | b'i' | b'o' | b'R' | b'b' | 0x81 | 0x92 | 0x93 => self.construct(op)?,
                b'P' | b'Q' | 0x82..=0x84 | 0x97 => self.outside(op)?,
                0x80 => self.protocol()?,
                0x95 => self.skip(8)?, // FRAME: a hint for buffering
                0x98 => {}             // READONLY_BUFFER changes no content
                _ => return Err(self.malformed(&format!("unknown opcode {op:#04x}"))),
            }
        }
    }

    /// Runs the pickle that begins here with a stack and memo of its own.
    pub(crate) fn nested(&mut self) -> Result<Value> {
        let stack = mem::take(&mut self.stack);
        let marks = mem::take(&mut self.marks);
        let memo = mem::take(&mut self.memo);
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(self.too_large("pickles within pickles too deep"));
        }
        let value = self.run()?;
        self.depth -= 1;
        (self.stack, self.marks, self.memo) = (stack, marks, memo);
        Ok(value)
    }

    pub(crate) fn at(&self) -> u64 {
        self.at
    }

    pub(crate) fn malformed(&self, reason: &str) -> Error {
        Error::malformed(self.container, format!("pickle at {}: {reason}", self.at))
    }

    pub(super) fn too_large(&self, reason: &str) -> Error {
        Error::too_large(self.container, format!("pickle at {}: {reason}", self.at))
    }

    pub(crate) fn u8(&mut self) -> Result<u8> {
        let byte = self.reader.u8(self.at)?;
        self.at += 1;
        Ok(byte)
    }

    pub(super) fn uint(&mut self, width: u8) -> Result<u64> {
        let value = self.reader.uint(self.at, width)?;
        self.at += u64::from(width);
        Ok(value)
    }

    /// Goes on behind the next `len` bytes.
    pub(crate) fn skip(&mut self, len: u64) -> Result<()> {
        self.at = self.reader.end(self.at, len)?;
        Ok(())
    }

    /// A line without its line feed: its place, and its text if it is short UTF-8.
    pub(super) fn line(&mut self) -> Result<Text> {
        let offset = self.at;
        let mut kept = Vec::new();
        loop {
            let byte = self.u8()?;
            if byte == b'\n' {
                break;
            }
            if kept.len() as u64 <= TEXT_KEPT_MAX {
                kept.push(byte);
            }
        }
        let len = self.at - 1 - offset;
        let text = if len <= TEXT_KEPT_MAX {
            String::from_utf8(kept).ok()
        } else {
            None
        };
        Ok(Text {
            offset,
            len,
            text: text.map(String::into_boxed_str),
            raw: false,
        })
    }

    pub(super) fn short_line(&mut self) -> Result<Box<str>> {
        let line = self.line()?;
        line.text
            .ok_or_else(|| self.malformed("a line that is no short text"))
    }

    pub(super) fn push(&mut self, value: Value) -> Result<()> {
        if self.stack.len() >= STACK_MAX {
            return Err(self.too_large("stack deeper than is kept"));
        }
        self.stack.push(value);
        Ok(())
    }

    pub(super) fn push_node(&mut self, node: Node) -> Result<()> {
        let value = self.heap.add(self.container, node)?;
        self.push(value)
    }

    /// Takes the top value, which must lie above the last mark.
    pub(super) fn pop(&mut self) -> Result<Value> {
        let floor = self.marks.last().copied().unwrap_or(0);
        let value = if self.stack.len() > floor {
            self.stack.pop()
        } else {
            None
        };
        value.ok_or_else(|| self.malformed("stack underflow"))
    }

    pub(super) fn top(&self) -> Result<Value> {
        let floor = self.marks.last().copied().unwrap_or(0);
        let value = self.stack.get(floor..).and_then(<[Value]>::last);
        value
            .copied()
            .ok_or_else(|| self.malformed("stack underflow"))
    }

    pub(super) fn pop_n(&mut self, n: usize) -> Result<Vec<Value>> {
        let floor = self.marks.last().copied().unwrap_or(0);
        match self.stack.len().checked_sub(n) {
            Some(from) if from >= floor => Ok(self.stack.split_off(from)),
            _ => Err(self.malformed("stack underflow")),
        }
    }

    /// Takes everything above the last mark, and the mark.
    pub(super) fn pop_mark(&mut self) -> Result<Vec<Value>> {
        let mark = self
            .marks
            .pop()
            .ok_or_else(|| self.malformed("no mark on the stack"))?;
        // Marks never lie above the stack: `pop` stops at the last one.
        Ok(self.stack.split_off(mark.min(self.stack.len())))
    }

    pub(super) fn pop_pairs(&mut self) -> Result<Vec<(Value, Value)>> {
        let values = self.pop_mark()?;
        let (pairs, rest) = values.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(self.malformed("a key without a value"));
        }
        Ok(pairs.iter().map(|&[key, value]| (key, value)).collect())
    }

    fn protocol(&mut self) -> Result<()> {
        match self.u8()? {
            0..=5 => Ok(()),
            version => Err(self.malformed(&format!("protocol {version} is not known"))),
        }
    }
}

/// Most values on the stack: one tuple of a million items.
const STACK_MAX: usize = 1 << 20;
/// Most opcodes of one pickle: a few seconds.
const OPS_MAX: u64 = 1 << 26;
/// Deepest nesting of pickles; joblib makes one level.
const DEPTH_MAX: u32 = 4;
/// Largest step between memo keys.
pub(super) const MEMO_GAP_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    /// The opcodes of a pickle that needs no array.
    fn run(pickle: &[u8]) -> Result<Pickle> {
        scan(&pickle.to_vec(), Container::Pickle, 0)
    }

    fn root(pickle: &[u8]) -> Value {
        run(pickle).unwrap().root
    }

    /// What a pickle builds, written as Python would, to compare it with.
    fn show(heap: &Heap, value: Value) -> String {
        let list = |values: &[Value]| {
            values
                .iter()
                .map(|&v| show(heap, v))
                .collect::<Vec<_>>()
                .join(", ")
        };
        let pairs = |pairs: &[(Value, Value)]| {
            let pairs = pairs
                .iter()
                .map(|&(k, v)| format!("{}: {}", show(heap, k), show(heap, v)));
            pairs.collect::<Vec<_>>().join(", ")
        };
        let Some(node) = heap.node(value) else {
            return format!("{value:?}");
        };
        match node {
            Node::Text(text) => format!("{:?}", text.text.as_deref().unwrap_or("?")),
            Node::Global(name) => name.to_string(),
            Node::Tuple(values) => format!("({})", list(values)),
            Node::List(values) => format!("[{}]", list(values)),
            Node::Dict(items) => format!("{{{}}}", pairs(items)),
            Node::Persistent(id) => format!("@{}", show(heap, *id)),
            Node::Array(array) => format!("{array:?}"),
            Node::Object(object) => format!(
                "{}{}/{}[{}]{{{}}}",
                show(heap, object.class),
                show(heap, object.args),
                show(heap, object.state),
                list(&object.items),
                pairs(&object.pairs)
            ),
        }
    }

    fn shown(pickle: &[u8]) -> String {
        let pickle = run(pickle).unwrap();
        show(&pickle.heap, pickle.root)
    }

    #[test]
    fn numbers_of_every_protocol() {
        let cases: [(&[u8], Value); 18] = [
            (b"N.", Value::None),
            (b"\x88.", Value::Bool(true)),
            (b"\x89.", Value::Bool(false)),
            (b"K\xff.", Value::Int(255)),
            (b"M\x01\x02.", Value::Int(513)),
            (b"J\xfe\xff\xff\xff.", Value::Int(-2)),
            (b"I-17\n.", Value::Int(-17)),
            (b"I01\n.", Value::Bool(true)),
            (b"I00\n.", Value::Bool(false)),
            (b"L12L\n.", Value::Int(12)),
            (b"L99999999999999999999L\n.", Value::Other),
            (b"F1.5\n.", Value::Other),
            (b"G\0\0\0\0\0\0\0\0.", Value::Other),
            (b"\x8a\0.", Value::Int(0)),
            (b"\x8a\x01\xff.", Value::Int(-1)),
            (b"\x8a\x02\xff\0.", Value::Int(255)),
            (b"\x8b\x08\0\0\0\0\0\0\0\0\0\0\x80.", Value::Int(i64::MIN)),
            (b"\x8a\x09\0\0\0\0\0\0\0\0\x01.", Value::Other),
        ];
        for (pickle, expected) in cases {
            assert_eq!(root(pickle), expected, "{pickle:?}");
        }
    }

    #[test]
    fn strings_of_every_protocol() {
        let cases: [(&[u8], &str); 12] = [
            (b"S'ab'\n.", "ab"),
            (b"S\"a'b\"\n.", "a'b"),
            (b"Vab\n.", "ab"),
            (b"T\x02\0\0\0ab.", "ab"),
            (b"U\x02ab.", "ab"),
            (b"X\x02\0\0\0ab.", "ab"),
            (b"\x8c\x02ab.", "ab"),
            (b"\x8d\x02\0\0\0\0\0\0\0ab.", "ab"),
            (b"B\x02\0\0\0ab.", "ab"),
            (b"C\x02ab.", "ab"),
            (b"\x8e\x02\0\0\0\0\0\0\0ab.", "ab"),
            (b"\x96\x02\0\0\0\0\0\0\0ab.", "ab"),
        ];
        for (bytes, expected) in cases {
            let pickle = run(bytes).unwrap();
            assert_eq!(pickle.heap.text(pickle.root), Some(expected), "{bytes:?}");
            // Only binary strings stand in the file as they are.
            let raw = pickle.heap.raw(pickle.root);
            let place = bytes
                .windows(2)
                .position(|window| window == b"ab")
                .unwrap_or(0) as u64;
            match bytes[0] {
                b'T' | b'U' | b'B' | b'C' | 0x8e | 0x96 => assert_eq!(raw, Some((place, 2))),
                _ => assert_eq!(raw, None, "{bytes:?}"),
            }
        }
    }

    #[test]
    fn escaped_and_broken_text_is_no_name() {
        for bytes in [
            &b"S'a\\x41'\n."[..],
            b"V\\u0041\n.",
            b"S'ab\n.",
            b"C\x01\xff.",
        ] {
            let pickle = run(bytes).unwrap();
            assert_eq!(pickle.heap.text(pickle.root), None, "{bytes:?}");
        }
    }

    #[test]
    fn collections_are_built_as_python_builds_them() {
        let cases: [(&[u8], &str); 16] = [
            (b").", "()"),
            (b"K\x01\x85.", "(Int(1))"),
            (b"K\x01K\x02\x86.", "(Int(1), Int(2))"),
            (b"K\x01K\x02K\x03\x87.", "(Int(1), Int(2), Int(3))"),
            (b"(K\x01K\x02t.", "(Int(1), Int(2))"),
            (b"(K\x01l.", "[Int(1)]"),
            (b"]K\x01aK\x02a.", "[Int(1), Int(2)]"),
            (b"](K\x01K\x02e.", "[Int(1), Int(2)]"),
            (b"\x8f(K\x01\x90.", "[Int(1)]"),
            (b"(K\x01\x91.", "[Int(1)]"),
            (b"(K\x01K\x02d.", "{Int(1): Int(2)}"),
            (b"}K\x01K\x02s.", "{Int(1): Int(2)}"),
            (
                b"}(K\x01K\x02K\x03K\x04u.",
                "{Int(1): Int(2), Int(3): Int(4)}",
            ),
            (b"K\x01K\x020.", "Int(1)"),
            (b"K\x01(K\x02K\x031.", "Int(1)"),
            (b"K\x01(02\x86.", "(Int(1), Int(1))"),
        ];
        for (pickle, expected) in cases {
            assert_eq!(shown(pickle), expected, "{pickle:?}");
        }
    }

    #[test]
    fn calls_stay_symbolic() {
        let cases: [(&[u8], &str); 9] = [
            (b"cos\nsystem\n.", "os.system"),
            (b"\x8c\x02os\x8c\x06system\x93.", "os.system"),
            (b"cos\nsystem\n(Vls\ntR.", "os.system(\"ls\")/None[]{}"),
            (b"cos\nX\n)\x81K\x05b.", "os.X()/Int(5)[]{}"),
            (b"cos\nX\n)}\x92K\x01a.", "os.X()/None[Int(1)]{}"),
            (b"cos\nX\n)R(K\x01K\x02u.", "os.X()/None[]{Int(1): Int(2)}"),
            (b"(K\x01ios\nX\n.", "os.X(Int(1))/None[]{}"),
            (b"(cos\nX\nK\x01o.", "os.X(Int(1))/None[]{}"),
            (b"K\x07Q.", "@Int(7)"),
        ];
        for (pickle, expected) in cases {
            assert_eq!(shown(pickle), expected, "{pickle:?}");
        }
        assert_eq!(shown(b"Pid\n."), "@\"id\"");
    }

    #[test]
    fn the_memo_gives_back_what_was_put() {
        for pickle in [
            &b"K\x01q\0K\x02h\0\x87."[..],
            b"K\x01r\x05\0\0\0K\x02j\x05\0\0\0\x87.",
            b"K\x01p3\nK\x02g3\n\x87.",
            b"K\x01\x94K\x02h\0\x87.",
        ] {
            assert_eq!(shown(pickle), "(Int(1), Int(2), Int(1))", "{pickle:?}");
        }
    }

    #[test]
    fn framing_and_buffers_are_passed_over() {
        assert_eq!(root(b"\x80\x05\x95\x03\0\0\0\0\0\0\0K\x01."), Value::Int(1));
        assert_eq!(root(b"\x97\x98."), Value::Other);
        assert_eq!(root(b"\x82\x01."), Value::Other);
        assert_eq!(root(b"\x83\x01\0."), Value::Other);
        assert_eq!(root(b"\x84\x01\0\0\0."), Value::Other);
        // What is added to an object of unknown kind is lost, not an error.
        assert_eq!(root(b"\x97K\x01a."), Value::Other);
    }

    #[test]
    fn the_end_is_behind_the_stop() {
        assert_eq!(run(b"N.more").unwrap().end, 2);
        let two = b"K\x01.K\x02.".to_vec();
        assert_eq!(
            scan(&two, Container::Pickle, 3).unwrap().root,
            Value::Int(2)
        );
    }

    #[test]
    fn what_no_pickler_writes_is_malformed() {
        let cases: [&[u8]; 26] = [
            b"",
            b"N",
            b".",
            b"0.",
            b"2.",
            b"t.",
            b"1.",
            b"K\x01(.",
            b"K\x01(\x85.",
            b"\x86.",
            b"K\x01a.",
            b"]K\x01K\x02s.",
            b"}K\x01a.",
            b"(K\x01d.",
            b"(o.",
            b"h\0.",
            b"g5\n.",
            b"gx\n.",
            b"g-1\n.",
            b"q\0.",
            b"N\xff.",
            b"\x80\x06N.",
            b"K\x01r\xff\xff\xff\xff.",
            b"K\x01p99999999999999999999\n.",
            b"X\xff\xff\xff\xff.",
            b"\x8e\xff\xff\xff\xff\xff\xff\xff\xff.",
        ];
        for pickle in cases {
            assert!(
                matches!(run(pickle), Err(Error::Malformed { .. })),
                "{pickle:?}"
            );
        }
    }

    #[test]
    fn memory_of_objects_is_limited() {
        // Each takes a place in the arena although none is kept on the stack.
        let mut pickle = b")0".repeat(2_500_000);
        pickle.extend(b"N.");
        assert!(matches!(run(&pickle), Err(Error::TooLarge { .. })));
        let mut few = b")0".repeat(1000);
        few.extend(b"N.");
        assert!(run(&few).is_ok());
    }

    #[test]
    fn stack_marks_and_opcodes_are_limited() {
        let deep = [b"N".repeat(STACK_MAX + 1), b".".to_vec()].concat();
        assert!(matches!(run(&deep), Err(Error::TooLarge { .. })));
        let marks = b"(".repeat(13 << 20);
        assert!(matches!(run(&marks), Err(Error::TooLarge { .. })));
        let ten = b"N0N0N0N0N.".to_vec();
        assert!(scan_within(&ten, Container::Pickle, 0, 10).is_ok());
        let result = scan_within(&ten, Container::Pickle, 0, 9);
        assert!(matches!(result, Err(Error::TooLarge { .. })));
    }

    /// A million tuples within each other: dropping them must not recurse.
    #[test]
    fn deep_nesting_is_harmless() {
        let mut pickle = b")".to_vec();
        pickle.extend(b"\x85".repeat(1_000_000));
        pickle.push(b'.');
        drop(run(&pickle).unwrap());
    }

    #[test]
    fn memo_may_start_at_one_but_not_far_away() {
        assert!(run(b"K\x01q\x01h\x01.").is_ok());
        let gap = u32::try_from(MEMO_GAP_MAX).unwrap();
        let far = [&b"Nr"[..], &gap.to_le_bytes(), b"."].concat();
        assert!(matches!(run(&far), Err(Error::Malformed { .. })));
        let near = [&b"Nr"[..], &(gap - 1).to_le_bytes(), b"."].concat();
        assert!(run(&near).is_ok());
    }

    /// Files of `testdata/make.py`: the same value by CPython in every protocol.
    const VALUES: [&[u8]; 6] = [
        include_bytes!("../../testdata/values_protocol_0.pkl"),
        include_bytes!("../../testdata/values_protocol_1.pkl"),
        include_bytes!("../../testdata/values_protocol_2.pkl"),
        include_bytes!("../../testdata/values_protocol_3.pkl"),
        include_bytes!("../../testdata/values_protocol_4.pkl"),
        include_bytes!("../../testdata/values_protocol_5.pkl"),
    ];

    #[test]
    fn every_protocol_of_cpython_builds_the_same_value() {
        let many: Vec<String> = (0..1100).map(|i| format!("Int({i})")).collect();
        let numbers = [0, 255, 256, 65536, -1, -(1 << 31), 1 << 31, i64::MIN]
            .map(|i| format!("Int({i})"))
            .join(", ");
        let long = "x".repeat(300);
        let expected = [
            r#""constants": [None, Bool(true), Bool(false)]"#.to_owned(),
            format!(r#""numbers": ({numbers}, Other, Other)"#),
            format!(r#""texts": ["", "a'b\"c", "{long}"]"#),
            r#""tuples": ((), (Int(1)), (Int(1), Int(2)), (Int(1), Int(2), Int(3)), "#.to_owned()
                + "(Int(1), Int(2), Int(3), Int(4)))",
            r#""nested": [[[[]], {}], {"k": {"k": ()}}]"#.to_owned(),
            r#""shared": [["shared"], ["shared"]]"#.to_owned(),
            format!(r#""many": [{}]"#, many.join(", ")),
            r#"Int(7): "seven""#.to_owned(),
        ];
        let expected = format!("{{{}}}", expected.join(", "));
        for (protocol, file) in VALUES.into_iter().enumerate() {
            assert_eq!(shown(file), expected, "protocol {protocol}");
            assert_eq!(run(file).unwrap().end, file.len() as u64);
        }
    }

    #[test]
    fn a_shared_value_is_one_node() {
        for file in VALUES {
            let pickle = run(file).unwrap();
            let list = pickle.heap.item(pickle.root, "shared").unwrap();
            let [first, second] = *pickle.heap.elements(list).unwrap() else {
                panic!("two")
            };
            assert_eq!(first, second);
        }
    }

    /// A pickle cut anywhere lacks its end, so it is never taken for a whole one.
    #[test]
    fn a_cut_pickle_is_malformed() {
        for file in VALUES {
            for cut in (0..file.len()).step_by(7) {
                let result = run(&file[..cut]);
                assert!(matches!(result, Err(Error::Malformed { .. })), "{cut}");
            }
        }
    }
}
