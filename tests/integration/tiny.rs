//! Opens the tiny checkpoints.

use std::path::Path;

use candle_core::{DType, Device};
use glassbox::Result;
use glassbox::lab::Lab;
use glassbox::model::Transformer;

/// The model in a folder.
pub fn open(dir: &Path, dtype: DType) -> Result<Transformer> {
    Ok(Lab::open(&dir.to_string_lossy(), dtype, &Device::Cpu)?.model)
}
