//! How much arithmetic a change needs at least: its light cone.

use glassbox::model::{Config, MlpKind};

/// Where a change enters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enters {
    /// The stream before a block.
    Stream,
    /// What one head's attention reads out (z).
    Head,
}

/// What one position of one block costs, in multiplications and additions.
pub struct Costs {
    /// Queries.
    pub queries: u64,
    /// Keys and values.
    pub keys: u64,
    /// Scores and the weighted sum, for each key seen.
    pub each_key: u64,
    /// What one head writes.
    pub head: u64,
    /// What all heads write.
    pub heads: u64,
    /// The MLP.
    pub mlp: u64,
}

impl Costs {
    /// Of a model's products; norms, activations and sums are small beside them and left out.
    pub fn of(c: &Config) -> Costs {
        let product = |a: usize, b: usize| 2 * (a * b) as u64;
        let width = c.n_heads * c.d_head;
        let matrices = if c.mlp == MlpKind::Gated { 3 } else { 2 };
        Costs {
            queries: product(c.d_model, width),
            keys: 2 * product(c.d_model, c.n_kv_heads * c.d_head),
            each_key: 2 * product(1, width),
            head: product(c.d_head, c.d_model),
            heads: product(width, c.d_model),
            mlp: matrices * product(c.d_model, c.d_mlp),
        }
    }
}

/// Operations that a change of one row needs which enters block `layer` at the positions `first ..= last`, when logits are read at
/// `read`: all that it reaches and that reaches the logits. Keys and values left of it are known, and the last block
/// computes queries and all behind them only where logits are read.
pub fn cone(c: &Config, enters: Enters, layer: usize, [first, last]: [usize; 2], read: usize) -> u64 {
    let costs = Costs::of(c);
    let is_last = |layer: usize| layer + 1 == c.n_layers;
    let behind = |positions: u64, write: u64| positions * (write + costs.mlp);
    // positions of the change itself, and those that attention spreads it to
    let own = (last.min(read) + 1).saturating_sub(first) as u64;
    let reached = (read + 1).saturating_sub(first) as u64;
    let mut total = 0;
    let mut begin = layer;
    let mut changed = own;
    if enters == Enters::Head {
        total += match (is_last(layer), last >= read && first <= read) {
            (false, _) => behind(own, costs.head),
            (true, true) => behind(1, costs.head),
            (true, false) => 0,
        };
        begin = layer + 1;
    }
    for layer in begin..c.n_layers {
        total += changed * costs.keys;
        // a query that attention alone has not reached is the base run's
        let (reads, queries) = match is_last(layer) {
            false => (first..=read, changed),
            true => (read..=read, u64::from(changed == reached)),
        };
        let seen: u64 = reads.clone().map(|query| query as u64 + 1).sum(); // keys, over the queries
        total += queries * costs.queries + seen * costs.each_key;
        total += behind(reads.count() as u64, costs.heads);
        changed = reached;
    }
    total
}
