//! A pickle's values, read and never run.
//!
//! A pickle is a program for a stack machine that may call any function of Python. The machine here knows the instructions
//! that `torch.save` writes for dicts of tensors and a closed list of names; it calls nothing, and refuses all else.
//! Values lie in one list and name each other by their place in it, so that a value that holds itself is no loop here.

mod machine;

use safetensors::Dtype;

use machine::Machine;

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

/// A value, or why there is none.
pub(super) type Read<T> = Result<T, Refusal>;

/// A pickle that was read to its end.
#[derive(Debug)]
pub(super) struct Pickle<'a> {
    nodes: Vec<Node<'a>>,
    root: usize,
}

impl<'a> Pickle<'a> {
    /// Reads a pickle; its value is whatever its last instruction left.
    pub(super) fn read(bytes: &'a [u8]) -> Read<Pickle<'a>> {
        let (nodes, root) = Machine::new(bytes).run()?;
        Ok(Pickle { nodes, root })
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
