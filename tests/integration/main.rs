//! The one integration binary.

mod ops;

mod output;
