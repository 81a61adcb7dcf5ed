//! One file per picture.

pub mod attention;
pub mod bars;
pub mod curve;
pub mod dose;
pub mod heatmap;
pub mod lens;
pub mod panels;
pub mod probe;
pub mod scatter;
pub mod scores;
pub mod tokens;
pub mod trace;
pub mod waterfall;
