//! glassbox: a workbench that opens up a language model.
pub mod error;

pub mod site;

pub mod ops;

pub mod hook;

pub mod edit;
pub mod record;

pub mod gradient;

pub mod model;

pub mod component;

pub mod vocabulary;

pub mod checkpoint;
pub mod family;

pub mod lab;

pub mod metric;

pub mod decide;
pub mod distribution;

pub mod task;

pub mod recording;

pub mod sweep;

pub mod stats;

pub mod row;

pub mod patterns;

pub mod show;

pub mod analysis;

pub mod table;

pub mod output;

pub mod figure;

pub mod study;

pub mod report;

pub mod command;

pub use error::{Error, Result};
