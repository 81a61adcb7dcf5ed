//! The one integration binary.

mod causal;
mod paths;
mod styles;
mod wired;
