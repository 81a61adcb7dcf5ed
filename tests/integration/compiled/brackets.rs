//! Balanced brackets (Dyck-1): after each bracket, whether those so far are balanced. Causal.
//!
//! * Head 0.0 looks at `#` and every opening bracket so far, head 0.1 at `#` and every closing one: n of them have n/(1 + n) of the
//!   attention.
//! * MLP 0 compares the two: a position is `below` if more were closed than opened, `above` if fewer.
//! * Head 1.0 looks at every position so far that was below, and at `#`, with half the score, where there is none.
//! * MLP 1 says yes unless something was ever below or the last position is above, else no.
//!
//! Of the rest, head 0.2 copies the bracket before, head 1.1 looks for a bracket like its own, head 1.2 asks where it was that something
//! was below; MLPs work on those too, and nobody reads what becomes of it.

use super::assembler::{Head, Layout, Neuron, Program, both, ramp};
use super::{Compiled, compiled, names};

const OPEN: usize = 1;
const CLOSE: usize = 2;
const YES: usize = 3;
const NO: usize = 4;
const LENGTH: usize = 8;

pub fn brackets(beta: f64) -> Compiled {
    let on = |is: bool| if is { beta } else { 0.0 };
    let found = beta + 2.0; // half of it must still be far above 0
    let mut layout = Layout::default();
    let token = layout.space(5);
    let position = layout.space(LENGTH + 1);
    let [opened, closed, below, above, ever] = [0; 5].map(|_| layout.space(1));
    let out = layout.space(5);
    let [before, like, unread] = [0; 3].map(|_| layout.space(5));
    let places = layout.space(LENGTH + 1);

    let first = vec![
        Head::default()
            .select(token, token, |_, k| on(k == 0 || k == OPEN))
            .sum(token, opened, |k| k == OPEN),
        Head::default()
            .select(token, token, |_, k| on(k == 0 || k == CLOSE))
            .sum(token, closed, |k| k == CLOSE),
        Head::default().select(position, position, |q, k| on(k + 1 == q)).carry(token, before),
    ];
    // three of one and four of the other are the closest shares that differ: 4/5 − 3/4. The ramps begin a little before 0 and end a
    // little after that, so that gradients live
    let step = 1.0 / 20.0;
    let more = |a: usize, b: usize, into: usize| {
        ramp(&[(a, 1.0), (b, -1.0)], -0.05 * step, 1.1 * step, &[(into, 1.0)])
    };
    let mut compare = more(closed.at(0), opened.at(0), below.at(0)).to_vec();
    compare.extend(more(opened.at(0), closed.at(0), above.at(0)));
    compare.push(both(before.at(OPEN), token.at(CLOSE), &[(unread.at(0), 1.0)]));
    let second = vec![
        Head::default()
            .select(token, below, |_, _| found)
            .select(token, token.only(0), |_, _| found / 2.0)
            .carry(below, ever),
        Head::default().select(token, token, |q, k| on(k == q)).carry(before, like),
        Head::default().select(token, below, |_, _| beta).carry(position, places),
    ];
    let decide = vec![
        Neuron {
            reads: vec![(ever.at(0), -1.0), (above.at(0), -1.0)],
            bias: 1.0,
            writes: vec![(out.at(YES), 1.0), (out.at(NO), -1.0)],
        },
        Neuron { reads: vec![], bias: 1.0, writes: vec![(out.at(NO), 1.0)] },
        both(like.at(OPEN), places.at(1), &[(unread.at(1), 1.0)]),
        both(before.at(OPEN), token.at(OPEN), &[(unread.at(2), 1.0)]),
    ];

    let layers = vec![(first, compare), (second, decide)];
    let program = Program { layout, token, position, layers, out, gain: 5.0, causal: true, normed: true };
    Compiled {
        zero: names(&[
            "input->a0.h0<q>", // every token asks, and asks for the same
            "input->a0.h0<k>",
            "input->a0.h0<v>",
            "input->a0.h1<q>",
            "input->a0.h1<k>",
            "input->a0.h1<v>",
            "a0.h0->m0",
            "a0.h1->m0",
            "input->a1.h0<q>",
            "input->a1.h0<k>", // `#` is where it always was
            "m0->a1.h0<k>",
            "m0->a1.h0<v>",
            "a1.h0->m1",
            "m0->m1",
            "m1->logits",
        ]),
        resample: names(&[
            "input->a0.h0<k>",
            "input->a0.h0<v>",
            "input->a0.h1<k>",
            "input->a0.h1<v>",
            "a0.h0->m0",
            "a0.h1->m0",
            "m0->a1.h0<k>",
            "m0->a1.h0<v>",
            "a1.h0->m1",
            "m0->m1",
            "m1->logits",
        ]),
        decoys: vec!["a0.h2", "a1.h1", "a1.h2"],
        ..compiled("brackets", &program, prompts(), vec![2, 4, 6, 8], answer)
    }
}

/// `#` and eight brackets.
fn prompts() -> Vec<Vec<u32>> {
    let bracket = |i: usize, place: usize| if i >> place & 1 == 1 { CLOSE } else { OPEN } as u32;
    let prompt = |i| std::iter::once(0).chain((0..LENGTH).map(|place| bracket(i, place))).collect();
    (0..1 << LENGTH).map(prompt).collect()
}

fn answer(prompt: &[u32], end: usize) -> u32 {
    let mut depth = 0;
    let depths = prompt[1..=end].iter().map(|&token| {
        depth += if token == OPEN as u32 { 1 } else { -1 };
        depth
    });
    let depths: Vec<i32> = depths.collect();
    let balanced = depths.iter().all(|&depth| depth >= 0) && depths.last() == Some(&0);
    (if balanced { YES } else { NO }) as u32
}
