//! Weights as `torch.save` writes them: read as torch reads them, and nothing in them is ever run.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use glassbox::checkpoint::Tensors;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::hostile::{hold, is_a_sentence};
use crate::loading::{Copy, open, tiny};
use crate::tiny;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pickles")
}

fn read(path: &Path) -> glassbox::Result<Tensors> {
    Tensors::open(&[path.to_owned()], DType::F32, &Device::Cpu)
}

fn numbers(x: &Tensor) -> Vec<f32> {
    x.flatten_all().unwrap().to_vec1().unwrap()
}

/// Every tensor of a file that is of a float type.
fn values(tensors: &mut Tensors) -> BTreeMap<String, Tensor> {
    let names: Vec<String> = tensors.names().map(str::to_owned).collect();
    let mut found = BTreeMap::new();
    for name in names {
        let shape = tensors.shape(&name).unwrap().to_vec();
        match tensors.take(&name, &shape) {
            Ok(value) => drop(found.insert(name, value)),
            Err(error) => is_a_sentence(&error),
        }
    }
    found
}

/// Values, shapes, order of axes and shared storages, against what torch read back.
#[test]
fn tensors_are_what_torch_reads() {
    let expected = candle_core::safetensors::load(folder().join("values.safetensors"), &Device::Cpu).unwrap();
    let mut seen = BTreeSet::new();
    for file in ["plain", "parameters", "views", "types", "small", "nested"] {
        for (name, ours) in values(&mut read(&folder().join(format!("{file}.pt"))).unwrap()) {
            let theirs = &expected[&format!("{file}/{name}")];
            assert_eq!(ours.dims(), theirs.dims(), "{file}/{name}");
            assert_eq!(numbers(&ours), numbers(theirs), "{file}/{name}");
            seen.insert(format!("{file}/{name}"));
        }
    }
    let all: BTreeSet<String> = expected.keys().cloned().collect();
    assert_eq!(seen, all);
    let mut newer = read(&folder().join("protocol4.pt")).unwrap();
    assert_eq!(numbers(&values(&mut newer)["a"]), numbers(&expected["plain/a"]));
    // a matrix that lies turned in the file, turned
    let mut views = read(&folder().join("views.pt")).unwrap();
    assert_eq!(numbers(&views.take_turned("turned", 6, 4).unwrap()), numbers(&expected["views/base"]));
    views.copy_of("same", "base").unwrap();
    assert!(views.copy_of("turned", "base").is_err());
    // whole numbers and truth values are there, and are no weights
    let mut types = read(&folder().join("types.pt")).unwrap();
    assert_eq!(types.shape("mask"), Some(&[2, 2][..]));
    let refusal = types.take("ids", &[4]).unwrap_err().to_string();
    assert!(refusal.contains("ids in types.pt is of type I64"), "{refusal}");
}

#[test]
fn tensors_of_no_axis_and_of_no_numbers_are_read_from_safetensors() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let one = Tensor::from_vec(vec![2.5f32], (), &Device::Cpu).unwrap();
    let none = Tensor::from_vec(Vec::<f32>::new(), (3, 0), &Device::Cpu).unwrap();
    let tensors = [("one".to_owned(), one), ("none".to_owned(), none)];
    candle_core::safetensors::save(&tensors.into(), &path).unwrap();
    let mut tensors = read(&path).unwrap();
    assert_eq!(numbers(&tensors.take("one", &[]).unwrap()), [2.5]);
    assert_eq!(tensors.take("none", &[3, 0]).unwrap().dims(), [3, 0]);
    assert_eq!(tensors.take_turned("none", 3, 0).unwrap().dims(), [0, 3]);
    tensors.finish().unwrap();
}

/// The same model under every name its file may have, whole and in shards.
#[test]
fn a_model_is_the_same_from_torch_and_from_safetensors() {
    let logits = |folder: &Path| {
        let model = tiny::open(folder, DType::F32).unwrap();
        numbers(&model.forward(&model.tokens(&[&[5, 1, 4, 1, 17]]).unwrap(), &mut ()).unwrap())
    };
    let expected = logits(&tiny("gpt2-bpe"));
    for name in ["pytorch_model.bin", "gpt2.pt", "step.pth"] {
        let copy = Copy::of("gpt2-bpe");
        fs::remove_file(copy.path("model.safetensors")).unwrap();
        fs::copy(folder().join("gpt2-bpe.bin"), copy.path(name)).unwrap();
        assert_eq!(logits(copy.folder()), expected, "{name}");
        assert_eq!(open(copy.folder()).unwrap().about.hash.len(), 64);
    }
    let copy = Copy::of("gpt2-bpe");
    fs::remove_file(copy.path("model.safetensors")).unwrap();
    let shard = "pytorch_model-00001-of-00001.bin";
    fs::copy(folder().join("gpt2-bpe.bin"), copy.path(shard)).unwrap();
    let names: serde_json::Map<_, _> = read(&copy.path(shard))
        .unwrap()
        .names()
        .map(|name| (name.to_owned(), serde_json::Value::from(shard)))
        .collect();
    let index = serde_json::json!({"metadata": {}, "weight_map": names});
    fs::write(copy.path("pytorch_model.bin.index.json"), index.to_string()).unwrap();
    assert_eq!(logits(copy.folder()), expected);
    copy.json("pytorch_model.bin.index.json", |index| index["weight_map"]["absent"] = shard.into());
    let refusal = open(copy.folder()).err().unwrap().to_string();
    assert!(refusal.contains("absent is in pytorch_model-00001"), "{refusal}");
}

#[test]
fn what_is_no_dict_of_tensors_is_refused_in_a_sentence() {
    for (file, words, hint) in [
        ("module", "asks for torch.nn.modules.container.Sequential", "model.state_dict()"),
        ("sparse", "asks for torch._utils._rebuild_sparse_tensor", "model.state_dict()"),
        ("two", "under model, state_dict: which", "model.state_dict()"),
        ("beside", "under model and beside them", "model.state_dict()"),
        ("none", "keys: epoch, weights", "model.state_dict()"),
        ("numbered", "whose name is no text", "model.state_dict()"),
        ("list", "no dict", "model.state_dict()"),
        ("expanded", "a in it repeats its numbers: shape [1000, 1000] over 1", "x.contiguous()"),
        ("legacy", "before version 1.6", "torch.load("),
        ("script", "TorchScript", "torch.jit.load("),
        ("compressed", "compressed", "model.state_dict()"),
    ] {
        let error = read(&folder().join(format!("{file}.pt"))).unwrap_err();
        is_a_sentence(&error);
        let text = error.to_string();
        println!("{text}\n");
        let (message, way_out) = text.split_once("\n  hint: ").unwrap();
        assert!(message.contains(words) && way_out.contains(hint), "{file}: {text}");
    }
    let other = tempfile::tempdir().unwrap();
    let path = other.path().join("x.pt");
    let big = fs::read(folder().join("plain.pt")).unwrap();
    let at = big.windows(6).position(|part| part == b"little").unwrap();
    fs::write(&path, [&big[..at], b"biggie", &big[at + 6..]].concat()).unwrap();
    let text = read(&path).unwrap_err().to_string();
    assert!(text.contains("biggie-endian"), "{text}");
    fs::write(&path, "a picture").unwrap();
    assert!(read(&path).unwrap_err().to_string().contains("no file that torch.save wrote"));
    fs::write(&path, "version https://git-lfs.github.com/spec/v1\n").unwrap();
    assert!(read(&path).unwrap_err().to_string().contains("git lfs pull"));
}

#[test]
fn a_pickle_that_would_run_code_is_named_and_not_run() {
    let text = read(&folder().join("hostile.pt")).unwrap_err().to_string();
    assert!(text.contains("asks for posix.system") && text.contains("nothing was run"), "{text}");
    for place in [folder(), PathBuf::from("."), PathBuf::from(env!("CARGO_MANIFEST_DIR"))] {
        assert!(!place.join("marker").exists(), "the pickle was run");
    }
}

#[test]
fn several_files_are_a_question() {
    let copy = Copy::of("gpt2-bpe");
    fs::remove_file(copy.path("model.safetensors")).unwrap();
    for name in ["a.pt", "b.pth"] {
        fs::copy(folder().join("gpt2-bpe.bin"), copy.path(name)).unwrap();
    }
    let text = open(copy.folder()).err().unwrap().to_string();
    assert!(text.contains("more than one other weight file: a.pt, b.pth"), "{text}");
}

/// One change to a file's bytes: another byte, a cut, a part said twice or left out.
#[derive(Debug, Clone)]
pub enum Harm {
    Byte(Index, u8),
    Cut(Index),
    Twice(Index, Index),
    Gone(Index, Index),
    Word(Index, Vec<u8>),
}

pub fn harm() -> impl Strategy<Value = Harm> {
    // instructions and numbers that a pickle or an archive may turn on
    let words: Vec<Vec<u8>> = vec![
        b"\xff\xff\xff\xff\xff\xff\xff\x7f".to_vec(),
        b"\x00\x00\x00\x00\x00\x00\x00\x80".to_vec(),
        b"(((((((((".to_vec(),
        b")))))))))".to_vec(),
        b"h\x00h\x00h\x00".to_vec(),
        b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff".to_vec(),
        b"cos\nsystem\n".to_vec(),
        b"PK\x01\x02".to_vec(),
        b"PK\x05\x06".to_vec(),
    ];
    prop_oneof![
        6 => (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Harm::Byte(at, byte)),
        1 => any::<Index>().prop_map(Harm::Cut),
        1 => (any::<Index>(), any::<Index>()).prop_map(|(a, b)| Harm::Twice(a, b)),
        1 => (any::<Index>(), any::<Index>()).prop_map(|(a, b)| Harm::Gone(a, b)),
        2 => (any::<Index>(), select(words)).prop_map(|(at, word)| Harm::Word(at, word)),
    ]
}

pub fn harmed(mut bytes: Vec<u8>, harms: &[Harm]) -> Vec<u8> {
    for harm in harms {
        let place = |at: &Index| at.index(bytes.len().max(1)).min(bytes.len());
        let range = |a: &Index, b: &Index| place(a).min(place(b))..place(a).max(place(b));
        match harm {
            Harm::Byte(at, byte) => {
                let at = place(at);
                bytes.iter_mut().skip(at).take(1).for_each(|old| *old = *byte);
            }
            Harm::Cut(at) => bytes.truncate(place(at)),
            Harm::Twice(a, b) => {
                let range = range(a, b);
                let part = bytes[range.clone()].to_vec();
                bytes.splice(range.end..range.end, part);
            }
            Harm::Gone(a, b) => drop(bytes.drain(range(a, b))),
            Harm::Word(at, word) => {
                let at = place(at);
                for (old, new) in bytes.iter_mut().skip(at).zip(word) {
                    *old = *new;
                }
            }
        }
    }
    bytes
}

/// Harm anywhere in a file, and harm inside of its pickle alone, which an archive's checks do not see.
#[test]
fn any_file_of_torch_is_read_or_refused() {
    let files: Vec<Vec<u8>> = fs::read_dir(folder())
        .unwrap()
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ext| ext == "pt"))
        .collect::<BTreeSet<PathBuf>>()
        .into_iter()
        .map(|path| fs::read(path).unwrap())
        .collect();
    assert!(files.len() > 15);
    let bench = tempfile::tempdir().unwrap();
    let path = bench.path().join("x.pt");
    hold(4096, (select(files), vec(harm(), 1..4), any::<bool>()), |(file, harms, inside)| {
        // a file's first entry is its pickle, and after it comes the descriptor of its length
        let start = 64.min(file.len());
        let end = file.windows(4).position(|part| part == b"PK\x07\x08").map_or(start, |end| end.max(start));
        let bytes = match inside {
            true => {
                let mut pickle = harmed(file[start..end].to_vec(), &harms);
                pickle.resize(end - start, b'.');
                [&file[..start], &pickle, &file[end..]].concat()
            }
            false => harmed(file, &harms),
        };
        fs::write(&path, &bytes).unwrap();
        match read(&path) {
            Err(error) => is_a_sentence(&error),
            Ok(mut tensors) => {
                for (name, value) in values(&mut tensors) {
                    // no number stands for more than one of the file's
                    assert!(value.elem_count() <= bytes.len(), "{name} has {}", value.elem_count());
                }
            }
        }
    });
}

#[test]
fn a_file_of_torch_cut_short_anywhere_is_an_error() {
    let bench = tempfile::tempdir().unwrap();
    let path = bench.path().join("x.pt");
    let whole = fs::read(folder().join("views.pt")).unwrap();
    for length in (0..whole.len()).step_by(3) {
        fs::write(&path, &whole[..length]).unwrap();
        is_a_sentence(&read(&path).unwrap_err());
    }
}
