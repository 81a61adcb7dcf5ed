//! Tensors as a safetensors file: f32, names and metadata in order, streamed one tensor at a time.

use super::atomic::{Filled, Written, stream_file_atomically};
use crate::error::{Error, Result};
use candle_core::{DType, Tensor};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

/// Writes tensors, converted to f32, with metadata; the same tensors give the same bytes.
///
/// The safetensors crate keeps metadata in a hash map, whose order changes from run to run, and wants every byte in memory at
/// once; the format is a length, a JSON header and the numbers, so it is written here.
pub fn write_tensors(
    path: &Path,
    tensors: &BTreeMap<String, Tensor>,
    metadata: &BTreeMap<String, String>,
    force: bool,
) -> Result<Written> {
    stream_file_atomically(path, force, |out| safetensors(out, tensors, metadata))
}

/// The file's bytes, in order of names.
pub(super) fn safetensors(
    out: &mut dyn Write,
    tensors: &BTreeMap<String, Tensor>,
    metadata: &BTreeMap<String, String>,
) -> Filled {
    let mut header = Map::new();
    if !metadata.is_empty() {
        header.insert("__metadata__".into(), json!(metadata));
    }
    let mut end = 0;
    for (name, tensor) in tensors {
        let start = end;
        end += tensor.elem_count() * size_of::<f32>();
        let entry = json!({ "dtype": "F32", "shape": tensor.dims(), "data_offsets": [start, end] });
        header.insert(name.clone(), entry);
    }
    let mut header = Value::Object(header).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(&header)?;
    for tensor in tensors.values() {
        let numbers: Vec<f32> = tensor
            .flatten_all()
            .and_then(|flat| flat.to_dtype(DType::F32)?.to_vec1())
            .map_err(Error::from)?;
        for few in numbers.chunks(4096) {
            let bytes: Vec<u8> = few.iter().flat_map(|x| x.to_le_bytes()).collect();
            out.write_all(&bytes)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn readable_by_the_library_and_the_same_twice() {
        let device = Device::Cpu;
        let tensors = BTreeMap::from([
            (
                "b.flipped".to_owned(),
                Tensor::arange(0f64, 6.0, &device).unwrap().reshape((2, 3)).unwrap().t().unwrap(),
            ),
            ("a \"scalar\"".to_owned(), Tensor::new(2.5f32, &device).unwrap()),
            ("empty".to_owned(), Tensor::zeros((0, 4), DType::F32, &device).unwrap()),
            ("tokens".to_owned(), Tensor::new(&[1u32, 2], &device).unwrap()),
        ]);
        let metadata = BTreeMap::from([("x".to_owned(), "1".to_owned()), ("a".to_owned(), "é".to_owned())]);
        let (mut first, mut second) = (Vec::new(), Vec::new());
        assert!(safetensors(&mut first, &tensors, &metadata).is_ok());
        assert!(safetensors(&mut second, &tensors, &metadata).is_ok());
        assert_eq!(first, second);
        let back = candle_core::safetensors::load_buffer(&first, &device).unwrap();
        assert_eq!(back.len(), 4);
        assert_eq!(back["b.flipped"].to_vec2::<f32>().unwrap(), [[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]);
        assert_eq!(back["a \"scalar\""].to_scalar::<f32>().unwrap(), 2.5);
        assert_eq!(back["tokens"].dtype(), DType::F32);
        assert_eq!(back["empty"].dims(), [0, 4]);
        let (_, header) = safetensors::SafeTensors::read_metadata(&first).unwrap();
        assert_eq!(header.metadata().as_ref().unwrap()["a"], "é");
    }
}
