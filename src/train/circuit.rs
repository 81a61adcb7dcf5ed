//! `circuit.json`: which component was given which job, and how much each really matters.

use serde_json::{Map, Value, json};

use super::measure::Probe;
use crate::error::Result;
use crate::model::Transformer;
use crate::task::{Request, generate};
use crate::vocabulary::Vocabulary;

/// A task's design: roles with their heads, and the edges between them.
struct Design {
    task: &'static str,
    roles: &'static [(&'static str, &'static [&'static str])],
    edges: &'static [&'static str],
}

const DESIGNS: [Design; 3] = [
    Design {
        task: "ioi",
        roles: &[
            ("duplicate token", &["a0.h1"]),
            ("S-inhibition", &["a1.h1"]),
            ("name mover", &["a2.h0", "a2.h1"]),
        ],
        edges: &[
            "a0.h1->a1.h1<v>",
            "a0.h1->m0",
            "m0->a1.h1<v>",
            "a1.h1->a2.h0<q>",
            "a1.h1->a2.h1<q>",
            "a2.h0->logits",
            "a2.h1->logits",
        ],
    },
    Design {
        task: "induction",
        roles: &[("previous token", &["a0.h0"]), ("induction", &["a1.h0"])],
        edges: &["a0.h0->a1.h0<k>", "a0.h0->m0", "m0->a1.h0<k>", "a1.h0->m1", "a1.h0->logits", "m1->logits"],
    },
    Design {
        task: "facts",
        roles: &[
            ("previous token", &["a0.h0"]),
            ("subject enrichment", &["m0", "m1"]),
            ("attribute extraction", &["a2.h2"]),
        ],
        edges: &["a0.h0->m0", "m0->a2.h2<v>", "m1->a2.h2<v>", "a2.h2->logits"],
    },
];

/// Roles and edges as designed; totals as measured: the mean over 64 prompts (seed 0) of the logit difference lost when
/// that component alone is swapped to its value on the corrupt prompt, for every head and MLP.
pub fn measured(model: &Transformer, vocabulary: &Vocabulary) -> Result<Value> {
    let probe = Probe { model, vocabulary };
    let mut tasks = Map::new();
    for design in &DESIGNS {
        let effects = probe.effects(&generate(design.task, &Request::default(), vocabulary)?)?;
        let rounded = |x: f64| json!((x * 1e4).round() / 1e4);
        let mut total = Map::new();
        for layer in 0..effects.layers {
            for head in 0..effects.heads {
                total.insert(format!("a{layer}.h{head}"), rounded(effects.total(layer, head)));
            }
            total.insert(format!("m{layer}"), rounded(effects.total_mlp(layer)));
        }
        let roles: Map<String, Value> =
            design.roles.iter().map(|(name, heads)| ((*name).to_owned(), json!(heads))).collect();
        tasks.insert(design.task.to_owned(), json!({"roles": roles, "edges": design.edges, "total": total}));
    }
    Ok(Value::Object(tasks))
}
