//! The one integration binary.

mod ops;
mod promises;

mod output;
