//! The one integration binary.

mod figure;
mod ops;
mod promises;

mod output;
