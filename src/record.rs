//! Keeping activations.

use std::collections::BTreeMap;

use candle_core::Tensor;

use crate::error::{Error, Result};
use crate::hook::Hook;
use crate::site::{At, Site};

/// Activations (or gradients, or activation-like values) by the place they belong to.
#[derive(Debug, Clone, Default)]
pub struct Activations(pub BTreeMap<Site, Tensor>);

impl Activations {
    /// The activation at a site, or an error that says what was kept.
    pub fn get(&self, site: Site) -> Result<&Tensor> {
        self.0.get(&site).ok_or_else(|| Error::NotRecorded { site: site.to_string(), kept: self.kept() })
    }

    /// The activation at a place of a block.
    pub fn block(&self, layer: usize, at: At) -> Result<&Tensor> {
        self.get(Site::Block(layer, at))
    }

    fn kept(&self) -> String {
        let names: Vec<String> = self.0.keys().take(8).map(Site::to_string).collect();
        match self.0.len() {
            0 => "nothing".to_owned(),
            n if n > names.len() => format!("{} and {} more", names.join(", "), n - names.len()),
            _ => names.join(", "),
        }
    }
}

/// Rows of x `[row, …]`, in this order and as often as they are named.
pub(crate) fn of_rows(x: &Tensor, rows: &[usize]) -> Result<Tensor> {
    if rows.iter().copied().eq(0..x.dim(0)?) {
        return Ok(x.contiguous()?);
    }
    let rows: Vec<u32> = rows.iter().map(|&row| row as u32).collect();
    Ok(x.contiguous()?.index_select(&Tensor::new(rows, x.device())?, 0)?)
}

/// One position of each row: x `[batch, pos, …]` → `[batch, …]`.
pub fn at_positions(x: &Tensor, positions: &[usize]) -> Result<Tensor> {
    let dims = x.dims();
    let (batch, pos) = match dims {
        [batch, pos, ..] if *batch == positions.len() => (*batch, *pos),
        _ => {
            let what = format!("the activation read at {} positions", positions.len());
            return Err(Error::Shape { what, got: dims.to_vec(), expected: "[batch, pos, …]".into() });
        }
    };
    if let Some(&index) = positions.iter().find(|&&p| p >= pos) {
        return Err(Error::OutOfRange { what: "position", index, size: pos, site: "the prompt".into() });
    }
    let rows: Vec<u32> = positions.iter().enumerate().map(|(row, p)| (row * pos + p) as u32).collect();
    let rows = Tensor::from_vec(rows, batch, x.device())?;
    Ok(x.flatten(0, 1)?.index_select(&rows, 0)?)
}

/// A hook that keeps what it is told to keep.
pub struct Recorder<F> {
    wanted: F,
    /// What was kept so far.
    pub kept: Activations,
}

impl<F: Fn(Site) -> bool> Recorder<F> {
    /// Keeps the activations of the sites for which `wanted` says yes.
    pub fn new(wanted: F) -> Recorder<F> {
        Recorder { wanted, kept: Activations::default() }
    }
}

impl<F: Fn(Site) -> bool> Hook for Recorder<F> {
    fn wants(&self, site: Site) -> bool {
        (self.wanted)(site)
    }

    fn visit(&mut self, site: Site, _: usize, x: Tensor) -> Result<Tensor> {
        self.kept.0.insert(site, x.clone());
        Ok(x)
    }
}
