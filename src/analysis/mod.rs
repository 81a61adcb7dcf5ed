//! One file per method. An analysis takes a lab and a task and returns tables with per-example spread; it knows no
//! file, frame, figure or terminal.

pub mod ablate;
mod agreement;
pub mod atp;
pub mod attribution;
pub mod circuit;
pub mod components;
pub mod edges;
pub mod heads;
pub mod knockout;
pub mod lens;
pub mod patch;
pub mod path;
pub mod predict;
pub mod probe;
pub mod repair;
pub mod steer;
pub mod trace;
pub mod weights;

use std::collections::BTreeMap;

use candle_core::Tensor;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};
use crate::lab::Lab;
use crate::metric::Metric;
use crate::row::Rows;
use crate::stats::mean;
use crate::task::{Example, Task};

/// From what size on an effect is worth a remark: this share of what there is to explain.
pub const NOTABLE: f64 = 0.05;

/// What an analysis found.
#[derive(Debug, Clone, Default)]
pub struct Findings {
    /// Tables, the first being the one to print.
    pub tables: Vec<Rows>,
    /// Dense arrays by name, for `tensors.safetensors`.
    pub tensors: BTreeMap<String, Tensor>,
    /// Texts by the name of the file that a run folder keeps them in: `circuit.json`.
    pub files: BTreeMap<String, String>,
    /// Sentences that belong beside the tables: residues, what was left out and why.
    pub notes: Vec<String>,
}

/// A method. Its fields are its parameters, and their docs the manual.
pub trait Analysis: DeserializeOwned + Default {
    /// As in studies and `glassbox list analyses`.
    const NAME: &'static str;
    /// One line.
    const ABOUT: &'static str;
    /// Whether every prompt must have a corrupt partner.
    const NEEDS_PAIRS: bool = false;
    /// Whether it has a parameter `metric`, which a study sets for all its steps.
    const TAKES_METRIC: bool = false;
    /// Whether it has a parameter `reference` (prompts as token ids), which `--reference` fills.
    const TAKES_REFERENCE: bool = false;
    /// Whether it has a parameter `given` (the text of a circuit), which `--circuit` fills.
    const TAKES_CIRCUIT: bool = false;
    /// Whether it can take what it puts into a run from recorded activations (`Lab::values`) or from the mean over a reference,
    /// instead of a corrupt partner.
    const TAKES_VALUES: bool = false;
    /// Whether it has a parameter `show` (names of heads), which `--heads` fills.
    const TAKES_HEADS: bool = false;
    /// Whether it keeps activations in the folder that `--activations` names.
    const TAKES_ACTIVATIONS: bool = false;
    /// The generator that is asked for prompts when nobody names any.
    const TASK: &'static str = "ioi";
    /// Runs it.
    fn run(&self, lab: &Lab, task: &Task) -> Result<Findings>;
}

/// A registered analysis, its parameters erased to TOML.
pub struct Entry {
    /// As in studies.
    pub name: &'static str,
    /// One line.
    pub about: &'static str,
    /// Whether every prompt must have a corrupt partner.
    pub needs_pairs: bool,
    /// Whether it has a parameter `metric`.
    pub takes_metric: bool,
    /// Whether it has a parameter `reference`.
    pub takes_reference: bool,
    /// Whether it has a parameter `given`.
    pub takes_circuit: bool,
    /// Whether recorded activations or a reference can stand in for corrupt partners.
    pub takes_values: bool,
    /// Whether it has a parameter `show`.
    pub takes_heads: bool,
    /// Whether it keeps activations between runs.
    pub takes_activations: bool,
    /// The generator that is asked for prompts when nobody names any.
    pub task: &'static str,
    /// Reads the parameters (unknown ones are errors) and runs.
    pub run: fn(toml::Table, &Lab, &Task) -> Result<Findings>,
}

/// Every analysis. A test fails when a file of this folder is missing here.
pub const ANALYSES: &[Entry] = &[
    entry::<predict::Predict>(),
    entry::<lens::Lens>(),
    entry::<attribution::Attribution>(),
    entry::<patch::Patch>(),
    entry::<path::Path>(),
    entry::<atp::Atp>(),
    entry::<components::Components>(),
    entry::<edges::Edges>(),
    entry::<circuit::Circuits>(),
    entry::<heads::Heads>(),
    entry::<weights::Weights>(),
    entry::<ablate::Ablate>(),
    entry::<knockout::Knockout>(),
    entry::<trace::Trace>(),
    entry::<repair::Repair>(),
    entry::<probe::Probe>(),
    entry::<steer::Steer>(),
];

/// The registry entry of an analysis.
pub const fn entry<A: Analysis>() -> Entry {
    Entry {
        name: A::NAME,
        about: A::ABOUT,
        needs_pairs: A::NEEDS_PAIRS,
        takes_metric: A::TAKES_METRIC,
        takes_reference: A::TAKES_REFERENCE,
        takes_circuit: A::TAKES_CIRCUIT,
        takes_values: A::TAKES_VALUES,
        takes_heads: A::TAKES_HEADS,
        takes_activations: A::TAKES_ACTIVATIONS,
        task: A::TASK,
        run: run::<A>,
    }
}

fn run<A: Analysis>(parameters: toml::Table, lab: &Lab, task: &Task) -> Result<Findings> {
    let analysis: A = parameters.try_into().map_err(|e: toml::de::Error| {
        Error::usage(format!("the parameters of `{}` cannot be read: {}", A::NAME, e.message()), A::ABOUT)
    })?;
    analysis.run(lab, task)
}

/// The registered analysis of this name.
pub fn find(name: &str) -> Result<&'static Entry> {
    let found = ANALYSES.iter().find(|entry| entry.name == name);
    found.ok_or_else(|| Error::unknown("analysis", name, ANALYSES.iter().map(|entry| entry.name)))
}

crate::row! {
    /// How far apart the two runs of one example are.
    pub struct GapRow {
        /// The example.
        pub example: String,
        /// What they differ by in the metric. Effects are shares of its mean, and are resampled with it.
        pub gap: f64,
    }
}

/// Table `examples_gap_<analysis>`: what its effects are shares of, example by example.
pub(crate) fn gaps(analysis: &str, task: &Task, gaps: &[f64]) -> Rows {
    let row = |(example, &gap): (&Example, &f64)| GapRow { example: example.id.clone(), gap };
    let rows: Vec<GapRow> = task.examples.iter().zip(gaps).map(row).collect();
    Rows::of(format!("examples_gap_{analysis}"), &rows)
}

/// Puts the values of a batch of examples in their places among all.
pub(crate) fn put(all: &mut [f64], examples: &[usize], values: &[f64]) {
    for (&example, &value) in examples.iter().zip(values) {
        if let Some(place) = all.get_mut(example) {
            *place = value;
        }
    }
}

/// The two runs of a pair, in words.
pub(crate) const PAIR: &str = "clean and corrupt prompts";

/// Effects are shares of the gap between two runs, `runs` in words, which is refused where it is nothing, with the numbers.
pub(crate) fn refuse_small_gap(metric: Metric, runs: &str, one: &[f64], other: &[f64]) -> Result<()> {
    let (one, other) = (mean(one), mean(other));
    if let Some(value) = [one, other].into_iter().find(|value| !value.is_finite()) {
        return Err(Error::input(
            format!("{metric} of the unpatched runs is {value}: nothing can be compared with that"),
            "check the weights, or choose another metric",
        ));
    }
    if (one - other).abs() >= 0.01 {
        return Ok(());
    }
    Err(Error::input(
        format!(
            "{runs} hardly differ in {metric}: the means are {one:.4} and {other:.4}, a gap of {:.4}; effects are \
             shares of the gap and need at least 0.01",
            one - other
        ),
        "choose a corruption that takes the behaviour away, or another metric",
    ))
}
