//! The tables of path patching.

use rayon::prelude::*;

use super::plan::{End, Plan};
use super::{Freeze, Measured, Path, Way};
use crate::analysis::patch::Direction;
use crate::analysis::{Analysis, Findings, gaps};
use crate::graph::{Reader, Writer};
use crate::groups::Together;
use crate::lab::Lab;
use crate::metric::Metric;
use crate::row::{Row, Rows};
use crate::stats::{Bootstrap, Estimate, false_discovery, mean, sign_flip};
use crate::task::Task;

/// An effect and its p-value, where there is one.
type Tested = (Estimate, Option<f64>);

crate::row! {
    /// One sender and one set of receivers.
    pub struct PathKey {
        /// Who receives: `logits`, `m1`, `a2.h0<q>`; several with `+`, or under their name.
        pub receivers: String,
        /// Who sends: `a1.h1`, `m0`, `input`.
        pub sender: String,
        /// What the sender was designed to do on this task, where the model ships that.
        pub role: Option<String>,
        /// The sender's layer; the input has none.
        pub layer: Option<usize>,
        /// The sender's head, if it is one.
        pub head: Option<usize>,
    }
}

crate::row! {
    /// Several that send together, and one set of receivers.
    pub struct SetKey {
        /// Who receives: `logits`, `m1`, `a2.h0<q>`; several with `+`, or under their name.
        pub receivers: String,
        /// The set that sends.
        pub set: String,
        /// The heads and MLPs in it.
        pub parts: String,
    }
}

crate::row! {
    /// What a path does.
    pub struct Effect {
        /// `noise`: clean run, senders' values from the corrupt one; `denoise`: corrupt run, values from the clean one.
        pub direction: String,
        /// What keeps its own value between senders and receivers: all other `heads`, or `all` other heads and MLPs.
        pub freeze: String,
        /// Share of the gap between clean and corrupt run that the path opens (noise) or closes (denoise).
        pub effect: f64,
        /// Lower end of the effect's 95 % interval.
        pub ci_lo: Option<f64>,
        /// Upper end of the effect's 95 % interval.
        pub ci_hi: Option<f64>,
        /// (patched − clean) / clean of the metric's means, in per cent, as the literature prints it: negative where the path helps.
        /// Only of noise, and where the clean metric is not about 0.
        pub variation: Option<f64>,
        /// The metric of the patched run, mean over examples.
        pub raw: f64,
        /// Examples.
        pub n: usize,
        /// Sign-flip p-value of the effect being 0; none below 13 prompts.
        pub p: Option<f64>,
        /// Its q-value among all paths of this table (false-discovery rate, Benjamini–Hochberg).
        pub q: Option<f64>,
        /// Whether the effect is large enough (a twentieth of the gap unless asked otherwise) and its interval excludes 0.
        pub notable: bool,
    }
}

crate::row! {
    /// A set beside its parts.
    pub struct Sum {
        /// Sum of the effects when each part sends alone.
        pub sum_of_parts: f64,
        /// The whole minus the sum.
        pub interaction: f64,
        /// Lower end of the interaction's 95 % interval.
        pub interaction_ci_lo: Option<f64>,
        /// Upper end of the interaction's 95 % interval.
        pub interaction_ci_hi: Option<f64>,
        /// Sign-flip p-value of the interaction being 0.
        pub interaction_p: Option<f64>,
    }
}

crate::row! {
    /// One path of one example.
    pub struct ExampleRow {
        /// The example.
        pub example: String,
        /// Who receives.
        pub receivers: String,
        /// Who sends, alone or as a set.
        pub sender: String,
        /// `noise` or `denoise`.
        pub direction: String,
        /// `heads` or `all`.
        pub freeze: String,
        /// Change of the metric divided by the mean gap, so that the mean over examples is the table's effect.
        pub effect: f64,
        /// The metric of the patched run.
        pub raw: f64,
    }
}

/// A clean metric nearer to 0 than this is nothing to take a percentage of.
const NEAR_ZERO: f64 = 0.01;

/// One cell of a table: which way, from whom, to whom.
struct Cell<'a> {
    way: usize,
    sender: &'a End,
    set: usize,
    patched: &'a [f64],
    change: Vec<f64>,
}

/// What all cells are computed from.
struct Results<'a> {
    path: &'a Path,
    ways: Vec<Way>,
    plan: &'a Plan,
    measured: &'a Measured,
    lab: &'a Lab,
    task: &'a Task,
    units: Vec<usize>,
    bootstrap: Bootstrap,
    gap: Vec<f64>,
}

/// Tables and notes from what was measured.
pub(super) fn findings(path: &Path, lab: &Lab, task: &Task, plan: &Plan, measured: &Measured) -> Findings {
    let units = task.units();
    let bootstrap = Bootstrap::grouped(&units, lab.seed);
    let gap: Vec<f64> = measured.clean.iter().zip(&measured.corrupt).map(|(a, b)| a - b).collect();
    let results = Results { path, ways: path.ways(), plan, measured, lab, task, units, bootstrap, gap };
    let (alone, sets) = plan.asked;
    let (single, together) = (results.cells(0..alone), results.cells(alone..alone + sets));
    let mut tables = Vec::new();
    if !single.is_empty() {
        let keys: Vec<PathKey> = single.iter().map(|cell| results.path_key(cell)).collect();
        let columns = [PathKey::columns(&keys), Effect::columns(&results.effects(&single))].concat();
        tables.push(Rows { name: "path".to_owned(), columns });
    }
    if !together.is_empty() {
        let keys: Vec<SetKey> = together.iter().map(|cell| results.set_key(cell)).collect();
        let sums: Vec<Sum> = together.par_iter().map(|cell| results.sum(cell)).collect();
        let effects = results.effects(&together);
        let columns = [SetKey::columns(&keys), Effect::columns(&effects), Sum::columns(&sums)].concat();
        tables.push(Rows { name: "path_set".to_owned(), columns });
    }
    let examples: Vec<ExampleRow> =
        single.iter().chain(&together).flat_map(|cell| results.examples(cell)).collect();
    tables.push(Rows::of("examples_path", &examples));
    tables.push(gaps(Path::NAME, task, &results.gap));
    Findings { tables, notes: notes(&results), ..Findings::default() }
}

impl<'a> Results<'a> {
    /// The cells of some of the senders that have a path: way by way, receivers by receivers.
    fn cells(&self, senders: std::ops::Range<usize>) -> Vec<Cell<'a>> {
        let mut cells = Vec::new();
        for way in 0..self.ways.len() {
            for set in 0..self.plan.receivers.len() {
                cells.extend(senders.clone().filter_map(|sender| self.cell(way, sender, set)));
            }
        }
        cells
    }

    fn cell(&self, way: usize, sender: usize, set: usize) -> Option<Cell<'a>> {
        let patched = self.measured.patched.get(way)?.get(sender)?.get(set)?.as_deref()?;
        let (from, sign) = match self.ways.get(way)?.direction {
            Direction::Denoise => (&self.measured.corrupt, 1.0),
            _ => (&self.measured.clean, -1.0),
        };
        let change = patched.iter().zip(from).map(|(patched, from)| sign * (patched - from)).collect();
        Some(Cell { way, sender: self.plan.senders.get(sender)?, set, patched, change })
    }

    fn receivers(&self, cell: &Cell) -> String {
        self.plan.receivers.get(cell.set).map_or_else(String::new, |set| set.name.clone())
    }

    fn names(&self, cell: &Cell) -> (String, String) {
        let (direction, freeze) = self.ways.get(cell.way).map_or(("", ""), |way| way.names());
        (direction.to_owned(), freeze.to_owned())
    }

    fn path_key(&self, cell: &Cell) -> PathKey {
        let writer = self.plan.writer(cell.sender.places.first().copied().unwrap_or(0));
        let role = writer.component().role(self.lab.about.circuit.as_ref(), &self.task.name);
        PathKey {
            receivers: self.receivers(cell),
            sender: cell.sender.name.clone(),
            role: Some(role).filter(|role| !role.is_empty()),
            layer: writer.layer(),
            head: match writer {
                Writer::Head(_, head) => Some(head),
                _ => None,
            },
        }
    }

    fn set_key(&self, cell: &Cell) -> SetKey {
        let parts = cell.sender.places.iter().map(|&place| self.plan.writer(place).to_string());
        let parts = parts.collect::<Vec<_>>().join(" ");
        SetKey { receivers: self.receivers(cell), set: cell.sender.name.clone(), parts }
    }

    fn effects(&self, cells: &[Cell]) -> Vec<Effect> {
        // each cell's interval is its own computation on shared draws: parallel and still the same numbers
        let of = |cell: &Cell| {
            let p = sign_flip(&cell.change, &self.units, self.lab.seed);
            (self.bootstrap.ratio(&cell.change, Some(&self.gap)), p)
        };
        let found: Vec<Tested> = cells.par_iter().map(of).collect();
        let q = false_discovery(&found.iter().map(|(_, p)| *p).collect::<Vec<_>>());
        let clean = mean(&self.measured.clean);
        let row = |((cell, (effect, p)), q): ((&Cell, &Tested), Option<f64>)| {
            let (direction, freeze) = self.names(cell);
            let raw = mean(cell.patched);
            let of_clean = direction == "noise" && clean.abs() >= NEAR_ZERO;
            Effect {
                direction,
                freeze,
                effect: effect.value,
                ci_lo: effect.lo,
                ci_hi: effect.hi,
                variation: of_clean.then(|| 100.0 * (raw - clean) / clean),
                raw,
                n: effect.n,
                p: *p,
                q,
                notable: effect.is_notable(self.path.notable),
            }
        };
        cells.iter().zip(&found).zip(q).map(row).collect()
    }

    /// A set beside its members, each of which sent alone too; one that has no path has no effect.
    fn sum(&self, cell: &Cell) -> Sum {
        let (alone, sets) = self.plan.asked;
        let is_set = |sender: usize| (alone..alone + sets).contains(&sender);
        let alone = |place: &usize| {
            let mut senders = self.plan.senders.iter().enumerate();
            let (sender, _) = senders.find(|(i, sender)| !is_set(*i) && sender.places == [*place])?;
            self.cell(cell.way, sender, cell.set)
        };
        let parts: Vec<Cell> = cell.sender.places.iter().filter_map(alone).collect();
        let parts: Vec<&[f64]> = parts.iter().map(|part| part.change.as_slice()).collect();
        let seed = (self.units.as_slice(), self.lab.seed);
        let found = Together::of(&cell.change, &parts, Some(&self.gap), &self.bootstrap, seed);
        Sum {
            sum_of_parts: found.sum,
            interaction: found.interaction.value,
            interaction_ci_lo: found.interaction.lo,
            interaction_ci_hi: found.interaction.hi,
            interaction_p: found.p,
        }
    }

    fn examples(&self, cell: &Cell) -> Vec<ExampleRow> {
        let gap = mean(&self.gap);
        let each = self.task.examples.iter().zip(cell.change.iter().zip(cell.patched));
        let row = |(example, (change, &raw)): (&crate::task::Example, (&f64, &f64))| {
            let (direction, freeze) = self.names(cell);
            ExampleRow {
                example: example.id.clone(),
                receivers: self.receivers(cell),
                sender: cell.sender.name.clone(),
                direction,
                freeze,
                effect: change / gap,
                raw,
            }
        };
        each.map(row).collect()
    }
}

fn notes(results: &Results) -> Vec<String> {
    let Results { path, plan, measured, ways, .. } = results;
    let (n, clean, corrupt) = (measured.clean.len(), mean(&measured.clean), mean(&measured.corrupt));
    let mut notes = vec![format!(
        "{}: clean {clean:.4}, corrupt {corrupt:.4}, gap {:.4} (means over {n} pairs); an effect of 1 is the whole gap",
        path.metric,
        clean - corrupt,
    )];
    let mut note = |holds: bool, text: String| notes.extend(holds.then_some(text));
    note(
        measured.right.is_some_and(|right| 2 * right <= n),
        format!(
            "the model does not do this: on {} of {n} clean prompts it prefers the answer to the wrong one",
            measured.right.unwrap_or(0)
        ),
    );
    note(
        path.metric == Metric::Rank,
        "rank jumps from one whole number to the next: shares of a rank gap are for reading only".to_owned(),
    );
    for (rule, text) in [
        (
            Freeze::Heads,
            "freeze = heads: every other head keeps its own z, MLPs and norms are computed anew, so that a path may \
             lead through MLPs (Wang et al. 2022)",
        ),
        (
            Freeze::All,
            "freeze = all: every other head and MLP keeps its own value, only norms are computed anew: the edge from \
             sender to receiver",
        ),
    ] {
        note(ways.iter().any(|way| way.freeze == rule), text.to_owned());
    }
    for (direction, text) in [
        (
            Direction::Noise,
            "noise: the clean prompt runs, and receivers hear what the sender would have told them on the corrupt \
             prompt; effect = (clean − patched) / (clean − corrupt)",
        ),
        (
            Direction::Denoise,
            "denoise: the corrupt prompt runs, and receivers hear what the sender would have told them on the clean \
             prompt; effect = (patched − corrupt) / (clean − corrupt)",
        ),
    ] {
        note(ways.iter().any(|way| way.direction == direction), text.to_owned());
    }
    let (alone, sets) = plan.asked;
    let all = plan.each(|is_path| !is_path);
    let without = all.iter().take(alone + sets).flatten().filter(|&&without| without).count();
    note(
        without > 0,
        format!(
            "{without} pairs of sender and receivers have no path and are not listed: the sender comes after them"
        ),
    );
    let layer = |&place: &usize| match plan.reader(place) {
        Reader::Head { layer, .. } => Some((layer, 0)),
        Reader::Mlp(layer) => Some((layer, 1)),
        Reader::Logits => None,
    };
    let chained = |places: &[usize]| places.first().map(layer) != places.last().map(layer);
    note(
        plan.receivers.iter().any(|set| chained(&set.places)),
        "receivers of one set get what they would hear directly, and do not hear each other".to_owned(),
    );
    let shared = |&place: &usize| matches!(plan.reader(place), Reader::Head { shared, .. } if shared > 1);
    note(
        plan.receivers.iter().flat_map(|set| &set.places).any(shared),
        format!(
            "`kv` stands for a key-value head, whose keys and values {} heads share: they receive together",
            plan.graph.group()
        ),
    );
    note(
        ways.iter().any(|way| way.direction != Direction::Denoise) && clean.abs() < NEAR_ZERO,
        format!("the clean {} is about 0: there is no variation in per cent of it", path.metric),
    );
    note(
        measured.exact > 0,
        format!(
            "{} paths change nothing by construction (the prompts differ only where nothing reaches the answer) and are \
             exactly 0 without a run",
            measured.exact
        ),
    );
    notes
}
