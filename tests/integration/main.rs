//! The one integration binary.

mod causal;
mod figure;
mod generators;
mod loading;
mod ops;
mod parity;
mod promises;
mod prompts;
mod readings;
mod refusals;
mod tiny;

mod output;

mod page;
