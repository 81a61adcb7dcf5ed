//! One file per picture.

pub mod attention;
pub mod bars;
pub mod circuit;
pub mod curve;
pub mod dose;
pub mod faithfulness;
pub mod heatmap;
pub mod lens;
pub mod panels;
pub mod probe;
pub mod roc;
pub mod scatter;
pub mod scores;
pub mod tokens;
pub mod trace;
pub mod training;
pub mod waterfall;
