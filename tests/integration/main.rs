//! The one integration binary.

mod ablation;
mod causal;
mod command;
mod conformance;
mod figure;
mod fold;
mod generators;
mod killed;
mod layering;
mod learn;
mod loading;
mod mutation;
mod ops;
mod output;
mod page;
mod parity;
mod probing;
mod promises;
mod prompts;
mod readings;
mod refusals;
mod textbook;
mod tiny;
mod training;
mod wired;
