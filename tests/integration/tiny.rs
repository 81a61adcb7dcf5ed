//! Opens the tiny checkpoints.

use std::path::{Path, PathBuf};

use candle_core::{DType, Device};
use glassbox::Result;
use glassbox::lab::Lab;
use glassbox::model::Transformer;

/// The folder of a tiny checkpoint.
pub fn checkpoint(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/tiny").join(name)
}

/// The model in a folder.
pub fn open(dir: &Path, dtype: DType) -> Result<Transformer> {
    Ok(Lab::open(&dir.to_string_lossy(), dtype, &Device::Cpu)?.model)
}
