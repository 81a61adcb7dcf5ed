//! The wired model again, in plain loops over whole streams: nothing of the engine, and nothing of the formulas that are held against
//! its finite differences here.

use std::collections::BTreeMap;

use super::edges::{clean_corrupt, eap, eap_ig, names};
use super::{A, B, BETA, C, CLEAN, D, D_, E, G, HASH, NO_A, P, V, clean_n, close, ld, numbers, wired_at};

type Stream = Vec<[f64; D]>;

/// (from, to, how many, weight).
type Wire = (usize, usize, usize, f64);

/// LD and what each writer wrote, where what one reader reads is moved.
fn run(beta: f64, input: &Stream, moved: (&str, &Stream)) -> (f64, BTreeMap<&'static str, Stream>) {
    let seen = |reader: &str, stream: &Stream| {
        if reader == moved.0 { add(stream, moved.1, 1.0) } else { stream.clone() }
    };
    let head = |name: &str, stream: &Stream, [q, k, v, o]: [Wire; 4]| {
        let read = |letter, wire| apply(wire, &seen(&format!("{name}<{letter}>"), stream));
        attend(&read("q", q), &read("k", k), &read("v", v), o)
    };
    let previous = [(2 * V + 1, 0, P - 1, beta), (2 * V, 0, P, 1.0), (0, 0, V, 1.0), (0, V, V, 1.0)];
    let induction = [(0, 0, V, beta), (V, 0, V, 1.0), (0, 0, V, 1.0), (0, 0, V, 1.0)];
    let first = head("a0.h0", input, previous);
    let mid = add(input, &first, 1.0);
    let second = head("a1.h0", &mid, induction);
    let last = *seen("logits", &add(&mid, &second, 1.0)).last().unwrap();
    let nothing = vec![[0.0; D]; input.len()];
    let written =
        [("input", input), ("a0.h0", &first), ("m0", &nothing), ("a1.h0", &second), ("m1", &nothing)];
    let written = written.map(|(name, stream)| (name, stream.clone()));
    (G * last[B as usize] - G * last[C as usize], BTreeMap::from(written))
}

/// What the embeddings write.
fn embed(tokens: &[u32]) -> Stream {
    let at = |(pos, &token): (usize, &u32)| {
        std::array::from_fn(|i| f64::from(i == token as usize || i == 2 * V + pos))
    };
    tokens.iter().enumerate().map(at).collect()
}

fn add(a: &Stream, b: &Stream, weight: f64) -> Stream {
    a.iter().zip(b).map(|(a, b)| std::array::from_fn(|i| a[i] + weight * b[i])).collect()
}

fn apply((from, to, count, weight): Wire, stream: &Stream) -> Stream {
    let each = stream.iter().map(|row| {
        let mut out = [0.0; D];
        (0..count).for_each(|i| out[to + i] = weight * row[from + i]);
        out
    });
    each.collect()
}

fn attend(q: &Stream, k: &Stream, v: &Stream, o: Wire) -> Stream {
    let z = q.iter().enumerate().map(|(t, q)| {
        let score = |s: usize| q.iter().zip(&k[s]).map(|(q, k)| q * k).sum::<f64>().exp();
        let scores: Vec<f64> = (0..=t).map(score).collect();
        let total: f64 = scores.iter().sum();
        let mut z = [0.0; D];
        for (score, v) in scores.iter().zip(v) {
            (0..V).for_each(|i| z[i] += score / total * v[i]);
        }
        z
    });
    apply(o, &z.collect())
}

/// Prefix, value, query, everything: what each corruption changes.
const CORRUPT: [[u32; 6]; 4] = [NO_A, [HASH, A, E, C, D_, A], [HASH, A, B, C, D_, E], [HASH, D_, C, E, A, B]];

fn ld_of(beta: f64, tokens: &[u32]) -> f64 {
    run(beta, &embed(tokens), ("", &Stream::new())).0
}

#[test]
fn the_simulation_is_the_model() {
    close(ld_of(BETA, &CLEAN), ld(clean_n()), "LD in closed form");
    for beta in [7.0, 8.0, 9.0] {
        let lab = wired_at(beta);
        for tokens in [CLEAN].iter().chain(&CORRUPT) {
            let logits = lab.model.forward(&lab.model.tokens(&[tokens]).unwrap(), &mut ()).unwrap();
            let end = numbers(&logits.narrow(1, 5, 1).unwrap());
            close(end[B as usize] - end[C as usize], ld_of(beta, tokens), &format!("{beta} {tokens:?}"));
        }
    }
}

/// The score of each edge is the slope of LD as its reader alone is moved along what its writer's output changes.
#[test]
fn the_scores_are_finite_differences() {
    let h = 3e-6;
    let slopes = |beta: f64, at: &Stream, changes: &BTreeMap<&str, Stream>| -> BTreeMap<String, f64> {
        let slope = |edge: String| {
            let (writer, reader) = edge.split_once("->").unwrap();
            let moved = |h: f64| {
                let zero = vec![[0.0; D]; at.len()];
                run(beta, at, (reader, &add(&zero, &changes[writer], h))).0
            };
            let slope = (moved(h) - moved(-h)) / (2.0 * h);
            (edge, slope)
        };
        names().into_iter().map(slope).collect()
    };
    let agree = |by_hand: BTreeMap<String, f64>, slopes: BTreeMap<String, f64>, say: &str| {
        assert_eq!(by_hand.len(), 23);
        for (edge, score) in &by_hand {
            let slope = slopes[edge];
            assert!((score - slope).abs() < 1e-6 * score.abs().max(1.0), "{say} {edge}: {score} {slope}");
        }
    };
    for (beta, corrupt) in [7.0, 8.0, 9.0].iter().flat_map(|&beta| CORRUPT.map(|corrupt| (beta, corrupt))) {
        let nothing = Stream::new();
        let (z, other) = (embed(&CLEAN), embed(&corrupt));
        let (written, instead) = (run(beta, &z, ("", &nothing)).1, run(beta, &other, ("", &nothing)).1);
        let change = |(&writer, u): (&&'static str, &Stream)| (writer, add(u, &instead[writer], -1.0));
        let changes: BTreeMap<&str, Stream> = written.iter().map(change).collect();
        let say = format!("{beta} {corrupt:?}");
        agree(eap(beta, &CLEAN, Some(&corrupt)), slopes(beta, &z, &changes), &say);
        agree(eap(beta, &CLEAN, None), slopes(beta, &z, &written), &format!("{beta} zero"));
        let mean = |shares: &[f64]| {
            let mut mean: BTreeMap<String, f64> = BTreeMap::new();
            for &share in shares {
                for (edge, slope) in slopes(beta, &add(&other, &changes["input"], share), &changes) {
                    *mean.entry(edge).or_default() += slope / shares.len() as f64;
                }
            }
            mean
        };
        agree(eap_ig(beta, &CLEAN, &corrupt, 1), mean(&[0.0]), &say);
        agree(eap_ig(beta, &CLEAN, &corrupt, 5), mean(&[0.0, 0.2, 0.4, 0.6, 0.8]), &say);
        agree(clean_corrupt(beta, &CLEAN, &corrupt), mean(&[1.0, 0.0]), &say);
    }
}

/// What moves through linear maps alone arrives whole, whichever edge it is measured at; what the last head writes is the difference
/// itself; and the scores of what leaves the embeddings add up to it, the more steps the closer.
#[test]
fn scores_add_up() {
    for (beta, corrupt) in [7.0, 9.0].iter().flat_map(|&beta| CORRUPT.map(|corrupt| (beta, corrupt))) {
        let whole = ld_of(beta, &CLEAN) - ld_of(beta, &corrupt);
        let scores = eap(beta, &CLEAN, Some(&corrupt));
        close(scores["input->a0.h0<v>"], scores["a0.h0->a1.h0<k>"], "in and out of head 0.0");
        close(scores["a1.h0->logits"] + scores["input->logits"], whole, "into the logits");
        let off = |steps: usize| {
            let scores = eap_ig(beta, &CLEAN, &corrupt, steps);
            let from_input = scores.iter().filter(|(edge, _)| edge.starts_with("input->"));
            from_input.map(|(_, score)| score).sum::<f64>() - whole
        };
        let (few, many) = (off(250), off(500));
        assert!(many.abs() < 0.6 * few.abs() + 1e-9, "{corrupt:?}: {few} {many}");
        // the error is c/m but for terms in 1/m²
        assert!((2.0 * many - few).abs() < 1e-3, "{corrupt:?}: {few} {many}");
    }
}
