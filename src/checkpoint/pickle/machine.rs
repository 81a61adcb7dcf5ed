//! The stack machine of a pickle. Every instruction makes at most one value, and none counts on what another promised: what
//! is held is bounded by the bytes read, and whatever they say comes to a value or a refusal.

use std::collections::BTreeMap;

use super::{Global, Node, Read, Refusal, Storage, Strided, known};

/// The machine between two instructions.
pub(super) struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    nodes: Vec<Node<'a>>,
    stack: Vec<usize>,
    /// Heights of the stack below which the instructions after a mark do not reach.
    marks: Vec<usize>,
    memo: BTreeMap<u32, usize>,
}

impl<'a> Machine<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Machine<'a> {
        let (nodes, stack, marks) = (Vec::new(), Vec::new(), Vec::new());
        Machine { bytes, at: 0, nodes, stack, marks, memo: BTreeMap::new() }
    }

    /// Runs to the end: all values, and the place of the last one left.
    pub(super) fn run(mut self) -> Read<(Vec<Node<'a>>, usize)> {
        loop {
            match self.byte()? {
                0x80 => self.version()?,                      // PROTO
                0x95 => drop(self.number(8)?),                // FRAME
                b'(' => self.marks.push(self.stack.len()),    // MARK
                b'0' => drop(self.pop()?),                    // POP
                b'N' | 0x88 | 0x89 => self.push(Node::Plain), // NONE, NEWTRUE, NEWFALSE
                b'K' => self.whole(1)?,                       // BININT1
                b'M' => self.whole(2)?,                       // BININT2
                b'J' => self.signed(4)?,                      // BININT
                0x8a => self.long(1)?,                        // LONG1
                0x8b => self.long(4)?,                        // LONG4
                b'G' => self.plain(8)?,                       // BINFLOAT
                b'C' | b'U' => self.plain_of(1)?,             // SHORT_BINBYTES, SHORT_BINSTRING
                b'B' | b'T' => self.plain_of(4)?,             // BINBYTES, BINSTRING
                0x8c => self.text(1)?,                        // SHORT_BINUNICODE
                b'X' => self.text(4)?,                        // BINUNICODE
                0x8d => self.text(8)?,                        // BINUNICODE8
                b')' => self.push(Node::Tuple(Vec::new())),   // EMPTY_TUPLE
                0x85 => self.tuple(1)?,                       // TUPLE1
                0x86 => self.tuple(2)?,                       // TUPLE2
                0x87 => self.tuple(3)?,                       // TUPLE3
                // TUPLE
                b't' => {
                    let items = self.pop_to_mark()?;
                    self.push(Node::Tuple(items));
                }
                b']' => self.push(Node::List), // EMPTY_LIST
                // APPEND
                b'a' => {
                    self.pop()?;
                    self.onto_list()?;
                }
                // APPENDS
                b'e' => {
                    self.pop_to_mark()?;
                    self.onto_list()?;
                }
                b'}' => self.push(Node::Dict(Vec::new())), // EMPTY_DICT
                // SETITEM
                b's' => {
                    let (value, key) = (self.pop()?, self.pop()?);
                    self.set(&[key, value])?;
                }
                // SETITEMS
                b'u' => {
                    let items = self.pop_to_mark()?;
                    self.set(&items)?;
                }
                b'q' => self.keep(1)?,          // BINPUT
                b'r' => self.keep(4)?,          // LONG_BINPUT
                0x94 => self.memoize()?,        // MEMOIZE
                b'h' => self.fetch(1)?,         // BINGET
                b'j' => self.fetch(4)?,         // LONG_BINGET
                b'c' => self.global()?,         // GLOBAL
                0x93 => self.stacked_global()?, // STACK_GLOBAL
                b'Q' => self.storage()?,        // BINPERSID
                b'R' => self.reduce()?,         // REDUCE
                b'b' => self.build()?,          // BUILD
                b'.' => return self.stop(),     // STOP
                // NEWOBJ, NEWOBJ_EX, INST, OBJ
                0x81 | 0x92 | b'i' | b'o' => {
                    return Err(foreign("makes an object of a class of its own"));
                }
                other => return Err(foreign(&format!("uses the instruction 0x{other:02x}"))),
            }
        }
    }

    fn stop(mut self) -> Read<(Vec<Node<'a>>, usize)> {
        let root = self.pop()?;
        if self.at != self.bytes.len() {
            return Err(Refusal::Damaged(format!("its pickle ends at byte {} and goes on", self.at)));
        }
        Ok((self.nodes, root))
    }

    fn version(&mut self) -> Read<()> {
        match self.byte()? {
            2..=5 => Ok(()),
            other => Err(Refusal::Damaged(format!("its pickle has the version {other}, known are 2 to 5"))),
        }
    }

    fn take(&mut self, count: usize) -> Read<&'a [u8]> {
        let end = self.at.checked_add(count);
        let taken = end.and_then(|end| self.bytes.get(self.at..end));
        let taken = taken.ok_or_else(|| Refusal::Damaged("its pickle is cut short".into()))?;
        self.at += count;
        Ok(taken)
    }

    fn byte(&mut self) -> Read<u8> {
        Ok(self.take(1)?.first().copied().unwrap_or_default())
    }

    /// A whole number of so many bytes, at most eight.
    fn number(&mut self, width: usize) -> Read<u64> {
        Ok(self.take(width)?.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte)))
    }

    /// As many bytes as a number of this width says.
    fn counted(&mut self, width: usize) -> Read<&'a [u8]> {
        let count = self.number(width)?;
        self.take(usize::try_from(count).unwrap_or(usize::MAX))
    }

    fn push(&mut self, node: Node<'a>) {
        self.stack.push(self.nodes.len());
        self.nodes.push(node);
    }

    fn pop(&mut self) -> Read<usize> {
        let floor = self.marks.last().copied().unwrap_or_default();
        if self.stack.len() <= floor {
            return Err(missing());
        }
        self.stack.pop().ok_or_else(missing)
    }

    fn pop_to_mark(&mut self) -> Read<Vec<usize>> {
        let floor = self.marks.pop().filter(|&floor| floor <= self.stack.len()).ok_or_else(missing)?;
        Ok(self.stack.split_off(floor))
    }

    fn top(&self) -> Read<usize> {
        let floor = self.marks.last().copied().unwrap_or_default();
        self.stack.get(floor..).and_then(|open| open.last()).copied().ok_or_else(missing)
    }

    fn node(&self, id: usize) -> &Node<'a> {
        self.nodes.get(id).unwrap_or(&Node::Plain)
    }

    fn plain(&mut self, count: usize) -> Read<()> {
        self.take(count)?;
        self.push(Node::Plain);
        Ok(())
    }

    fn plain_of(&mut self, width: usize) -> Read<()> {
        self.counted(width)?;
        self.push(Node::Plain);
        Ok(())
    }

    fn whole(&mut self, width: usize) -> Read<()> {
        let number = self.number(width)?;
        self.push(i64::try_from(number).map_or(Node::Plain, Node::Int));
        Ok(())
    }

    fn signed(&mut self, width: usize) -> Read<()> {
        let bytes = self.take(width)?;
        self.push(Node::Int(two_complement(bytes)));
        Ok(())
    }

    fn long(&mut self, width: usize) -> Read<()> {
        let bytes = self.counted(width)?;
        self.push(if bytes.len() <= 8 { Node::Int(two_complement(bytes)) } else { Node::Plain });
        Ok(())
    }

    fn text(&mut self, width: usize) -> Read<()> {
        let text = utf8(self.counted(width)?)?;
        self.push(Node::Text(text));
        Ok(())
    }

    fn tuple(&mut self, count: usize) -> Read<()> {
        let mut items = (0..count).map(|_| self.pop()).collect::<Read<Vec<_>>>()?;
        items.reverse();
        self.push(Node::Tuple(items));
        Ok(())
    }

    fn onto_list(&self) -> Read<()> {
        match self.node(self.top()?) {
            Node::List => Ok(()),
            _ => Err(Refusal::Damaged("its pickle appends to what is no list".into())),
        }
    }

    /// Sets keys and values, one after the other, in the dict on top.
    fn set(&mut self, items: &[usize]) -> Read<()> {
        let top = self.top()?;
        let (pairs, rest) = items.as_chunks::<2>();
        let Some(Node::Dict(dict)) = self.nodes.get_mut(top).filter(|_| rest.is_empty()) else {
            return Err(Refusal::Damaged("its pickle sets a key of what is no dict".into()));
        };
        dict.extend(pairs.iter().map(|[key, value]| (*key, *value)));
        Ok(())
    }

    fn keep(&mut self, width: usize) -> Read<()> {
        let number = self.number(width)? as u32;
        let top = self.top()?;
        self.memo.insert(number, top);
        Ok(())
    }

    fn memoize(&mut self) -> Read<()> {
        let top = self.top()?;
        self.memo.insert(self.memo.len() as u32, top);
        Ok(())
    }

    fn fetch(&mut self, width: usize) -> Read<()> {
        let number = self.number(width)? as u32;
        let id = self.memo.get(&number).copied().ok_or_else(missing)?;
        self.stack.push(id);
        Ok(())
    }

    /// Two lines: the module, the name in it.
    fn global(&mut self) -> Read<()> {
        let (module, name) = (self.line()?, self.line()?);
        self.push_global(module, name)
    }

    fn line(&mut self) -> Read<&'a str> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let length = rest.iter().position(|&byte| byte == b'\n').ok_or_else(missing)?;
        let line = self.take(length)?;
        self.take(1)?;
        utf8(line)
    }

    fn stacked_global(&mut self) -> Read<()> {
        let (name, module) = (self.pop()?, self.pop()?);
        match (self.node(module), self.node(name)) {
            (&Node::Text(module), &Node::Text(name)) => self.push_global(module, name),
            _ => Err(missing()),
        }
    }

    fn push_global(&mut self, module: &str, name: &str) -> Read<()> {
        let Some(global) = known(module, name) else {
            let name: String = format!("{module}.{name}").chars().take(80).collect();
            return Err(foreign(&format!("asks for {name}")));
        };
        self.push(Node::Global(global));
        Ok(())
    }

    /// `("storage", type, file, device, count)`, where torch keeps its numbers apart from the pickle.
    fn storage(&mut self) -> Read<()> {
        let id = self.pop()?;
        let storage = match self.node(id) {
            Node::Tuple(items) => match *items.as_slice() {
                [kind, dtype, key, _, count, ..] => Some((kind, dtype, key, count)),
                _ => None,
            },
            _ => None,
        };
        let found = storage.map(|(kind, dtype, key, count)| {
            (self.node(kind), self.node(dtype), self.node(key), self.node(count))
        });
        match found {
            Some((
                &Node::Text("storage"),
                &Node::Global(Global::Storage(dtype)),
                &Node::Text(key),
                &Node::Int(n),
            )) => {
                let count = usize::try_from(n).map_err(|_| missing())?;
                self.push(Node::Storage(Storage { dtype, key, count }));
                Ok(())
            }
            _ => Err(Refusal::Damaged("its pickle names a storage in no way that torch does".into())),
        }
    }

    /// A call, of the few that are known.
    fn reduce(&mut self) -> Read<()> {
        let (arguments, called) = (self.pop()?, self.pop()?);
        let (&Node::Global(called), Node::Tuple(arguments)) = (self.node(called), self.node(arguments))
        else {
            return Err(foreign("calls what is no function"));
        };
        match (called, arguments.as_slice()) {
            (Global::OrderedDict, []) => self.push(Node::Dict(Vec::new())),
            (Global::Parameter, &[tensor, ..]) if matches!(self.node(tensor), Node::Tensor(_)) => {
                self.stack.push(tensor);
            }
            (Global::Tensor, &[storage, offset, shape, strides, ..]) => {
                let tensor = self.tensor(storage, offset, shape, strides);
                let broken = || Refusal::Damaged("its pickle describes a tensor that cannot be".into());
                self.push(Node::Tensor(Box::new(tensor.ok_or_else(broken)?)));
            }
            _ => return Err(foreign("makes a known thing in an unknown way")),
        }
        Ok(())
    }

    fn tensor(&self, storage: usize, offset: usize, shape: usize, strides: usize) -> Option<Strided<'a>> {
        /// More than any weight has.
        const MOST_AXES: usize = 8;
        let size = |id: usize| match self.node(id) {
            &Node::Int(n) => usize::try_from(n).ok(),
            _ => None,
        };
        let sizes = |id: usize| match self.node(id) {
            Node::Tuple(items) if items.len() <= MOST_AXES => items.iter().map(|&id| size(id)).collect(),
            _ => None,
        };
        let (shape, strides): (Vec<usize>, Vec<usize>) = (sizes(shape)?, sizes(strides)?);
        match self.node(storage) {
            &Node::Storage(storage) if shape.len() == strides.len() => {
                Some(Strided { storage, offset: size(offset)?, shape, strides })
            }
            _ => None,
        }
    }

    /// Attributes that torch puts on its dicts (versions of modules): of no use here.
    fn build(&mut self) -> Read<()> {
        self.pop()?;
        match self.node(self.top()?) {
            Node::Dict(_) => Ok(()),
            _ => Err(foreign("gives an object attributes")),
        }
    }
}

fn two_complement(bytes: &[u8]) -> i64 {
    let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
    let start = if negative { -1 } else { 0 };
    bytes.iter().rev().fold(start, |number: i64, &byte| number << 8 | i64::from(byte))
}

fn utf8(bytes: &[u8]) -> Read<&str> {
    std::str::from_utf8(bytes)
        .map_err(|_| Refusal::Damaged("its pickle holds a text that is not UTF-8".into()))
}

fn missing() -> Refusal {
    Refusal::Damaged("its pickle uses a value that is not there".into())
}

fn foreign(what: &str) -> Refusal {
    Refusal::Foreign(format!(
        "its pickle {what}, which a dict of tensors does not need; a pickle can run code, and nothing was run"
    ))
}
