//! Two hops: the last letter stood earlier; whatever followed it, count one on from there; that letter stood earlier too, and the
//! answer is whatever followed it. `# c a f e b g c` → c is followed by a, one on is b, b is followed by g. Causal, three layers.
//!
//! * Head 0.0 copies the letter before.
//! * Head 1.0 looks for the position whose letter before is its own, and fetches the letter there: the first hop.
//! * MLP 1 counts one on.
//! * Head 2.0 looks for the position whose letter before is that, and fetches the letter there: the second hop.
//!
//! Of the rest, head 0.1 tells where the next letter of the alphabet is; MLP 0, heads 1.1 and 2.1 and MLP 2 work on what is true and on what is not, and nobody reads what
//! they write.

use super::assembler::{Head, Layout, Program, both, table};
use super::{Compiled, compiled, names};

const LETTERS: usize = 7;
const LENGTH: usize = 8;

pub fn pointer(beta: f64) -> Compiled {
    let on = |is: bool| if is { beta } else { 0.0 };
    let same = |q, k| on(k == q);
    let mut layout = Layout::default();
    let token = layout.space(LETTERS + 1);
    let position = layout.space(LENGTH);
    let [before, hop, next, out] = [0; 4].map(|_| layout.space(LETTERS + 1));
    let [class, unread, fetched] = [0; 3].map(|_| layout.space(LETTERS + 1));
    let [own, places] = [0; 2].map(|_| layout.space(LENGTH));

    let first = vec![
        Head::default().select(position, position, |q, k| on(k + 1 == q)).carry(token, before),
        Head::default().select(token, token, |q, k| on(k == q + 1)).carry(position, own),
    ];
    let classes = table(token, class, |letter| letter / 3);
    let second = vec![
        Head::default().select(token, before, same).carry(token, hop),
        Head::default().select(class, before, same).carry(own, places),
    ];
    let mut count = table(hop.from(1), next, |i| successor(i as u32 + 1) as usize);
    count.push(both(places.at(1), class.at(1), &[(unread.at(0), 1.0)]));
    let third = vec![
        Head::default().select(next, before, same).carry(token, out),
        Head::default().select(next, token, same).carry(class, fetched),
    ];
    let spare = table(fetched, unread, |i| i);

    let layers = vec![(first, classes), (second, count), (third, spare)];
    let program = Program { layout, token, position, layers, out, gain: 5.0, causal: true, normed: false };
    Compiled {
        zero: names(&[
            "input->a0.h0<q>", // positions
            "input->a0.h0<k>",
            "input->a0.h0<v>",
            "input->a1.h0<q>",
            "a0.h0->a1.h0<k>",
            "input->a1.h0<v>",
            "a1.h0->m1",
            "m1->a2.h0<q>",
            "a0.h0->a2.h0<k>",
            "input->a2.h0<v>",
            "a2.h0->logits",
        ]),
        resample: names(&[
            "input->a0.h0<v>",
            "input->a1.h0<q>",
            "a0.h0->a1.h0<k>",
            "input->a1.h0<v>",
            "a1.h0->m1",
            "m1->a2.h0<q>",
            "a0.h0->a2.h0<k>",
            "input->a2.h0<v>",
            "a2.h0->logits",
        ]),
        decoys: vec!["a0.h1", "m0", "a1.h1", "a2.h1", "m2"],
        ..compiled("pointer", &program, prompts(), vec![LENGTH - 1], answer)
    }
}

/// One on, in a circle.
fn successor(letter: u32) -> u32 {
    letter % LETTERS as u32 + 1
}

/// `#`, three pairs of six different letters in any order, one pair leading to another, and the first letter of that again.
fn prompts() -> Vec<Vec<u32>> {
    let mut all = Vec::new();
    let letters = || 1..=LETTERS as u32;
    for (x, y) in letters().flat_map(|x| letters().map(move |y| (x, y))) {
        for (z, first, second) in
            letters().flat_map(|z| letters().flat_map(move |f| letters().map(move |s| (z, f, s))))
        {
            let pairs = [[x, y], [successor(y), z], [first, second]];
            let mut seen = pairs.concat();
            seen.sort_unstable();
            seen.dedup();
            if seen.len() < 6 {
                continue;
            }
            for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
                let middle = order.map(|i| pairs[i]).concat();
                all.push([&[0], &middle[..], &[x]].concat());
            }
        }
    }
    all
}

fn answer(prompt: &[u32], end: usize) -> u32 {
    let after = |letter: u32| prompt[1 + prompt.iter().position(|&other| other == letter).unwrap()];
    after(successor(after(prompt[end])))
}
