//! Sort: at the t-th position, the t-th smallest of five different letters. Every position sees every other.
//!
//! * Head 0.0 looks at `#` and at every smaller letter, so that c smaller ones have c/(1 + c) of its attention.
//! * MLP 0 turns that share into a rank, except at `#`.
//! * Head 1.0 at position t fetches the letter whose rank is t − 1.
//!
//! Of the rest, head 0.1 copies the letter before, head 0.2 tells where the next letter of the alphabet is; heads 1.1 and 1.2 and MLP 1 work on those and on ranks,
//! and nobody reads what they write.

use super::assembler::{Head, Layout, Program, both, lookup, table};
use super::{Compiled, compiled, names};

const LETTERS: usize = 6;
const LENGTH: usize = 5;

pub fn sort(beta: f64) -> Compiled {
    let on = |is: bool| if is { beta } else { 0.0 };
    let mut layout = Layout::default();
    let token = layout.space(LETTERS + 1);
    let position = layout.space(LENGTH + 1);
    let share = layout.space(1);
    let rank = layout.space(LENGTH);
    let out = layout.space(LETTERS + 1);
    let [before, nearby] = [0; 2].map(|_| layout.space(LETTERS + 1));
    let [own, peers] = [0; 2].map(|_| layout.space(LENGTH + 1));
    let unread = layout.space(LETTERS + 1);

    let first = vec![
        Head::default().select(token, token, |q, k| on(k == 0 || k < q)).sum(token, share, |k| k > 0),
        Head::default().select(position, position, |q, k| on(k + 1 == q)).carry(token, before),
        Head::default().select(token, token, |q, k| on(k == q + 1)).carry(position, own),
    ];
    let knots: Vec<f64> = (0..LENGTH).map(|c| c as f64 / (1 + c) as f64).collect();
    let mut ranks = lookup(share, &knots, rank, Some(token.at(0)));
    ranks.push(both(before.at(1), token.at(2), &[(unread.at(0), 1.0)]));
    let second = vec![
        Head::default().select(position, rank, |t, rank| on(rank + 1 == t)).carry(token, out),
        Head::default().select(rank, rank, |q, k| on(k == q + 1)).carry(before, nearby),
        Head::default().select(token, before, |q, k| on(k == q)).carry(own, peers),
    ];
    let mut spare = table(nearby, unread, |i| i);
    spare.push(both(rank.at(0), peers.at(1), &[(unread.at(1), 1.0)]));

    let layers = vec![(first, ranks), (second, spare)];
    let program = Program { layout, token, position, layers, out, gain: 5.0, causal: false, normed: true };
    Compiled {
        // what does not depend on the letters: values and `#` at the ranks, places at the end
        zero: names(&[
            "input->a0.h0<q>",
            "input->a0.h0<k>",
            "input->a0.h0<v>",
            "a0.h0->m0",
            "input->m0",
            "input->a1.h0<q>",
            "m0->a1.h0<k>",
            "input->a1.h0<v>",
            "a1.h0->logits",
        ]),
        resample: names(&[
            "input->a0.h0<q>",
            "input->a0.h0<k>",
            "a0.h0->m0",
            "m0->a1.h0<k>",
            "input->a1.h0<v>",
            "a1.h0->logits",
        ]),
        decoys: vec!["a0.h1", "a0.h2", "a1.h1", "a1.h2", "m1"],
        ..compiled("sort", &program, prompts(), (1..=LENGTH).collect(), answer)
    }
}

/// `#` and five different letters.
fn prompts() -> Vec<Vec<u32>> {
    let mut all = vec![vec![0]];
    for _ in 0..LENGTH {
        all = all
            .iter()
            .flat_map(|prompt| {
                let fresh = (1..=LETTERS as u32).filter(|letter| !prompt.contains(letter));
                fresh.map(|letter| [&prompt[..], &[letter]].concat())
            })
            .collect();
    }
    all
}

fn answer(prompt: &[u32], end: usize) -> u32 {
    let mut letters = prompt[1..].to_vec();
    letters.sort_unstable();
    letters[end - 1]
}
