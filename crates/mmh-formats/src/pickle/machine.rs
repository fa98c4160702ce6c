//! The stack machine of pickle protocols 0 to 5, run symbolically over a stream.
//!
//! Opcodes: `pickletools.py` of CPython. Byte strings are never loaded, only located. Every loop
//! consumes input; stack, memo, objects and opcode count are limited.

use std::mem;

use crate::container::Container;
use crate::error::{Error, Result};
use crate::pickle::heap::{Heap, Node, Object, TEXT_KEPT_MAX, Text, Value};
use crate::pickle::joblib;
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
    let mut machine = Machine {
        reader: Reader::new(source, container),
        container,
        at: offset,
        ops: 0,
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
    reader: Reader<'a>,
    pub(crate) container: Container,
    /// The offset of the next byte to read.
    at: u64,
    ops: u64,
    pub(crate) heap: Heap,
    stack: Vec<Value>,
    marks: Vec<usize>,
    memo: Vec<Option<Value>>,
    /// How many pickles this one lies within.
    depth: u32,
}

impl Machine<'_> {
    fn run(&mut self) -> Result<Value> {
        loop {
            self.ops += 1;
            if self.ops > OPS_MAX {
                return Err(self.too_large("more opcodes than are read"));
            }
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

    fn too_large(&self, reason: &str) -> Error {
        Error::too_large(self.container, format!("pickle at {}: {reason}", self.at))
    }

    pub(crate) fn u8(&mut self) -> Result<u8> {
        let byte = self.reader.u8(self.at)?;
        self.at += 1;
        Ok(byte)
    }

    fn uint(&mut self, width: u8) -> Result<u64> {
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
    fn line(&mut self) -> Result<Text> {
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

    fn short_line(&mut self) -> Result<Box<str>> {
        let line = self.line()?;
        line.text
            .ok_or_else(|| self.malformed("a line that is no short text"))
    }

    fn push(&mut self, value: Value) -> Result<()> {
        if self.stack.len() >= STACK_MAX {
            return Err(self.too_large("stack deeper than is kept"));
        }
        self.stack.push(value);
        Ok(())
    }

    fn push_node(&mut self, node: Node) -> Result<()> {
        let value = self.heap.add(self.container, node)?;
        self.push(value)
    }

    /// Takes the top value, which must lie above the last mark.
    fn pop(&mut self) -> Result<Value> {
        let floor = self.marks.last().copied().unwrap_or(0);
        let value = if self.stack.len() > floor {
            self.stack.pop()
        } else {
            None
        };
        value.ok_or_else(|| self.malformed("stack underflow"))
    }

    fn top(&self) -> Result<Value> {
        let floor = self.marks.last().copied().unwrap_or(0);
        let value = self.stack.get(floor..).and_then(<[Value]>::last);
        value
            .copied()
            .ok_or_else(|| self.malformed("stack underflow"))
    }

    fn pop_n(&mut self, n: usize) -> Result<Vec<Value>> {
        let floor = self.marks.last().copied().unwrap_or(0);
        match self.stack.len().checked_sub(n) {
            Some(from) if from >= floor => Ok(self.stack.split_off(from)),
            _ => Err(self.malformed("stack underflow")),
        }
    }

    /// Takes everything above the last mark, and the mark.
    fn pop_mark(&mut self) -> Result<Vec<Value>> {
        let mark = self
            .marks
            .pop()
            .ok_or_else(|| self.malformed("no mark on the stack"))?;
        // Marks never lie above the stack: `pop` stops at the last one.
        Ok(self.stack.split_off(mark.min(self.stack.len())))
    }

    fn pop_pairs(&mut self) -> Result<Vec<(Value, Value)>> {
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

    fn number(&mut self, op: u8) -> Result<()> {
        let value = match op {
            b'N' => Value::None,
            0x88 => Value::Bool(true),
            0x89 => Value::Bool(false),
            b'K' => small_int(self.uint(1)?),
            b'M' => small_int(self.uint(2)?),
            b'J' => {
                let word = self.reader.i32(self.at)?;
                self.at += 4;
                Value::Int(i64::from(word))
            }
            b'G' => {
                self.skip(8)?;
                Value::Other
            }
            0x8a | 0x8b => {
                let len = self.uint(if op == 0x8a { 1 } else { 4 })?;
                self.long(len)?
            }
            _ => decimal(op, self.line()?.text.as_deref().unwrap_or_default()),
        };
        self.push(value)
    }

    /// A two's complement integer of `len` bytes.
    fn long(&mut self, len: u64) -> Result<Value> {
        if len == 0 || len > 8 {
            self.skip(len)?;
            return Ok(if len == 0 {
                Value::Int(0)
            } else {
                Value::Other
            });
        }
        let width = u8::try_from(len).unwrap_or(8);
        let shift = 64 - 8 * u32::from(width);
        let bits = self.uint(width)? << shift;
        Ok(Value::Int(bits.cast_signed() >> shift))
    }

    fn string(&mut self, op: u8) -> Result<()> {
        let len = match op {
            b'S' | b'V' => {
                let line = self.line()?;
                return self.push_node(Node::Text(unquoted(op, line)));
            }
            b'U' | b'C' | 0x8c => self.uint(1)?,
            b'T' | b'X' | b'B' => self.uint(4)?,
            _ => self.uint(8)?,
        };
        let offset = self.at;
        self.skip(len)?;
        let mut text = None;
        if len <= TEXT_KEPT_MAX {
            let bytes = self.reader.bytes(offset, len, TEXT_KEPT_MAX)?;
            text = String::from_utf8(bytes).ok().map(String::into_boxed_str);
        }
        let raw = !matches!(op, b'X' | 0x8c | 0x8d);
        self.push_node(Node::Text(Text {
            offset,
            len,
            text,
            raw,
        }))
    }

    fn collection(&mut self, op: u8) -> Result<()> {
        let node = match op {
            b'(' => {
                self.heap.charge(self.container, size_of::<usize>())?;
                self.marks.push(self.stack.len());
                return Ok(());
            }
            // POP takes a mark away if that is what lies on top.
            b'0' if self.marks.last() == Some(&self.stack.len()) => {
                self.marks.pop();
                return Ok(());
            }
            b'0' => return self.pop().map(drop),
            b'1' => return self.pop_mark().map(drop),
            b'2' => return self.top().and_then(|value| self.push(value)),
            b')' => Node::Tuple(Vec::new()),
            b']' | 0x8f => Node::List(Vec::new()),
            b'}' => Node::Dict(Vec::new()),
            b't' => Node::Tuple(self.pop_mark()?),
            b'l' | 0x91 => Node::List(self.pop_mark()?),
            b'd' => Node::Dict(self.pop_pairs()?),
            _ => Node::Tuple(self.pop_n(usize::from(op - 0x84))?),
        };
        self.push_node(node)
    }

    /// Adds items to the list, set, dict or object below them.
    fn extend(&mut self, op: u8) -> Result<()> {
        let (mut items, mut pairs) = (Vec::new(), Vec::new());
        match op {
            b'a' => items.push(self.pop()?),
            b'e' | 0x90 => items = self.pop_mark()?,
            b's' => {
                let value = self.pop()?;
                pairs.push((self.pop()?, value));
            }
            _ => pairs = self.pop_pairs()?,
        }
        let len = size_of_val(items.as_slice()) + size_of_val(pairs.as_slice());
        self.heap.charge(self.container, len)?;
        let target = self.top()?;
        match self.heap.node_mut(target) {
            Some(Node::List(list)) if pairs.is_empty() => list.append(&mut items),
            Some(Node::Dict(dict)) if items.is_empty() => dict.append(&mut pairs),
            Some(Node::Object(object)) => {
                object.items.append(&mut items);
                object.pairs.append(&mut pairs);
            }
            _ if target == Value::Other => {}
            _ => return Err(self.malformed("items added to what holds none")),
        }
        Ok(())
    }

    fn remember(&mut self, op: u8) -> Result<()> {
        let index = match op {
            b'q' | b'h' => self.uint(1)?,
            b'r' | b'j' => self.uint(4)?,
            0x94 => self.memo.len() as u64,
            _ => {
                let line = self.short_line()?;
                line.trim()
                    .parse()
                    .map_err(|_| self.malformed("memo key that is no number"))?
            }
        };
        let slot = usize::try_from(index).map_err(|_| self.malformed("memo key too large"))?;
        if matches!(op, b'g' | b'h' | b'j') {
            let value = self.memo.get(slot).copied().flatten();
            let value = value.ok_or_else(|| self.malformed("memo key never set"))?;
            return self.push(value);
        }
        let value = self.top()?;
        if slot >= self.memo.len() {
            // Picklers number densely, some from 1; a wide gap is an attack on memory.
            let gap = slot - self.memo.len() + 1;
            if gap > MEMO_GAP_MAX {
                return Err(self.malformed("memo key far ahead of the others"));
            }
            self.heap
                .charge(self.container, gap * size_of::<Option<Value>>())?;
            self.memo.resize(slot + 1, None);
        }
        if let Some(entry) = self.memo.get_mut(slot) {
            *entry = Some(value);
        }
        Ok(())
    }

    fn global(&mut self, module: &str, name: &str) -> Result<Value> {
        let path = format!("{module}.{name}").into_boxed_str();
        self.heap.add(self.container, Node::Global(path))
    }

    fn construct(&mut self, op: u8) -> Result<()> {
        let (class, args) = match op {
            b'c' => {
                let (module, name) = (self.short_line()?, self.short_line()?);
                let global = self.global(&module, &name)?;
                return self.push(global);
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let name = self.heap.text(name).unwrap_or("?").to_owned();
                let module = self.heap.text(module).unwrap_or("?").to_owned();
                let global = self.global(&module, &name)?;
                return self.push(global);
            }
            b'b' => return self.build(),
            b'i' => {
                let (module, name) = (self.short_line()?, self.short_line()?);
                let class = self.global(&module, &name)?;
                let args = Node::Tuple(self.pop_mark()?);
                (class, self.heap.add(self.container, args)?)
            }
            b'o' => {
                let mut args = self.pop_mark()?;
                if args.is_empty() {
                    return Err(self.malformed("an object without a class"));
                }
                let class = args.remove(0);
                (class, self.heap.add(self.container, Node::Tuple(args))?)
            }
            0x92 => {
                let _keywords = self.pop()?;
                let args = self.pop()?;
                (self.pop()?, args)
            }
            _ => {
                let args = self.pop()?;
                (self.pop()?, args)
            }
        };
        let (items, pairs) = (Vec::new(), Vec::new());
        let object = Object {
            class,
            args,
            state: Value::None,
            items,
            pairs,
        };
        self.push_node(Node::Object(Box::new(object)))
    }

    fn build(&mut self) -> Result<()> {
        let state = self.pop()?;
        let target = self.top()?;
        if let Some(Node::Object(object)) = self.heap.node_mut(target) {
            object.state = state;
        }
        joblib::after_build(self, target)
    }

    /// Things that only the reader of the pickle could resolve.
    fn outside(&mut self, op: u8) -> Result<()> {
        let id = match op {
            b'P' => {
                let line = self.line()?;
                self.heap.add(self.container, Node::Text(line))?
            }
            b'Q' => self.pop()?,
            0x97 => return self.push(Value::Other), // a buffer kept elsewhere
            _ => {
                // An extension registry's number of 1, 2 or 4 bytes.
                self.skip(1 << (op - 0x82))?;
                return self.push(Value::Other);
            }
        };
        self.push_node(Node::Persistent(id))
    }
}

fn small_int(value: u64) -> Value {
    i64::try_from(value).map_or(Value::Other, Value::Int)
}

/// INT, LONG and FLOAT of protocol 0.
fn decimal(op: u8, line: &str) -> Value {
    match (op, line) {
        (b'F', _) => Value::Other,
        (b'I', "00") => Value::Bool(false),
        (b'I', "01") => Value::Bool(true),
        _ => line
            .trim_end_matches('L')
            .parse()
            .map_or(Value::Other, Value::Int),
    }
}

/// STRING and UNICODE of protocol 0, where nothing is escaped.
fn unquoted(op: u8, mut line: Text) -> Text {
    let text = line.text.take().filter(|t| !t.contains('\\'));
    line.text = match (op, text) {
        (b'S', Some(t)) => {
            let inner = t
                .strip_prefix('\'')
                .and_then(|t| t.strip_suffix('\''))
                .or_else(|| t.strip_prefix('"').and_then(|t| t.strip_suffix('"')));
            inner.map(Box::from)
        }
        (_, text) => text,
    };
    line
}

/// Most values on the stack: one tuple of a million items.
const STACK_MAX: usize = 1 << 20;
/// Most opcodes of one pickle: a few seconds.
const OPS_MAX: u64 = 1 << 27;
/// Deepest nesting of pickles; joblib makes one level.
const DEPTH_MAX: u32 = 4;
/// Largest step between memo keys.
const MEMO_GAP_MAX: usize = 1024;
