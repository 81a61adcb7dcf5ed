//! The one integration binary.

mod ablation;
mod architectures;
mod attribution_patching;
mod causal;
mod chat;
mod command;
mod conformance;
mod families;
mod families_config;
mod families_hostile;
mod figure;
mod fold;
mod gallery;
mod generation;
mod generators;
mod hostile;
#[cfg(feature = "hub")]
mod hub;
mod killed;
mod layering;
mod learn;
mod loading;
mod memory;
mod mutation;
mod ops;
mod oracle;
mod output;
mod page;
mod parity;
mod pickles;
mod probing;
mod promises;
mod prompts;
mod readings;
mod refusals;
mod series;
mod shapes;
mod speaking;
#[cfg(feature = "hub")]
mod stand_in;
mod steering;
mod styles;
mod textbook;
mod tiny;
mod training;
mod wired;
