//! One file per picture.

pub mod bars;
pub mod heatmap;
