//! The one integration binary.

mod ops;
