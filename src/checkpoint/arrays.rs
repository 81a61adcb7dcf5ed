//! A file of named arrays and what it says about itself: recorded activations, as `glassbox record --out` writes them.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};

use super::{Tensors, file_name, shards};
use crate::error::{Error, Result};

/// The file, its arrays read when they are asked for.
#[derive(Debug, Clone)]
pub struct Arrays {
    /// The file's name.
    pub name: String,
    /// What the file says about itself, as text.
    pub about: BTreeMap<String, String>,
    path: PathBuf,
    shapes: BTreeMap<String, Vec<usize>>,
}

impl Arrays {
    /// Opens a safetensors file and reads its header.
    pub fn open(path: &Path) -> Result<Arrays> {
        let tensors = Tensors::open(&[path.to_owned()], DType::F32, &Device::Cpu)?;
        let shape = |name: &str| tensors.shape(name).unwrap_or_default().to_vec();
        let shapes = tensors.names().map(|name| (name.to_owned(), shape(name))).collect();
        let mut file = File::open(path).map_err(|e| Error::file("read", path, e, "check its permissions"))?;
        let (name, about) = (file_name(path), shards::about(&mut file));
        Ok(Arrays { name, about, path: path.canonicalize().unwrap_or_else(|_| path.to_owned()), shapes })
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The names of its arrays, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.shapes.keys().map(String::as_str)
    }

    /// The shape of an array.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.shapes.get(name).map(Vec::as_slice)
    }

    /// An array as `dtype` (f32 or f64), in main memory. Numbers that are not finite are refused.
    pub fn read(&self, name: &str, dtype: DType) -> Result<Tensor> {
        let shape = self.shape(name).unwrap_or_default();
        Tensors::open(std::slice::from_ref(&self.path), dtype, &Device::Cpu)?.take(name, shape)
    }
}
