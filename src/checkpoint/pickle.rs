//! A pickle's values, read and never run.
//!
//! A pickle is a program for a stack machine that may call any function of Python. This machine knows the instructions
//! that `torch.save` writes for dicts of tensors and a closed list of names; it calls nothing, and refuses all else.
//! Values lie in one list and name each other by their place in it, so that a value that holds itself is no loop here.
//! Every instruction makes at most one value: what is held is bounded by the bytes read.

use std::collections::BTreeMap;

use safetensors::Dtype;

/// A value. Texts borrow from the pickle; other values are named by their place.
#[derive(Debug)]
pub(super) enum Node<'a> {
    /// Nothing, a truth value, a float, bytes, or a whole number beyond 64 bits: never looked at.
    Plain,
    Int(i64),
    Text(&'a str),
    Tuple(Vec<usize>),
    /// What it holds is never looked at.
    List,
    /// Keys and values as they were set; of equal keys the last counts.
    Dict(Vec<(usize, usize)>),
    Global(Global),
    Storage(Storage<'a>),
    Tensor(Box<Strided<'a>>),
}

/// A name that a state dict needs.
#[derive(Debug, Clone, Copy)]
pub(super) enum Global {
    OrderedDict,
    /// `_rebuild_tensor` and its second version: storage, offset, shape, strides, and what is of no use here.
    Tensor,
    /// `_rebuild_parameter`: a tensor, and what is of no use here.
    Parameter,
    Storage(Dtype),
}

/// A run of numbers of one type that lies in a file of its own in the archive.
#[derive(Debug, Clone, Copy)]
pub(super) struct Storage<'a> {
    pub(super) dtype: Dtype,
    /// The file's name.
    pub(super) key: &'a str,
    /// How many numbers.
    pub(super) count: usize,
}

/// A tensor: part of a storage, counted in numbers.
#[derive(Debug)]
pub(super) struct Strided<'a> {
    pub(super) storage: Storage<'a>,
    pub(super) offset: usize,
    pub(super) shape: Vec<usize>,
    pub(super) strides: Vec<usize>,
}

/// Why a pickle is not read.
#[derive(Debug)]
pub(super) enum Refusal {
    /// It is not what a pickle can be.
    Damaged(String),
    /// It wants more than a dict of tensors needs.
    Foreign(String),
}

type Read<T> = Result<T, Refusal>;

/// A pickle that was read to its end.
#[derive(Debug)]
pub(super) struct Pickle<'a> {
    nodes: Vec<Node<'a>>,
    root: usize,
}

impl<'a> Pickle<'a> {
    /// Reads a pickle; its value is whatever its last instruction left.
    pub(super) fn read(bytes: &'a [u8]) -> Read<Pickle<'a>> {
        let (stack, marks, memo) = (Vec::new(), Vec::new(), BTreeMap::new());
        Machine { bytes, at: 0, nodes: Vec::new(), stack, marks, memo }.run()
    }

    /// The value of the whole.
    pub(super) fn root(&self) -> &Node<'a> {
        self.node(self.root)
    }

    /// The value at a place.
    pub(super) fn node(&self, id: usize) -> &Node<'a> {
        self.nodes.get(id).unwrap_or(&Node::Plain)
    }
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    nodes: Vec<Node<'a>>,
    stack: Vec<usize>,
    /// Heights of the stack below which the instructions after a mark do not reach.
    marks: Vec<usize>,
    memo: BTreeMap<u32, usize>,
}

impl<'a> Machine<'a> {
    fn run(mut self) -> Read<Pickle<'a>> {
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
                b't' => {
                    let items = self.pop_to_mark()?; // TUPLE
                    self.push(Node::Tuple(items));
                }
                b']' => self.push(Node::List), // EMPTY_LIST
                b'a' => {
                    self.pop()?; // APPEND
                    self.onto_list()?;
                }
                b'e' => {
                    self.pop_to_mark()?; // APPENDS
                    self.onto_list()?;
                }
                b'}' => self.push(Node::Dict(Vec::new())), // EMPTY_DICT
                b's' => {
                    let (value, key) = (self.pop()?, self.pop()?); // SETITEM
                    self.set(&[key, value])?;
                }
                b'u' => {
                    let items = self.pop_to_mark()?; // SETITEMS
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
                0x81 | 0x92 | b'i' | b'o' => {
                    return Err(foreign("makes an object of a class of its own"));
                }
                other => return Err(foreign(&format!("uses the instruction 0x{other:02x}"))),
            }
        }
    }

    fn stop(mut self) -> Read<Pickle<'a>> {
        let root = self.pop()?;
        if self.at != self.bytes.len() {
            return Err(Refusal::Damaged(format!("its pickle ends at byte {} and goes on", self.at)));
        }
        Ok(Pickle { nodes: self.nodes, root })
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

/// The closed list.
fn known(module: &str, name: &str) -> Option<Global> {
    let dtype = match (module, name) {
        ("collections", "OrderedDict") => return Some(Global::OrderedDict),
        ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2") => return Some(Global::Tensor),
        ("torch._utils", "_rebuild_parameter") => return Some(Global::Parameter),
        ("torch", "DoubleStorage") => Dtype::F64,
        ("torch", "FloatStorage") => Dtype::F32,
        ("torch", "HalfStorage") => Dtype::F16,
        ("torch", "BFloat16Storage") => Dtype::BF16,
        ("torch", "LongStorage") => Dtype::I64,
        ("torch", "IntStorage") => Dtype::I32,
        ("torch", "ShortStorage") => Dtype::I16,
        ("torch", "CharStorage") => Dtype::I8,
        ("torch", "ByteStorage") => Dtype::U8,
        ("torch", "BoolStorage") => Dtype::BOOL,
        _ => return None,
    };
    Some(Global::Storage(dtype))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(bytes: &[u8]) -> String {
        match Pickle::read(bytes).unwrap_err() {
            Refusal::Damaged(text) | Refusal::Foreign(text) => text,
        }
    }

    #[test]
    fn numbers_are_read_as_python_writes_them() {
        for (bytes, number) in [
            (&b"K\xff."[..], 255),
            (b"M\x01\x02.", 513),
            (b"J\xfe\xff\xff\xff.", -2),
            (b"\x8a\x00.", 0),
            (b"\x8a\x02\xff\x00.", 255),
            (b"\x8a\x01\xff.", -1),
            (b"\x8a\x08\x00\x00\x00\x00\x00\x00\x00\x80.", i64::MIN),
        ] {
            assert!(matches!(Pickle::read(bytes).unwrap().root(), Node::Int(n) if *n == number), "{bytes:?}");
        }
        let long = Pickle::read(b"\x8a\x09\x00\x00\x00\x00\x00\x00\x00\x80\x00.").unwrap();
        assert!(matches!(long.root(), Node::Plain));
    }

    #[test]
    fn a_value_that_holds_itself_is_read() {
        let pickle = Pickle::read(b"\x80\x02}q\x00X\x01\x00\x00\x00ah\x00s.").unwrap();
        assert!(matches!(pickle.root(), Node::Dict(pairs) if pairs.len() == 1));
    }

    #[test]
    fn what_could_run_code_is_named_and_not_run() {
        assert!(refused(b"cos\nsystem\nX\x02\x00\x00\x00ls\x85R.").contains("asks for os.system"));
        assert!(refused(b"\x8c\x08builtins\x8c\x04eval\x93.").contains("asks for builtins.eval"));
        assert!(refused(b"ctorch.storage\n_load_from_bytes\n.").contains("nothing was run"));
        assert!(refused(b"(icopyreg\nx\n.").contains("an object of a class"));
        assert!(refused(b"\x82\x01.").contains("0x82"));
        assert!(refused(b")R.").contains("not there"));
        assert!(refused(b"K\x01)R.").contains("no function"));
        assert!(refused(b"ccollections\nOrderedDict\nK\x01\x85R.").contains("unknown way"));
    }

    #[test]
    fn instructions_do_not_reach_below_a_mark() {
        for bytes in [&b"K\x01(0."[..], b"K\x01(\x85.", b"}(K\x01u.", b"(t", b"e.", b"h\x00.", b"N.N", b""] {
            refused(bytes);
        }
    }
}
