//! Queries side by side in vectors.
//!
//! Lane by lane a panel keeps the largest score so far, the sum of exponentials and the weighted sum of values (Milakov &
//! Gimelshein 2018; Dao et al. 2022). A key that a lane does not see adds exactly 0 to it: a lane's numbers do not depend on
//! the others'.

use std::ops::Range;

use super::Stretch;
use super::blocks::{BLOCK, Call};
use crate::ops::kernel::Real;

/// Keys multiplied at once with a panel of queries.
const TILE: usize = 6;
/// Lanes whose values are summed at once.
const LANES: usize = 4;

/// One lane's query: where it stands and what it sees.
#[derive(Clone, Copy)]
struct Lane {
    /// Counted from the stretch's first query.
    query: usize,
    /// Which head of its group.
    member: usize,
    /// The keys it sees, from and to.
    seen: (usize, usize),
}

/// `W` queries of one key-value head.
pub(super) struct Panel<T, const W: usize> {
    lanes: Vec<Lane>,
    kv_head: usize,
    /// Keys that some lane sees.
    pub(super) seen: Range<usize>,
    /// Keys that every lane sees.
    shared: Range<usize>,
    /// The same for each lane, as numbers to compare with in vectors.
    from: [T; W],
    to: [T; W],
    /// `[d_head]` of lanes.
    q: Vec<[T; W]>,
    /// The largest score so far.
    top: [T; W],
    /// Σ exp(score − top).
    total: [T; W],
    /// Σ exp(score − top)·v, `[lane, d_head]`.
    z: Vec<T>,
}

impl<T: Real, const W: usize> Panel<T, W> {
    /// The panel of these rows of a piece: row = query · group + member.
    pub(super) fn new(call: &Call<T>, stretch: &Stretch, first: usize, rows: Range<usize>) -> Self {
        let lane = |row: usize| {
            let (query, member) = (first + row / call.group(), row % call.group());
            let seen = stretch.visible(call.how, stretch.first_query + query);
            Lane { query, member, seen: (seen.start, seen.end) }
        };
        let lanes: Vec<Lane> = rows.map(lane).collect();
        let some = lanes.iter().filter(|lane| lane.seen.0 < lane.seen.1);
        let seen = some.clone().map(|lane| lane.seen.0).min().unwrap_or(0)
            ..some.clone().map(|lane| lane.seen.1).max().unwrap_or(0);
        let shared = lanes.iter().map(|lane| lane.seen.0).max().unwrap_or(0)
            ..lanes.iter().map(|lane| lane.seen.1).min().unwrap_or(0);
        let bound = |bound: &dyn Fn(&Lane) -> usize| {
            std::array::from_fn(|lane| lanes.get(lane).map_or(T::ZERO, |lane| T::of(bound(lane) as f64)))
        };
        Panel {
            from: bound(&|lane| lane.seen.0),
            to: bound(&|lane| lane.seen.1),
            q: vec![[T::ZERO; W]; call.d_head],
            z: vec![T::ZERO; W * call.d_head],
            top: [T::NEG_INFINITY; W],
            total: [T::ZERO; W],
            kv_head: 0,
            lanes,
            seen,
            shared,
        }
    }

    /// Starts on a key-value head. A sink is a score whose value is 0.
    #[inline(always)]
    pub(super) fn begin(&mut self, call: &Call<T>, stretch: &Stretch, kv_head: usize) {
        self.kv_head = kv_head;
        self.z.fill(T::ZERO);
        for (i, lane) in self.lanes.iter().enumerate() {
            let head = kv_head * call.group() + lane.member;
            let row = stretch.queries.start + lane.query;
            for (q, &x) in self.q.iter_mut().zip(call.q.part(row, head * call.d_head, call.d_head)) {
                q[i] = x;
            }
            (self.top[i], self.total[i]) = match &call.how.sinks {
                None => (T::NEG_INFINITY, T::ZERO),
                Some(sinks) => (T::of(sinks[head]), T::ONE),
            };
        }
    }

    /// scores `[key]` of lanes = k·q.
    #[inline(always)]
    pub(super) fn score<const FUSED: bool>(&self, k: &[&[T]], scores: &mut [[T; W]; BLOCK]) {
        for (tile, scores) in k.chunks(TILE).zip(scores.chunks_mut(TILE)) {
            let last = tile.len() - 1;
            let k: [&[T]; TILE] = std::array::from_fn(|i| &tile[i.min(last)][..self.q.len()]);
            let [mut s0, mut s1, mut s2, mut s3, mut s4, mut s5] = [[T::ZERO; W]; TILE];
            let [k0, k1, k2, k3, k4, k5] = k;
            // written out: as a loop over the tile it does not stay in registers
            for (d, q) in self.q.iter().enumerate() {
                accumulate::<FUSED, T, W>(&mut s0, k0[d], q);
                accumulate::<FUSED, T, W>(&mut s1, k1[d], q);
                accumulate::<FUSED, T, W>(&mut s2, k2[d], q);
                accumulate::<FUSED, T, W>(&mut s3, k3[d], q);
                accumulate::<FUSED, T, W>(&mut s4, k4[d], q);
                accumulate::<FUSED, T, W>(&mut s5, k5[d], q);
            }
            let sums = [s0, s1, s2, s3, s4, s5];
            for (score, sum) in scores.iter_mut().zip(sums).take(tile.len()) {
                *score = sum;
            }
        }
    }

    /// Products of the keys from position `first` on, scaled, capped, with the biases of distance; −∞ where nothing is seen.
    #[inline(always)]
    pub(super) fn bend(&self, call: &Call<T>, stretch: &Stretch, first: usize, scores: &mut [[T; W]]) {
        let scale = T::of(call.how.scale);
        for scores in scores.iter_mut() {
            for score in scores {
                *score *= scale;
            }
        }
        if let Some(cap) = call.how.cap.map(T::of) {
            for score in scores.iter_mut().flatten() {
                *score = cap * (*score / cap).tanh_();
            }
        }
        if let Some(alibi) = &call.how.alibi {
            let origin = stretch.own.start;
            for (i, lane) in self.lanes.iter().enumerate() {
                let table = &alibi.table[self.kv_head * call.group() + lane.member];
                let query = stretch.first_query + lane.query;
                for pos in lane.seen.0.max(first)..lane.seen.1.min(first + scores.len()) {
                    scores[pos - first][i] += T::of(table[pos - origin] - table[query - origin]);
                }
            }
        }
        for (pos, scores) in (first..).zip(scores).filter(|(pos, _)| !self.shared.contains(pos)) {
            let pos = T::of(pos as f64);
            for ((score, &from), &to) in scores.iter_mut().zip(&self.from).zip(&self.to) {
                *score = if pos >= from && pos < to { *score } else { T::NEG_INFINITY };
            }
        }
    }

    /// Adds the keys of these scores and their values.
    #[inline(always)]
    pub(super) fn take_in<const FUSED: bool>(&mut self, scores: &mut [[T; W]], v: &[&[T]], d_head: usize) {
        let mut top = self.top;
        for scores in scores.iter() {
            for (top, &score) in top.iter_mut().zip(scores) {
                *top = if score > *top { score } else { *top };
            }
        }
        // where nothing has been seen yet there is nothing to count from
        let base = top.map(|top| if top == T::NEG_INFINITY { T::ZERO } else { top });
        let mut factor = [T::ZERO; W];
        for (i, factor) in factor.iter_mut().enumerate() {
            *factor = (self.top[i] - base[i]).exp_();
        }
        let mut sum = [T::ZERO; W];
        for scores in scores.iter_mut() {
            for i in 0..W {
                scores[i] = (scores[i] - base[i]).exp_();
                sum[i] += scores[i];
            }
        }
        for i in 0..W {
            self.total[i] = self.total[i] * factor[i] + sum[i];
        }
        self.top = top;
        let used = self.lanes.len();
        for lane in (0..used).step_by(LANES) {
            for from in (0..d_head).step_by(W) {
                let width = W.min(d_head - from);
                let sums = if width == W {
                    weighted::<FUSED, true, T, W>(scores, lane, v, from, W)
                } else {
                    weighted::<FUSED, false, T, W>(scores, lane, v, from, width)
                };
                for (i, sums) in (lane..used).zip(sums) {
                    let z = &mut self.z[i * d_head + from..][..width];
                    for (z, sum) in z.iter_mut().zip(sums) {
                        *z = *z * factor[i] + sum;
                    }
                }
            }
        }
    }

    /// Writes the results of the lanes to z `[query, head, d_head]`.
    #[inline(always)]
    pub(super) fn finish(&self, call: &Call<T>, first: usize, z: &mut [T]) {
        let width = call.d_head;
        for (i, lane) in self.lanes.iter().enumerate() {
            let head = self.kv_head * call.group() + lane.member;
            let total = if self.total[i] == T::ZERO { T::ONE } else { self.total[i] };
            let to = &mut z[((lane.query - first) * call.heads + head) * width..][..width];
            for (to, &z) in to.iter_mut().zip(&self.z[i * width..]) {
                *to = z / total;
            }
        }
    }
}

/// Σ over keys of weight·v for a few lanes from `lane` on and the columns from `from` on, `width` of them.
#[inline(always)]
fn weighted<const FUSED: bool, const WHOLE: bool, T: Real, const W: usize>(
    weights: &[[T; W]],
    lane: usize,
    v: &[&[T]],
    from: usize,
    width: usize,
) -> [[T; W]; LANES] {
    let mut sums = [[T::ZERO; W]; LANES];
    for (weights, v) in weights.iter().zip(v) {
        let mut columns = [T::ZERO; W];
        if WHOLE {
            columns.copy_from_slice(&v[from..from + W]);
        } else {
            columns[..width].copy_from_slice(&v[from..from + width]);
        }
        for (sums, &weight) in sums.iter_mut().zip(&weights[lane..lane + LANES]) {
            accumulate::<FUSED, T, W>(sums, weight, &columns);
        }
    }
    sums
}

/// sums + a·b.
#[inline(always)]
fn accumulate<const FUSED: bool, T: Real, const W: usize>(sums: &mut [T; W], a: T, b: &[T; W]) {
    for (sum, &b) in sums.iter_mut().zip(b) {
        *sum = a.times_plus::<FUSED>(b, *sum);
    }
}
