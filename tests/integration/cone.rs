//! The count of a light cone, which `cargo bench` measures sweeps against, held to a walk over every value of the pass.

use std::collections::{BTreeMap, BTreeSet};

use glassbox::model::Config;
use glassbox::sweep::{Costs, Enters, cone};

/// A value of the pass: its kind, block and position.
type Value = (&'static str, usize, usize);

/// What each value is computed from, and what that costs; the stream after the last block is that of block `n_layers`.
fn pass(c: &Config, length: usize) -> BTreeMap<Value, (Vec<Value>, u64)> {
    let costs = Costs::of(c);
    let mut all = BTreeMap::new();
    for (l, p) in (0..c.n_layers).flat_map(|l| (0..length).map(move |p| (l, p))) {
        let stream = ("stream", l, p);
        let keys = (0..=p).map(|k| ("keys", l, k));
        let mixed = keys.chain([("queries", l, p)]).collect();
        all.insert(("queries", l, p), (vec![stream], costs.queries));
        all.insert(("keys", l, p), (vec![stream], costs.keys));
        all.insert(("z", l, p), (mixed, (p as u64 + 1) * costs.each_key));
        all.insert(("mid", l, p), (vec![stream, ("z", l, p)], costs.heads));
        all.insert(("stream", l + 1, p), (vec![("mid", l, p)], costs.mlp));
    }
    all
}

/// Σ cost of all values behind the change from which the logits can be reached.
fn walk(c: &Config, enters: Enters, layer: usize, changed: [usize; 2], read: usize, length: usize) -> u64 {
    let (values, costs) = (pass(c, length), Costs::of(c));
    let (kind, layer) = match enters {
        Enters::Stream => ("stream", layer),
        Enters::Head | Enters::Heads => ("z", layer),
        Enters::Mid => ("mid", layer),
        Enters::Out => ("stream", layer + 1),
    };
    let given: BTreeSet<Value> = (changed[0]..=changed[1]).map(|p| (kind, layer, p)).collect();
    let (mut behind, mut before) = (given.clone(), BTreeSet::from([("stream", c.n_layers, read)]));
    for _ in 0..4 * c.n_layers + 4 {
        for (&value, (from, _)) in &values {
            if from.iter().any(|from| behind.contains(from)) {
                behind.insert(value);
            }
            if before.contains(&value) {
                before.extend(from);
            }
        }
    }
    let needed = values
        .iter()
        .filter(|(value, _)| behind.contains(value) && before.contains(value) && !given.contains(value));
    let cost = |(value, (from, cost)): (&Value, &(Vec<Value>, u64))| match value.0 {
        // only the head that changed is written anew
        "mid" if from.iter().any(|from| given.contains(from)) && enters == Enters::Head => costs.head,
        _ => *cost,
    };
    needed.map(cost).sum()
}

#[test]
fn a_cone_costs_what_a_walk_over_the_pass_counts() {
    let (length, mut seen) = (6, BTreeSet::new());
    for c in [Config { n_layers: 4, ..Config::tiny() }, Config { n_layers: 3, ..Config::tiny_rotary() }] {
        for enters in [Enters::Stream, Enters::Head, Enters::Heads, Enters::Mid, Enters::Out] {
            for layer in 0..c.n_layers {
                for first in 0..length {
                    for last in [first, length - 1] {
                        for read in first..length {
                            let counted = cone(&c, enters, layer, [first, last], read);
                            let walked = walk(&c, enters, layer, [first, last], read, length);
                            assert_eq!(
                                counted, walked,
                                "{enters:?} {layer} {first}..={last}, read at {read}"
                            );
                            seen.insert(counted);
                        }
                    }
                }
            }
        }
    }
    assert!(seen.len() > 100);
}

/// The numbers that the sweeps of a model of GPT-2 small's shape were planned with: 8 prompts of 15 tokens that differ at 10.
#[test]
fn gpt2_smalls_sweeps_cost_what_was_planned() {
    let c = Config {
        n_layers: 12,
        d_model: 768,
        n_heads: 12,
        n_kv_heads: 12,
        d_head: 64,
        d_mlp: 3072,
        ..Config::tiny()
    };
    let layers = || 0..c.n_layers;
    let heads: u64 = layers().map(|layer| 8 * 12 * cone(&c, Enters::Head, layer, [10, 14], 14)).sum();
    let stream = |layer| (10..15).map(move |pos| (layer, pos));
    let cells = layers().flat_map(stream).filter(|&(layer, pos)| layer > 0 || pos == 10);
    let resid: u64 = cells.map(|(layer, pos)| 8 * cone(&c, Enters::Stream, layer, [pos, pos], 14)).sum();
    assert!((0.44e12..0.46e12).contains(&(heads as f64)), "{heads}");
    assert!((0.10e12..0.12e12).contains(&(resid as f64)), "{resid}");
}
