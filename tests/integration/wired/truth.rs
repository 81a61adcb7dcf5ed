//! The true edges of the wired model, and pairs of prompts on which all of them matter.

use std::collections::BTreeMap;

use glassbox::task::{Example, Task};

use super::{BETA, HASH, numbers, wired_at};
use crate::compiled::oracle::{self, Edge, Written};

/// The edges that the logit difference needs where zero stands in for what they carry. (`input->logits` carries the last token to its own
/// logit, which is neither answer: it changes the distribution, but not the difference.)
pub const ZERO: [&str; 7] = [
    "input->a0.h0<q>", // positions
    "input->a0.h0<k>",
    "input->a0.h0<v>",
    "input->a1.h0<q>",
    "a0.h0->a1.h0<k>",
    "input->a1.h0<v>",
    "a1.h0->logits",
];

/// The same where the corrupt prompt's value stands in: positions are the same there.
pub const RESAMPLE: [&str; 5] =
    ["input->a0.h0<v>", "input->a1.h0<q>", "a0.h0->a1.h0<k>", "input->a1.h0<v>", "a1.h0->logits"];

/// `# a b c d a` against `# e f g h e`, in many letters.
pub fn pairs() -> Task {
    let example = |i: u32| {
        let letter = |j: u32| 1 + (11 * i + 5 * j) % 63;
        let prompt = |j: u32| vec![HASH, letter(j), letter(j + 1), letter(j + 2), letter(j + 3), letter(j)];
        let (answers, wrong) = (vec![letter(1)], vec![letter(2)]);
        Example {
            id: format!("{i}"),
            clean: prompt(0),
            corrupt: Some(prompt(4)),
            answers,
            wrong,
            pos: BTreeMap::new(),
            ..Example::default()
        }
    };
    Task { name: "wired pairs".into(), examples: (0..16).map(example).collect(), ..Task::default() }
}

/// Each edge cut alone by a hook that knows nothing of graphs: the true ones change LD, the others nothing at all.
#[test]
fn the_true_edges_are_those_that_matter() {
    let (model, task) = (wired_at(BETA).model, pairs());
    let rows = |of: fn(&Example) -> &[u32]| {
        let rows: Vec<&[u32]> = task.examples.iter().map(of).collect();
        model.tokens(&rows).unwrap()
    };
    let (clean, corrupt) = (rows(|e| &e.clean), rows(|e| e.corrupt.as_ref().unwrap()));
    let score = |edges: &[Edge], instead: &Written| {
        let (logits, written) = oracle::cut(&model, &clean, edges, instead);
        let (d_vocab, logits) = (model.config.d_vocab_out, numbers(&logits.narrow(1, 5, 1).unwrap()));
        let difference = |(i, e): (usize, &Example)| {
            logits[i * d_vocab + e.answers[0] as usize] - logits[i * d_vocab + e.wrong[0] as usize]
        };
        let each = task.examples.iter().enumerate().map(difference);
        (each.sum::<f64>() / task.examples.len() as f64, written)
    };
    let (whole, written) = score(&[], &Written::new());
    let (_, corrupt) = oracle::cut(&model, &corrupt, &[], &Written::new());
    let zeros = written.iter().map(|(&writer, x)| (writer, x.zeros_like().unwrap())).collect();
    for (instead, edges) in [(&zeros, &ZERO[..]), (&corrupt, &RESAMPLE[..])] {
        let mut found = Vec::new();
        for edge in oracle::edges(&model) {
            let change = (score(&[edge], instead).0 - whole).abs();
            let name = oracle::name(edge);
            let matters = change > 1.0;
            assert!(matters || change < 1e-9, "{name}: {change}");
            found.extend(matters.then_some(name));
        }
        assert_eq!(found, edges);
    }
}
