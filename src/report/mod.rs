//! The report: findings as one page that explains them.

mod html;
mod markdown;
mod numbers;
pub mod page;
mod svg;

pub use html::write as html;
pub use markdown::write as markdown;
