//! glassbox: a workbench that opens up a language model.
pub mod error;
pub mod row;
pub use error::{Error, Result};
