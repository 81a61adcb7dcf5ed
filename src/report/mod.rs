//! The report: findings as one page that explains them.

mod command;
pub mod compare;
mod derive;
mod explore;
mod facts;
mod figures;
mod findings;
mod html;
mod markdown;
mod numbers;
pub mod page;
mod progress;
mod sections;
mod story;
mod svg;
mod write;

pub use figures::{Drawing, ENDINGS};
pub use html::write as html;
pub use markdown::write as markdown;
pub use progress::run;
pub use story::Run;
pub use write::{manifest, write};
