//! The work of the kernel cut up: stretches into pieces for the threads, their keys into blocks for the caches.
//!
//! Blocks of keys are counted from the first own position of a sequence, so that what a query adds up does not depend on
//! the queries beside it.

use std::ops::Range;

use rayon::prelude::*;

use super::panel::Panel;
use super::{Attend, Stretch};
use crate::ops::kernel::{Real, Vectored, vectored};

/// Keys taken in at once: with their values they stay in the nearest cache.
pub(super) const BLOCK: usize = 128;
/// Rows of one piece of work (one query of one head is a row).
const ROWS: usize = 96;
/// Products that make a piece of work worth a thread's while.
const WORTH: usize = 1 << 20;

/// Rows of numbers, each some way behind the last.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a, T> {
    pub(super) numbers: &'a [T],
    pub(super) stride: usize,
}

impl<'a, T> Rows<'a, T> {
    /// Part of a row.
    #[inline(always)]
    pub(super) fn part(&self, row: usize, from: usize, width: usize) -> &'a [T] {
        &self.numbers[row * self.stride + from..][..width]
    }
}

/// Keys and values of the base `[row, pos, kv_head, d_head]`.
pub(super) struct Prefix<'a, T> {
    pub(super) k: &'a [T],
    pub(super) v: &'a [T],
    pub(super) positions: usize,
}

/// One call of the operation.
pub(super) struct Call<'a, T> {
    pub(super) how: &'a Attend,
    pub(super) q: Rows<'a, T>,
    pub(super) k: Rows<'a, T>,
    pub(super) v: Rows<'a, T>,
    pub(super) left: Option<Prefix<'a, T>>,
    pub(super) queries: usize,
    pub(super) heads: usize,
    pub(super) kv_heads: usize,
    pub(super) d_head: usize,
}

/// Some of a stretch's queries, counted from its first.
type Piece<'a> = (&'a Stretch, Range<usize>);

/// Pieces that one thread computes, and where their results go.
struct Task<'a, 'z, T> {
    pieces: Vec<Piece<'a>>,
    /// The row of q that the results start with.
    first: usize,
    z: &'z mut [T],
}

impl<T: Real> Call<'_, T> {
    pub(super) fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// z `[query, head, d_head]`.
    pub(super) fn run<const W: usize, const FEW: usize>(&self) -> Vec<T> {
        let width = self.heads * self.d_head;
        let mut z = vec![T::ZERO; self.queries * width];
        let work = |task: Task<T>| vectored(Run::<T, W, FEW> { call: self, task });
        let tasks = self.tasks(&mut z, width);
        if tasks.len() == 1 {
            tasks.into_iter().for_each(work);
        } else {
            tasks.into_par_iter().for_each(work);
        }
        z
    }

    /// The stretches cut into pieces, joined to tasks.
    fn tasks<'z>(&self, z: &'z mut [T], width: usize) -> Vec<Task<'_, 'z, T>> {
        let step = (ROWS / self.group()).max(1);
        let (mut joined, mut products): (Vec<(Vec<Piece>, usize)>, usize) = (Vec::new(), 0);
        for stretch in &self.how.stretches {
            for start in (0..stretch.queries.len()).step_by(step) {
                let queries = start..stretch.queries.len().min(start + step);
                let (end, cost) =
                    (stretch.queries.start + queries.end, queries.len() * width * stretch.n_keys());
                match joined.last_mut().filter(|_| products < WORTH) {
                    Some((pieces, last)) => {
                        pieces.push((stretch, queries));
                        (*last, products) = (end, products + cost);
                    }
                    None => {
                        joined.push((vec![(stretch, queries)], end));
                        products = cost;
                    }
                }
            }
        }
        let (mut rest, mut first) = (z, 0);
        let task = |(pieces, end): (Vec<_>, usize)| {
            let (z, after) = std::mem::take(&mut rest).split_at_mut((end - first) * width);
            rest = after;
            Task { pieces, first: std::mem::replace(&mut first, end), z }
        };
        joined.into_iter().map(task).collect()
    }

    /// The key or the value, for one head, at a position of a stretch.
    #[inline(always)]
    fn key(&self, stretch: &Stretch, pos: usize, kv_head: usize) -> (&[T], &[T]) {
        let (from, width) = (kv_head * self.d_head, self.d_head);
        match (&self.left, pos.checked_sub(stretch.first_key)) {
            (Some(left), None) => {
                let at = (stretch.left * left.positions + pos) * self.kv_heads * width + from;
                (&left.k[at..at + width], &left.v[at..at + width])
            }
            (_, own) => {
                let row = stretch.keys.start + own.unwrap_or(pos);
                (self.k.part(row, from, width), self.v.part(row, from, width))
            }
        }
    }

    #[inline(always)]
    fn piece<const FUSED: bool, const W: usize>(&self, (stretch, queries): Piece, z: &mut [T]) {
        let rows = queries.len() * self.group();
        let mut panels: Vec<Panel<T, W>> = (0..rows)
            .step_by(W)
            .map(|row| Panel::new(self, stretch, queries.start, row..rows.min(row + W)))
            .collect();
        let end = panels.iter().map(|panel| panel.seen.end).max().unwrap_or(0);
        let start = panels.iter().map(|panel| panel.seen.start).min().unwrap_or(0);
        let origin = stretch.own.start;
        let first_block = start.saturating_sub(origin) / BLOCK;
        let mut scores = [[T::ZERO; W]; BLOCK];
        let (mut k, mut v): ([&[T]; BLOCK], [&[T]; BLOCK]) = ([&[]; BLOCK], [&[]; BLOCK]);
        for kv_head in 0..self.kv_heads {
            panels.iter_mut().for_each(|panel| panel.begin(self, stretch, kv_head));
            for from in (origin + first_block * BLOCK..end).step_by(BLOCK) {
                let to = end.min(from + BLOCK);
                for (i, pos) in (from..to).enumerate() {
                    (k[i], v[i]) = self.key(stretch, pos, kv_head);
                }
                for panel in &mut panels {
                    let (first, last) = (panel.seen.start.max(from), panel.seen.end.min(to));
                    if first < last {
                        let inside = first - from..last - from;
                        panel.score::<FUSED>(&k[inside.clone()], &mut scores);
                        panel.bend(self, stretch, first, &mut scores[..inside.len()]);
                        panel.take_in::<FUSED>(&mut scores[..inside.len()], &v[inside], self.d_head);
                    }
                }
            }
            panels.iter().for_each(|panel| panel.finish(self, queries.start, z));
        }
    }
}

struct Run<'a, 'z, T, const W: usize, const FEW: usize> {
    call: &'a Call<'a, T>,
    task: Task<'a, 'z, T>,
}

impl<T: Real, const W: usize, const FEW: usize> Vectored for Run<'_, '_, T, W, FEW> {
    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        let Run { call, task } = self;
        let width = call.heads * call.d_head;
        for piece in task.pieces {
            let from = piece.0.queries.start + piece.1.start - task.first;
            let z = &mut task.z[from * width..(from + piece.1.len()) * width];
            if piece.1.len() * call.group() <= FEW {
                call.piece::<FUSED, FEW>(piece, z);
            } else {
                call.piece::<FUSED, W>(piece, z);
            }
        }
    }
}
