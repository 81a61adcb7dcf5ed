//! Double histogram: at each letter, how many letters of the prompt occur as often as this one does (itself included). Every position sees
//! every other.
//!
//! * Head 0.0 looks at `#` and at every letter like its own, so that n of them have n/(1 + n) of its attention.
//! * MLP 0 turns that share into a number, except at `#`.
//! * Head 1.0 looks at `#` and at every letter with the same number: both its queries and its keys come from MLP 0.
//! * MLP 1 turns that share into a number, the answer.
//!
//! Of the rest, head 0.1 copies the letter before and head 0.2 where its own letter stands; heads 1.1 and 1.2 work on those and on the
//! numbers, MLP 1 besides on what they write, and nobody reads what becomes of it.

use super::assembler::{Head, Layout, Program, both, lookup};
use super::{Compiled, compiled, names};

const LETTERS: usize = 4;
const LENGTH: usize = 6;

pub fn double_histogram(beta: f64) -> Compiled {
    let on = |is: bool| if is { beta } else { 0.0 };
    let mut layout = Layout::default();
    let token = layout.space(LENGTH + 1); // `#`, the letters, and as answers the numbers 1 to LENGTH
    let position = layout.space(LENGTH + 1);
    let [alike, peers] = [0; 2].map(|_| layout.space(1));
    let number = layout.space(LENGTH);
    let out = layout.space(LENGTH + 1);
    let [before, nearby, unread] = [0; 3].map(|_| layout.space(LENGTH + 1));
    let [own, places] = [0; 2].map(|_| layout.space(LENGTH + 1));

    let first = vec![
        Head::default().select(token, token, |q, k| on(k == 0 || k == q)).sum(token, alike, |k| k > 0),
        Head::default().select(position, position, |q, k| on(k + 1 == q)).carry(token, before),
        Head::default().select(token, token, |q, k| on(k == q)).carry(position, own),
    ];
    // the share of n letters, with what the others take; a thousandth below, so that no neuron stands at its kink
    let share = |n: f64| 1.0 - beta.exp() / (beta.exp() * (1.0 + n) + LENGTH as f64 - n);
    let knots: Vec<f64> = (1..=LENGTH).map(|n| share(n as f64 - 0.001)).collect();
    let mut numbers = lookup(alike, &knots, number, Some(token.at(0)));
    numbers.push(both(before.at(1), token.at(1), &[(unread.at(0), 1.0)]));
    let second = vec![
        Head::default()
            .select(number, number, |q, k| on(k == q))
            .select(token, token.only(0), |_, _| beta)
            .sum(token, peers, |k| k > 0),
        Head::default().select(number, number, |q, k| on(k < q)).carry(before, nearby),
        Head::default().select(token, before, |q, k| on(k == q)).carry(own, places),
    ];
    let mut answers = lookup(peers, &knots, out.from(1), None);
    answers.push(both(nearby.at(1), number.at(1), &[(unread.at(1), 1.0)]));

    let layers = vec![(first, numbers), (second, answers)];
    let program = Program { layout, token, position, layers, out, gain: 5.0, causal: false, normed: false };
    Compiled {
        zero: names(&[
            "input->a0.h0<q>",
            "input->a0.h0<k>",
            "input->a0.h0<v>", // which are letters
            "a0.h0->m0",
            "input->m0", // `#` has no number
            "m0->a1.h0<q>",
            "input->a1.h0<q>", // every letter looks at `#`
            "m0->a1.h0<k>",
            "input->a1.h0<k>", // which is where it always was
            "input->a1.h0<v>",
            "a1.h0->m1",
            "m1->logits",
        ]),
        resample: names(&[
            "input->a0.h0<q>",
            "input->a0.h0<k>",
            "a0.h0->m0",
            "m0->a1.h0<q>",
            "m0->a1.h0<k>",
            "a1.h0->m1",
            "m1->logits",
        ]),
        decoys: vec!["a0.h1", "a0.h2", "a1.h1", "a1.h2"],
        ..compiled("double histogram", &program, prompts(), (1..=LENGTH).collect(), answer)
    }
}

/// `#` and six letters.
fn prompts() -> Vec<Vec<u32>> {
    let letter = |i: usize, place: u32| (i / LETTERS.pow(place) % LETTERS) as u32 + 1;
    let prompt = |i| std::iter::once(0).chain((0..LENGTH as u32).map(|place| letter(i, place))).collect();
    (0..LETTERS.pow(LENGTH as u32)).map(prompt).collect()
}

fn answer(prompt: &[u32], end: usize) -> u32 {
    let number = |letter: u32| prompt.iter().filter(|&&other| other == letter).count();
    prompt[1..].iter().filter(|&&letter| number(letter) == number(prompt[end])).count() as u32
}
