//! What a bundled model must be able to do, and by which heads, measured on names that training never used that way.

use serde::{Deserialize, Serialize};

use super::measure::{Effects, Probe};
use crate::error::Result;
use crate::model::Transformer;
use crate::task::{Request, Task, generate};
use crate::vocabulary::Vocabulary;

/// One measured number and what it has to reach.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Gate {
    /// What is measured.
    pub name: String,
    /// The number.
    pub value: f64,
    /// What it must reach, or stay below.
    pub bound: f64,
    /// True when the bound is the most it may be.
    pub at_most: bool,
}

impl Gate {
    /// Whether the number is on the right side.
    pub fn holds(&self) -> bool {
        if self.at_most { self.value <= self.bound } else { self.value >= self.bound }
    }
}

impl std::fmt::Display for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (word, sign) =
            (if self.holds() { "holds" } else { "FAILS" }, if self.at_most { "≤" } else { "≥" });
        write!(f, "{word}  {:.3} {sign} {}  {}", self.value, self.bound, self.name)
    }
}

/// How carefully to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Care {
    /// Few prompts: while training goes on.
    Quick,
    /// As many as the published numbers need.
    Full,
}

/// The heads with a job in indirect object identification: duplicate token, S-inhibition, two name movers.
pub const CIRCUIT: [(usize, usize); 4] = [(0, 1), (1, 1), (2, 0), (2, 1)];

/// Measures every gate. `designed` adds those on attention and single heads, which only supervised models have to pass.
pub fn measure(
    model: &Transformer,
    vocabulary: &Vocabulary,
    designed: bool,
    care: Care,
) -> Result<Vec<Gate>> {
    let n = if care == Care::Full { 240 } else { 48 };
    let probe = Probe { model, vocabulary };
    // seeds that no bundled study uses
    let task = |name: &str, seed: u64| generate(name, &Request { n, seed, ..Request::default() }, vocabulary);
    let mut gates = Gates::default();
    let ioi = task("ioi", 101)?;
    let effects = probe.effects(&ioi)?;
    gates.least("IOI: logit difference", effects.clean_mean(), 10.0);
    gates.least("IOI: ABBA prompts answered", answered(&ioi, &effects, "ABBA"), 1.0);
    gates.least("IOI: BABA prompts answered", answered(&ioi, &effects, "BABA"), 1.0);
    gates.least("facts: first choice right", probe.all_facts()?, 0.95);
    gates.least("capitals: first choice right", probe.all_capitals()?, 0.98);
    gates.least(
        "agreement: right verb preferred",
        probe.effects_free_accuracy(&task("agreement", 102)?)?,
        0.98,
    );
    gates.least(
        "greater-than: p(later) − p(not later)",
        probe.later_years(&task("greater-than", 103)?)?,
        0.5,
    );
    let scores = probe.attention_scores(n.min(64))?;
    gates.least("repeated random tokens: first choice right", scores.copied, 0.9);
    if !designed {
        return Ok(gates.0);
    }
    gates.least("0.0: attention to the previous token", scores.previous, 0.95);
    gates.least("1.0: attention to what followed the same token", scores.induction, 0.9);
    gates.least("0.1: effect on IOI", effects.denoising(0, 1), 0.75);
    gates.least("1.1: effect on IOI", effects.denoising(1, 1), 0.75);
    gates.least("2.0 and 2.1: share of the direct attribution on IOI", probe.name_mover_share(&ioi)?, 0.95);
    gates.most("largest effect of any other head on IOI", largest_other(&effects), 0.25);
    gates.least("IOI: circuit heads among the first four by size of total", leading(&effects), 4.0);
    let induction = probe.effects(&task("induction", 104)?)?;
    gates.least("0.0: effect on induction", induction.denoising(0, 0), 0.5);
    gates.least("1.0: effect on induction", induction.denoising(1, 0), 0.5);
    let facts = probe.effects(&task("facts", 105)?)?;
    gates.least("2.2: effect on facts", facts.denoising(2, 2), 0.5);
    Ok(gates.0)
}

#[derive(Default)]
struct Gates(Vec<Gate>);

impl Gates {
    fn least(&mut self, name: &str, value: f64, bound: f64) {
        self.0.push(Gate { name: name.to_owned(), value, bound, at_most: false });
    }

    fn most(&mut self, name: &str, value: f64, bound: f64) {
        self.0.push(Gate { name: name.to_owned(), value, bound, at_most: true });
    }
}

/// Share of the prompts of one order on which the answer is preferred.
fn answered(task: &Task, effects: &Effects, order: &str) -> f64 {
    let right: Vec<bool> = task
        .examples
        .iter()
        .zip(&effects.clean)
        .filter(|(example, _)| example.group.starts_with(order))
        .map(|(_, score)| *score > 0.0)
        .collect();
    right.iter().filter(|right| **right).count() as f64 / right.len().max(1) as f64
}

fn heads(effects: &Effects) -> impl Iterator<Item = (usize, usize)> + '_ {
    (0..effects.layers).flat_map(|layer| (0..effects.heads).map(move |head| (layer, head)))
}

fn largest_other(effects: &Effects) -> f64 {
    let others = heads(effects).filter(|head| !CIRCUIT.contains(head));
    others.map(|(layer, head)| effects.denoising(layer, head).abs()).fold(0.0, f64::max)
}

/// How many of the circuit's heads are among the four with the largest total effect.
fn leading(effects: &Effects) -> f64 {
    let mut order: Vec<(usize, usize)> = heads(effects).collect();
    order.sort_by(|a, b| effects.total(b.0, b.1).abs().total_cmp(&effects.total(a.0, a.1).abs()));
    order.iter().take(CIRCUIT.len()).filter(|head| CIRCUIT.contains(head)).count() as f64
}
