//! What each group of opcodes does to the machine.

use crate::error::Result;
use crate::pickle::heap::{Node, Object, TEXT_KEPT_MAX, Text, Value};
use crate::pickle::joblib;
use crate::pickle::machine::{MEMO_GAP_MAX, Machine};

impl Machine<'_> {
    pub(super) fn number(&mut self, op: u8) -> Result<()> {
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

    pub(super) fn string(&mut self, op: u8) -> Result<()> {
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

    pub(super) fn collection(&mut self, op: u8) -> Result<()> {
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
    pub(super) fn extend(&mut self, op: u8) -> Result<()> {
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

    pub(super) fn remember(&mut self, op: u8) -> Result<()> {
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

    pub(super) fn construct(&mut self, op: u8) -> Result<()> {
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
    pub(super) fn outside(&mut self, op: u8) -> Result<()> {
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
