//! Edges between groups of parts, cut together: whom a role tells what it found, as a whole.

use std::collections::{BTreeMap, BTreeSet};

use super::{Edges, Runs, Scored, Scoring};
use crate::component::Component;
use crate::error::{Error, Result};
use crate::graph::{Reader, Writer};
use crate::groups::{self, Group, Together};
use crate::lesion::Part;
use crate::row::Rows;
use crate::stats::Bootstrap;

crate::row! {
    /// All edges from one group into another, cut together.
    pub struct BetweenRow {
        /// The group that writes; `input` is the embeddings.
        pub from: String,
        /// The group that reads; `logits` is the output.
        pub to: String,
        /// How many edges go from the one to the other.
        pub edges: usize,
        /// Share of the gap that is lost with all of them cut at once.
        pub effect: f64,
        /// Lower end of the effect's 95 % interval.
        pub ci_lo: Option<f64>,
        /// Upper end of the effect's 95 % interval.
        pub ci_hi: Option<f64>,
        /// The sum of the effects of the same edges, each cut alone.
        pub sum_of_parts: f64,
        /// The effect minus that sum: above 0 edges stand in for each other, below 0 they serve one purpose.
        pub interaction: f64,
        /// Lower end of the interaction's 95 % interval.
        pub interaction_ci_lo: Option<f64>,
        /// Upper end of the interaction's 95 % interval.
        pub interaction_ci_hi: Option<f64>,
        /// Sign-flip p-value of the interaction being 0; none below 13 distinct prompts.
        pub interaction_p: Option<f64>,
        /// Examples.
        pub n: usize,
    }
}

/// A side of the edges: its name, and who writes on it, or whether it is the output.
struct End {
    name: String,
    nodes: BTreeSet<Writer>,
    is_output: bool,
}

impl Edges {
    /// The table `edges_group`; nothing without groups.
    pub(super) fn between(&self, runs: &Runs, scored: &[Scored]) -> Result<Option<Rows>> {
        let (lab, task, graph) = (runs.lab, runs.task, &runs.graph);
        let asked =
            if self.groups.is_empty() { groups::roles(lab, task) } else { self.groups.groups(lab, task)? };
        if asked.is_empty() {
            return Ok(None);
        }
        let mut ends = vec![end("input".to_owned(), [Writer::Input])];
        for group in &asked {
            ends.push(end(group.name.clone(), nodes(group, runs)?));
        }
        ends.push(End { is_output: true, ..end("logits".to_owned(), []) });
        let reads = |to: &End, reader: Reader| match reader {
            Reader::Logits => to.is_output,
            reader => graph.owners(reader).iter().any(|owner| to.nodes.contains(owner)),
        };
        let mut pairs = Vec::new();
        for from in &ends {
            for to in &ends {
                let between: Vec<usize> = (0..graph.len())
                    .filter(|&edge| {
                        let (writer, reader) = graph.ends(edge);
                        from.nodes.contains(&graph.writers()[writer]) && reads(to, graph.readers()[reader])
                    })
                    .collect();
                if !between.is_empty() {
                    pairs.push((from, to, between));
                }
            }
        }
        let single: BTreeSet<usize> = pairs.iter().flat_map(|(_, _, edges)| edges.iter().copied()).collect();
        let exact = scored.iter().find(|scored| scored.scoring == Scoring::Exact);
        let mut lists: Vec<Vec<usize>> = pairs.iter().map(|(_, _, edges)| edges.clone()).collect();
        if exact.is_none() {
            lists.extend(single.iter().map(|&edge| vec![edge]));
        }
        lab.progress.begin("edges between groups", (runs.batches() * lists.len()) as u64);
        let mut lost: Vec<Vec<f64>> = runs.cut(&lists)?.iter().map(|measured| runs.lost(measured)).collect();
        lab.progress.end();
        let alone: BTreeMap<usize, Vec<f64>> = match exact {
            Some(exact) => single.iter().map(|&edge| (edge, exact.lost[edge].clone())).collect(),
            None => single.into_iter().zip(lost.split_off(pairs.len())).collect(),
        };
        let (units, gaps) = (task.units(), runs.gaps());
        let bootstrap = Bootstrap::grouped(&units, lab.seed);
        let rows = pairs.iter().zip(&lost).map(|((from, to, edges), lost)| {
            let parts: Vec<&[f64]> =
                edges.iter().filter_map(|edge| alone.get(edge)).map(Vec::as_slice).collect();
            let Together { whole, sum, interaction, p } =
                Together::of(lost, &parts, Some(&gaps), &bootstrap, (&units, lab.seed));
            BetweenRow {
                from: from.name.clone(),
                to: to.name.clone(),
                edges: edges.len(),
                effect: whole.value,
                ci_lo: whole.lo,
                ci_hi: whole.hi,
                sum_of_parts: sum,
                interaction: interaction.value,
                interaction_ci_lo: interaction.lo,
                interaction_ci_hi: interaction.hi,
                interaction_p: p,
                n: whole.n,
            }
        });
        Ok(Some(Rows::of("edges_group", &rows.collect::<Vec<_>>())))
    }
}

fn end(name: String, nodes: impl IntoIterator<Item = Writer>) -> End {
    End { name, nodes: nodes.into_iter().collect(), is_output: false }
}

/// The nodes of a group; a part of a node is refused.
fn nodes(group: &Group, runs: &Runs) -> Result<Vec<Writer>> {
    let heads = runs.lab.model.config.n_heads;
    let mut nodes = Vec::new();
    for part in &group.parts {
        match *part {
            Part::Writer(Component::Embed) => nodes.push(Writer::Input),
            Part::Writer(Component::Head(layer, head)) => nodes.push(Writer::Head(layer, head)),
            Part::Writer(Component::Mlp(layer)) => nodes.push(Writer::Mlp(layer)),
            Part::Attention(layer) => nodes.extend((0..heads).map(|head| Writer::Head(layer, head))),
            other => {
                return Err(Error::usage(
                    format!("`{other}` of the group {:?} is no node of the graph", group.name),
                    "edges are between whole heads, MLPs and the input: name those",
                ));
            }
        }
    }
    Ok(nodes)
}
