//! How much arithmetic a change needs at least: its light cone.

use std::time::Instant;

use candle_core::{DType, Device, Tensor};

use crate::error::Result;
use crate::model::{Config, Entry, MlpKind};
use crate::ops;

/// Where a change enters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enters {
    /// The stream before a block.
    Stream,
    /// What one head's attention reads out (z).
    Head,
    /// What all heads' attention reads out.
    Heads,
    /// What the MLP reads.
    Mid,
    /// The stream behind a block.
    Out,
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
        let matrices = match c.mlp {
            MlpKind::Absent => 0,
            MlpKind::Plain => 2,
            MlpKind::Gated => 3,
        };
        let neurons = c.experts.map_or(c.d_mlp, |routing| routing.per_token * routing.d_expert);
        Costs {
            queries: product(c.d_model, width),
            keys: 2 * product(c.d_model, c.n_kv_heads * c.d_head),
            each_key: 2 * product(1, width),
            head: product(c.d_head, c.d_model),
            heads: product(width, c.d_model),
            mlp: matrices * product(c.d_model, neurons),
        }
    }
}

/// Operations that a change of one row needs which enters block `layer` at the positions `first ..= last`, when logits are read at
/// `read`: all that it reaches and that reaches the logits. Keys and values left of it are known, and the last block
/// computes queries and all behind them only where logits are read.
pub fn cone(c: &Config, enters: Enters, layer: usize, [first, last]: [usize; 2], read: usize) -> u64 {
    let costs = Costs::of(c);
    let is_last = |layer: usize| layer + 1 == c.n_layers;
    // positions of the change itself, and those that attention spreads it to
    let own = (last.min(read) + 1).saturating_sub(first) as u64;
    let reached = (read + 1).saturating_sub(first) as u64;
    let mut total = 0;
    let mut begin = layer;
    let mut changed = own;
    if enters != Enters::Stream {
        let each = match enters {
            Enters::Head => costs.head + costs.mlp,
            Enters::Heads => costs.heads + costs.mlp,
            Enters::Mid => costs.mlp,
            Enters::Stream | Enters::Out => 0,
        };
        let positions = match (is_last(layer), last >= read && first <= read) {
            (false, _) => own,
            (true, reads) => u64::from(reads),
        };
        total += positions * each;
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
        total += reads.count() as u64 * (costs.heads + costs.mlp);
        changed = reached;
    }
    total
}

/// Operations of a sequence of a window: whole blocks for all of its positions, from its entry on.
pub(super) fn work(c: &Config, entry: Entry, layer: usize, first: usize, columns: usize, read: usize) -> u64 {
    let (costs, all) = (Costs::of(c), columns as u64);
    let keys = |query: usize| if c.causal { query as u64 + 1 } else { all };
    let seen: u64 = (first..first + columns).map(keys).sum();
    (layer..c.n_layers)
        .map(|here| {
            let last = here + 1 == c.n_layers;
            let (left, seen) = if last { (1, keys(read)) } else { (all, seen) };
            let mix = all * costs.keys + left * costs.queries + seen * costs.each_key;
            let [mix, write, mlp] = [mix, left * costs.heads, left * costs.mlp];
            match if here == layer { entry } else { Entry::ResidPre } {
                Entry::ResidPre => mix + write + mlp,
                Entry::Z => write + mlp,
                Entry::AttnOut | Entry::Mid => mlp,
                Entry::MlpOut | Entry::ResidPost => 0,
            }
        })
        .sum()
}

/// Floating-point operations per second of the product [480×768]·[768×3072], the median of a few.
pub fn product_rate() -> Result<f64> {
    let (a, b) = (
        Tensor::ones((480, 768), DType::F32, &Device::Cpu)?,
        Tensor::ones((768, 3072), DType::F32, &Device::Cpu)?,
    );
    let mut seconds = Vec::new();
    for _ in 0..9 {
        let begin = Instant::now();
        std::hint::black_box(ops::linear(&a, &b, None)?);
        seconds.push(begin.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    Ok(2.0 * 480.0 * 768.0 * 3072.0 / seconds[seconds.len() / 2])
}
