//! One file per picture.

pub mod attention;
pub mod bars;
pub mod circuit;
pub mod curve;
pub mod heatmap;
pub mod lens;
pub mod scatter;
pub mod tokens;
