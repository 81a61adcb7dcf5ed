//! EAP and EAP-IG of the wired model, derived by hand.
//!
//! The score of an edge u → v is Σ (u − u′) · ∂LD/∂(what v reads), over positions and entries: u as the writer writes it on the clean
//! prompt, u′ on the corrupt one (or 0); positive where keeping the clean value helps. EAP (Syed et al. 2023) takes the derivative on the
//! clean prompt; EAP-IG over inputs (Hanna et al. 2024) its mean over m points, where what the embeddings write is z′ + (k/m)(z − z′), k =
//! 0 … m − 1.
//!
//! At any of those points let x_s be the token part of the stream at s (a one-hot, or a mixture of two), T the last position, α(t, s) the
//! attention of head 0.0, which depends on positions alone: a(t) to t − 1 and ε(t) to each other. Then
//!
//! * head 0.0 writes copies c_t = Σ_s α(t, s) x_s;
//! * head 1.0 at T attends with A_s = softmax_s(β x_T · c_s) and writes o = Σ_s A_s x_s;
//! * LD = g (x_T + o) · (e_b − e_c).
//!
//! With w_s = x_s · (e_b − e_c) and w̄ = Σ A_s w_s, the chain rule gives ∂LD/∂score_s = g A_s (w_s − w̄) =: G_s, and at each reader:
//!
//! | what reads | ∂LD/∂(what it reads) |
//! |---|---|
//! | the logits, at T | g (e_b − e_c), in the token part |
//! | values of 1.0, at s | A_s g (e_b − e_c), in the token part |
//! | queries of 1.0, at T | β Σ_s G_s c_s, in the token part |
//! | keys of 1.0, at s | β G_s x_T =: D_s, in the copies |
//! | values of 0.0, at s | Σ_{t ≥ s} α(t, s) D_t, in the token part |
//! | queries of 0.0, at t | β α(t, t−1) D_t · (x_{t−1} − c_t), in the entry of position t |
//! | keys of 0.0, at t − 1 | the same, in the entry of position t − 1 |
//! | MLPs | 0 |
//!
//! (The score of key s at query t is β if s = t − 1, and its derivative α(t, s) D_t · (x_s − c_t).) Everything else is 0, in particular wherever the
//! writer does not write where the reader has a derivative: MLPs write nothing, head 0.0 only copies, head 1.0 and the embeddings no copies.

use std::collections::BTreeMap;

use super::{B, C, G, V};

/// The token part of the stream at one position, or its copies.
type Row = [f64; V];

/// EAP scores of every edge, by its name in EAP-IG: `input->a0.h0<q>`. Without a corrupt prompt, zero stands in for what writers write.
pub fn eap(beta: f64, clean: &[u32], corrupt: Option<&[u32]>) -> BTreeMap<String, f64> {
    match corrupt {
        Some(corrupt) => mean_over(&[1.0], beta, clean, corrupt),
        None => {
            let point = Point::new(beta, one_hots(clean));
            point.scores(&point, &point.muted(), 1.0)
        }
    }
}

/// EAP-IG over inputs, in this many steps.
pub fn eap_ig(beta: f64, clean: &[u32], corrupt: &[u32], steps: usize) -> BTreeMap<String, f64> {
    let shares: Vec<f64> = (0..steps).map(|k| k as f64 / steps as f64).collect();
    mean_over(&shares, beta, clean, corrupt)
}

/// The mean of the derivatives on the clean and on the corrupt prompt.
pub fn clean_corrupt(beta: f64, clean: &[u32], corrupt: &[u32]) -> BTreeMap<String, f64> {
    mean_over(&[0.0, 1.0], beta, clean, corrupt)
}

/// The derivative's mean over inputs that are so much of the clean and the rest of the corrupt one.
fn mean_over(shares: &[f64], beta: f64, clean: &[u32], corrupt: &[u32]) -> BTreeMap<String, f64> {
    let (clean, corrupt) = (Point::new(beta, one_hots(clean)), Point::new(beta, one_hots(corrupt)));
    let mut mean: BTreeMap<String, f64> = BTreeMap::new();
    for share in shares {
        let x = clean.x.iter().zip(&corrupt.x).map(|(z, other)| sum([(*share, z), (1.0 - share, other)]));
        for (edge, score) in Point::new(beta, x.collect()).scores(&clean, &corrupt, 0.0) {
            *mean.entry(edge).or_default() += score / shares.len() as f64;
        }
    }
    mean
}

/// The model at one input.
struct Point {
    beta: f64,
    /// x_s.
    x: Vec<Row>,
    /// c_t.
    copies: Vec<Row>,
    /// A_s.
    attention: Vec<f64>,
    /// o.
    out: Row,
}

impl Point {
    fn new(beta: f64, x: Vec<Row>) -> Point {
        let copy = |t: usize| sum(x.iter().enumerate().map(|(s, x)| (previous(beta, t, s), x)));
        let copies: Vec<Row> = (0..x.len()).map(copy).collect();
        let last = x.len() - 1;
        let matches: Vec<f64> = copies.iter().map(|copy| (beta * dot(&x[last], copy)).exp()).collect();
        let z: f64 = matches.iter().sum();
        let attention: Vec<f64> = matches.iter().map(|e| e / z).collect();
        let out = sum(attention.iter().copied().zip(&x));
        Point { beta, x, copies, attention, out }
    }

    /// Nothing written anywhere.
    fn muted(&self) -> Point {
        let nothing = vec![[0.0; V]; self.x.len()];
        Point { beta: self.beta, x: nothing.clone(), copies: nothing, attention: Vec::new(), out: [0.0; V] }
    }

    /// The derivatives here times what writers write on `clean` less what they write on `other`. The positions differ by
    /// `positions` times themselves.
    fn scores(&self, clean: &Point, other: &Point, positions: f64) -> BTreeMap<String, f64> {
        let Point { beta, x, copies, attention, .. } = self;
        let (length, last) = (x.len(), x.len() - 1);
        let worth = |row: &Row| row[B as usize] - row[C as usize];
        let mean: f64 = attention.iter().zip(x).map(|(a, x)| a * worth(x)).sum();
        let of_score = |s: usize| G * attention[s] * (worth(&x[s]) - mean);
        let of_key = |s: usize| sum([(beta * of_score(s), &x[last])]);
        let token = |s: usize| sum([(1.0, &clean.x[s]), (-1.0, &other.x[s])]);
        let copy = |s: usize| sum([(1.0, &clean.copies[s]), (-1.0, &other.copies[s])]);
        let over = |of: &dyn Fn(usize) -> f64| (0..length).map(of).sum::<f64>();

        let query = sum((0..length).map(|s| (beta * of_score(s), &copies[s])));
        let first_value = |s: usize| {
            let each: Vec<(f64, Row)> = (s..length).map(|t| (previous(*beta, t, s), of_key(t))).collect();
            sum(each.iter().map(|(share, row)| (*share, row)))
        };
        let position = |t: usize| match t {
            0 => 0.0, // nobody before it
            t => {
                beta * previous(*beta, t, t - 1) * (dot(&of_key(t), &x[t - 1]) - dot(&of_key(t), &copies[t]))
            }
        };
        let out = G * (worth(&clean.out) - worth(&other.out));
        let known = [
            ("input->a0.h0<q>", positions * over(&position)),
            ("input->a0.h0<k>", positions * over(&position)),
            ("input->a0.h0<v>", over(&|s| dot(&token(s), &first_value(s)))),
            ("input->a1.h0<q>", dot(&token(last), &query)),
            ("input->a1.h0<v>", over(&|s| attention[s] * G * worth(&token(s)))),
            ("a0.h0->a1.h0<k>", over(&|s| dot(&copy(s), &of_key(s)))),
            ("input->logits", G * worth(&token(last))),
            ("a1.h0->logits", out),
        ];
        let mut scores: BTreeMap<String, f64> = names().into_iter().map(|edge| (edge, 0.0)).collect();
        scores.extend(known.map(|(edge, score)| (edge.to_owned(), score)));
        scores
    }
}

/// Every edge of two layers of one head and one MLP.
pub(super) fn names() -> Vec<String> {
    let writers = ["input", "a0.h0", "m0", "a1.h0", "m1"];
    let readers =
        [("a0.h0<q>", 1), ("a0.h0<k>", 1), ("a0.h0<v>", 1), ("m0", 2), ("a1.h0<q>", 3), ("a1.h0<k>", 3)];
    let readers = readers.into_iter().chain([("a1.h0<v>", 3), ("m1", 4), ("logits", 5)]);
    readers.flat_map(|(reader, n)| writers[..n].iter().map(move |w| format!("{w}->{reader}"))).collect()
}

/// α(t, s).
fn previous(beta: f64, t: usize, s: usize) -> f64 {
    match (t, s) {
        (t, s) if s > t => 0.0,
        (t, s) if s + 1 == t => beta.exp() / (beta.exp() + t as f64),
        (0, _) => 1.0,
        (t, _) => 1.0 / (beta.exp() + t as f64),
    }
}

fn one_hots(tokens: &[u32]) -> Vec<Row> {
    let one_hot = |token: usize| std::array::from_fn(|i| f64::from(i == token));
    tokens.iter().map(|&token| one_hot(token as usize)).collect()
}

fn dot(a: &Row, b: &Row) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn sum<'a>(rows: impl IntoIterator<Item = (f64, &'a Row)>) -> Row {
    let mut total = [0.0; V];
    for (weight, row) in rows {
        total.iter_mut().zip(row).for_each(|(total, entry)| *total += weight * entry);
    }
    total
}
