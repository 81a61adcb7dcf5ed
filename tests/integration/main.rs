//! The one integration binary.

mod figure;
mod generators;
mod ops;
mod promises;

mod output;
