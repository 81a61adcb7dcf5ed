//! Attention in one pass: scores, mask, softmax and the weighted sum of values, without ever holding a pattern.
//!
//! For passes in which nobody watches scores or patterns and no gradient is asked for. What a query gets depends on the
//! query and on the keys it sees, bit for bit: neither on the queries computed with it, nor on where the boundary between
//! the base run's keys and its own lies, nor on the number of threads.

mod blocks;
mod composite;
mod panel;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Storage, Tensor, bail};

use super::Alibi;
use super::kernel::{Real, has_kernels, numbers};
use blocks::{Call, Prefix, Rows};

/// Queries that follow each other in one sequence, and the keys they see: those of the base run to the left, then its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stretch {
    /// Its rows of q.
    pub queries: Range<usize>,
    /// The position of the first query; the rest follow.
    pub first_query: usize,
    /// Its own rows of k and v.
    pub keys: Range<usize>,
    /// The position of the first own key, which is the number of keys read from the base.
    pub first_key: usize,
    /// The row of the base whose keys and values lie to the left.
    pub left: usize,
    /// The positions that hold its own tokens, where rows are padded: a query outside sees nothing and gets zeros, a key
    /// outside is not seen. `0..usize::MAX` if all do.
    pub own: Range<usize>,
}

impl Stretch {
    /// All its keys, those of the base included.
    fn n_keys(&self) -> usize {
        self.first_key + self.keys.len()
    }

    /// The positions of the keys that the query at this position sees.
    fn visible(&self, how: &Attend, query: usize) -> Range<usize> {
        if !self.own.contains(&query) {
            return 0..0;
        }
        let end = if how.causal { (query + 1).min(self.n_keys()) } else { self.n_keys() };
        let start = how.window.map_or(0, |window| (query + 1).saturating_sub(window));
        let (start, end) = (start.max(self.own.start), end.min(self.own.end));
        if start < end { start..end } else { 0..0 }
    }
}

/// What is attended to, and how.
#[derive(Debug, Clone)]
pub struct Attend {
    /// Products of queries and keys are multiplied by this.
    pub scale: f64,
    /// Only keys at and before a query's own position are seen.
    pub causal: bool,
    /// Only this many keys are seen, the query's own position the last of them.
    pub window: Option<usize>,
    /// Scores are bent to stay within ± this.
    pub cap: Option<f64>,
    /// A score for each head that takes part in its softmax and attends to nothing.
    pub sinks: Option<Arc<[f64]>>,
    /// What is added for the distance between query and key.
    pub alibi: Option<Alibi>,
    /// In the order of their queries.
    pub stretches: Vec<Stretch>,
}

/// q `[queries, heads, d_head]`, k and v `[keys, kv_heads, d_head]`, left: k and v of the base `[row, pos, kv_heads,
/// d_head]` → z `[queries, heads, d_head]`; zeros for queries of no stretch. Heads share key-value heads in groups: head =
/// kv_head · group + member.
///
/// There is no gradient. q, k and v may be parts of wider rows, as those of one product for all three are.
pub fn attend(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    left: Option<(&Tensor, &Tensor)>,
    how: &Attend,
) -> Result<Tensor> {
    check(q, k, v, left, how)?;
    if !has_kernels(q) {
        return composite::attend(q, k, v, left, how);
    }
    let left = match left {
        None => None,
        Some((k, v)) => Some((k.contiguous()?, v.contiguous()?)),
    };
    joined(q)?.apply_op3_no_bwd(&joined(k)?, &joined(v)?, &Op { left, how })
}

/// The same numbers with the last two axes together in memory, as they are as a rule.
fn joined(x: &Tensor) -> Result<Tensor> {
    match (x.stride(), x.dims()) {
        (&[_, head, 1], &[_, _, d_head]) if head == d_head => Ok(x.clone()),
        _ => x.contiguous(),
    }
}

fn check(q: &Tensor, k: &Tensor, v: &Tensor, left: Option<(&Tensor, &Tensor)>, how: &Attend) -> Result<()> {
    let ((queries, heads, d_head), (keys, kv_heads, _)) = (q.dims3()?, k.dims3()?);
    if k.dims() != v.dims() || k.dim(2)? != d_head || kv_heads == 0 || heads % kv_heads != 0 {
        bail!("attend: queries {:?}, keys {:?} and values {:?} do not fit", q.dims(), k.dims(), v.dims());
    }
    let (rows, positions) = match left {
        None => (0, 0),
        Some((k, v)) => {
            let (rows, positions, left_heads, left_width) = k.dims4()?;
            if k.dims() != v.dims() || (left_heads, left_width) != (kv_heads, d_head) {
                bail!("attend: keys {:?} and values {:?} to the left do not fit", k.dims(), v.dims());
            }
            (rows, positions)
        }
    };
    if how.sinks.as_ref().is_some_and(|sinks| sinks.len() != heads) {
        bail!("attend: {:?} sinks for {heads} heads", how.sinks.as_ref().map(|sinks| sinks.len()));
    }
    let mut done = 0;
    for stretch in &how.stretches {
        let Stretch { queries: own_queries, keys: own_keys, first_query, first_key, left, own } = stretch;
        if own_queries.start < done || own_queries.end > queries || own_queries.start > own_queries.end {
            bail!(
                "attend: the queries {own_queries:?} of a stretch overlap or exceed those before {queries}"
            );
        }
        done = own_queries.end;
        if own_keys.end > keys || own_keys.start > own_keys.end {
            bail!("attend: the keys {own_keys:?} of a stretch exceed the {keys} there are");
        }
        if *first_key > 0 && (*left >= rows || *first_key > positions) {
            bail!("attend: {first_key} keys of row {left} to the left, where {rows} rows of {positions} are");
        }
        let n_keys = stretch.n_keys();
        if first_query + own_queries.len() > n_keys {
            bail!(
                "attend: {} queries from position {first_query} on do not fit {n_keys} keys",
                own_queries.len()
            );
        }
        let short = |alibi: &Alibi| {
            let needed = n_keys.saturating_sub(own.start);
            alibi.table.len() != heads || alibi.table.iter().any(|row| row.len() < needed)
        };
        if how.alibi.as_ref().is_some_and(short) {
            bail!("attend: the distance biases do not cover {heads} heads and {n_keys} keys");
        }
    }
    Ok(())
}

/// candle's operations take three tensors at most: what lies to the left comes captured.
struct Op<'a> {
    left: Option<(Tensor, Tensor)>,
    how: &'a Attend,
}

impl Op<'_> {
    /// `W` queries are computed side by side, or `FEW` where there are no more.
    fn run<T: Real, const W: usize, const FEW: usize>(
        &self,
        [q, k, v]: [(&CpuStorage, &Layout); 3],
    ) -> Result<Vec<T>> {
        let ((queries, heads, d_head), (_, kv_heads, _)) = (q.1.shape().dims3()?, k.1.shape().dims3()?);
        let (q, k, v) = (rows(q)?, rows(k)?, rows(v)?);
        let call = |left| Call { how: self.how, q, k, v, left, queries, heads, kv_heads, d_head };
        Ok(match &self.left {
            None => call(None).run::<W, FEW>(),
            Some((left_k, left_v)) => {
                let (k_storage, k_layout) = left_k.storage_and_layout();
                let (v_storage, v_layout) = left_v.storage_and_layout();
                let (Storage::Cpu(k), Storage::Cpu(v)) = (&*k_storage, &*v_storage) else {
                    bail!("attend: what lies to the left is on another device")
                };
                let positions = left_k.dim(1)?;
                let left = Prefix { k: numbers(k, k_layout)?, v: numbers(v, v_layout)?, positions };
                call(Some(left)).run::<W, FEW>()
            }
        })
    }
}

/// Rows `[row, head, d_head]` whose last two axes lie together.
fn rows<'a, T: Real>((storage, layout): (&'a CpuStorage, &'a Layout)) -> Result<Rows<'a, T>> {
    let stride = layout.stride().first().copied().unwrap_or(0);
    Ok(Rows { numbers: &storage.as_slice::<T>()?[layout.start_offset()..], stride })
}

impl CustomOp3 for Op<'_> {
    fn name(&self) -> &'static str {
        "attend"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let inputs = [(s1, l1), (s2, l2), (s3, l3)];
        let z = match s1 {
            CpuStorage::F32(_) => CpuStorage::F32(self.run::<f32, 16, 8>(inputs)?),
            CpuStorage::F64(_) => CpuStorage::F64(self.run::<f64, 8, 4>(inputs)?),
            _ => bail!("attend takes f32 or f64"),
        };
        Ok((z, l1.shape().clone()))
    }
}
