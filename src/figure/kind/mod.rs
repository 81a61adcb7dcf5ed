//! One file per picture.

pub mod attention;
pub mod bars;
pub mod circuit;
pub mod curve;
pub mod faithfulness;
pub mod heatmap;
pub mod lens;
pub mod roc;
pub mod scatter;
pub mod tokens;
pub mod training;
