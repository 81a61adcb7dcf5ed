//! A model wired by hand, whose every number is known in closed form: the second ground truth.
//!
//! Two layers of one head each, no norm, no MLP, f64. The stream is token one-hot | copy of the token before | position one-hot.
//!
//! * Head 0.0 at position t looks for position t − 1 (score β; every other position 0) and writes the token it finds
//!   into the second part. So it attends to t − 1 with a(t) = e^β / (e^β + t) and to each of the t others with ε(t) =
//!   1 / (e^β + t); at t = 0 there is only itself. With β = 8, a is above .997 at these lengths, so that gradients live.
//! * Head 1.0 at position t compares the token there with the copies (score β · copy_s[token_t]) and writes the tokens it
//!   finds into the first part, which the unembedding reads with weight g.
//!
//! One K-composition edge, from head 0.0 to the keys of head 1.0, and nothing else. A norm whose ε is 2^100 and whose
//! gain is 2^50 is the identity to the last bit (the mean square of such a stream is lost in ε), and an MLP of zeros adds zero,
//! so that the engine computes this model by the same code as any other.
//!
//! What EAP and EAP-IG say of each edge is derived in [`edges`].
//!
//! The prompt is `# a b c d a`, the answer `b`, the wrong answer `c`. In what follows n_s = copy_s[a], the match of key s
//! with the last token; A_s = e^{β n_s} / Z with Z = Σ e^{β n_s}; and LD = g (A_2 − A_3), because b stands at 2 and c at 3.

pub mod edges;
mod methods;
mod simulation;
pub mod truth;

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use glassbox::analysis::atp::{Atp, Grain};
use glassbox::analysis::attribution::Attribution;
use glassbox::analysis::components::Components;
use glassbox::analysis::heads::Heads;
use glassbox::analysis::patch::{By, Patch};
use glassbox::analysis::weights::Weights;
use glassbox::analysis::{Analysis, Findings};
use glassbox::gradient::Gradients;
use glassbox::lab::{About, Lab};
use glassbox::model::{
    Activation, Attention, Block, Config, Dense, Linear, Mlp, Norm, NormKind, Transformer,
};
use glassbox::row::Rows;
use glassbox::site::{At, Site};
use glassbox::task::{Example, Task};
use glassbox::vocabulary::Vocabulary;

/// Scores of a match.
pub const BETA: f64 = 8.0;
/// Weight of the unembedding.
const G: f64 = 10.0;
/// Tokens; positions.
const V: usize = 64;
const P: usize = 8;
const D: usize = 2 * V + P;

/// Attention of head 0.0 to the position before, at t ≥ 1.
fn a(t: usize) -> f64 {
    BETA.exp() / (BETA.exp() + t as f64)
}

/// Its attention to each other position.
fn eps(t: usize) -> f64 {
    1.0 / (BETA.exp() + t as f64)
}

/// A map that sends entry `from + i` to entry `to + i`, times `weight`, for i below `count`.
fn wire(d_in: usize, d_out: usize, from: usize, to: usize, count: usize, weight: f64) -> Linear {
    let mut w = vec![0.0; d_in * d_out];
    (0..count).for_each(|i| w[(from + i) * d_out + to + i] = weight);
    Linear { w: Tensor::from_vec(w, (d_in, d_out), &Device::Cpu).unwrap(), b: None }
}

fn rows(count: usize, first: usize) -> Tensor {
    wire(count, D, 0, first, count, 1.0).w
}

fn identity() -> Norm {
    let gain = Tensor::full(2f64.powi(50), D, &Device::Cpu).unwrap();
    Norm { kind: NormKind::Rms, eps: 2f64.powi(100), gain, bias: None }
}

fn block(q: Linear, k: Linear, o: Linear) -> Block {
    let nothing = |d_in, d_out| wire(d_in, d_out, 0, 0, 0, 0.0);
    let config = Config { d_model: D, n_heads: 1, n_kv_heads: 1, d_head: V, ..Config::default() };
    let token = wire(D, V, 0, 0, V, 1.0);
    let attention = Attention { scale: 1.0, ..Attention::new(&config, 0, [q, k, token, o]) };
    let mlp = Mlp::Dense(Dense::plain(nothing(D, 1), nothing(1, D), Activation::Relu));
    Block::new(config.wiring, identity(), attention, identity(), mlp).unwrap()
}

fn wired() -> Lab {
    wired_at(BETA)
}

/// The model with another sharpness of attention; from β = 7 to 9, a(5) is .995 to .999.
pub fn wired_at(beta: f64) -> Lab {
    let config = Config {
        d_model: D,
        n_layers: 2,
        n_heads: 1,
        n_kv_heads: 1,
        d_head: V,
        d_mlp: 1,
        d_vocab: V,
        d_vocab_out: V,
        n_ctx: P,
        norm: NormKind::Rms,
        norm_eps: 2f64.powi(100),
        norm_bias: false,
        activation: Activation::Relu,
        ..Config::default()
    };
    let first = block(
        wire(D, V, 2 * V + 1, 0, P - 1, beta), // position t asks for entry t − 1
        wire(D, V, 2 * V, 0, P, 1.0),          // which is the key of position t − 1
        wire(V, D, 0, V, V, 1.0),              // into the second part
    );
    let second = block(
        wire(D, V, 0, 0, V, beta), // the token asks
        wire(D, V, V, 0, V, 1.0),  // whom it followed
        wire(V, D, 0, 0, V, 1.0),  // into the first part
    );
    let model = Transformer {
        config,
        embed: rows(V, 0),
        pos_embed: Some(rows(P, 2 * V)),
        blocks: vec![first, second],
        ln_final: identity(),
        unembed: wire(D, V, 0, 0, V, G),
    };
    Lab::new(model, Vocabulary::default(), About::default())
}

/// `#`, `a` to `e` as ids.
const HASH: u32 = 0;
const A: u32 = 1;
const B: u32 = 2;
const C: u32 = 3;
const D_: u32 = 4;
const E: u32 = 5;
pub const CLEAN: [u32; 6] = [HASH, A, B, C, D_, A];

pub fn task(corrupt: [u32; 6]) -> Task {
    let example = Example {
        id: "one".into(),
        clean: CLEAN.to_vec(),
        corrupt: Some(corrupt.to_vec()),
        answers: vec![B],
        wrong: vec![C],
        pos: BTreeMap::new(),
        ..Example::default()
    };
    Task { name: "wired".into(), examples: vec![example], ..Task::default() }
}

/// Matches in the clean run: position 1 holds a itself among its others, 2 follows it, 5 has it twice among its others.
fn clean_n() -> [f64; 6] {
    [0.0, eps(1), a(2), eps(3), eps(4), 2.0 * eps(5)]
}

/// Attention of head 1.0 at the end, from its matches.
fn attention(n: [f64; 6]) -> [f64; 6] {
    let z: f64 = n.iter().map(|n| (BETA * n).exp()).sum();
    n.map(|n| (BETA * n).exp() / z)
}

/// The logit difference, from matches.
fn ld(n: [f64; 6]) -> f64 {
    let attention = attention(n);
    G * (attention[2] - attention[3])
}

/// Prefix corruption: `# e b c d a`. Nothing follows an a, and b and c match alike: LD = 0 exactly.
pub const NO_A: [u32; 6] = [HASH, E, B, C, D_, A];

fn no_a_n() -> [f64; 6] {
    [0.0, 0.0, 0.0, 0.0, 0.0, eps(5)]
}

fn close(got: f64, want: f64, what: &str) {
    assert!((got - want).abs() < 1e-12 * want.abs().max(1.0), "{what}: {got} is not {want}");
}

fn numbers(x: &Tensor) -> Vec<f64> {
    x.flatten_all().unwrap().to_vec1().unwrap()
}

fn table<'a>(findings: &'a Findings, name: &str) -> &'a Rows {
    findings.tables.iter().find(|table| table.name == name).unwrap()
}

/// The one number of a column in the row where these columns have these values.
fn cell(rows: &Rows, keys: &[(&str, &str)], column: &str) -> f64 {
    let mut rows = rows.clone();
    for (key, value) in keys {
        rows = rows.only(key, value).unwrap();
    }
    assert_eq!(rows.len(), 1, "{keys:?}");
    rows.numbers(column).unwrap()[0].unwrap()
}

#[test]
fn it_is_the_model_described() {
    let lab = wired();
    let tokens = lab.model.tokens(&[&CLEAN]).unwrap();
    let (logits, kept) = lab.model.record(&tokens, |_| true).unwrap();
    let previous = numbers(kept.block(0, At::Pattern).unwrap());
    for t in 1..6 {
        for s in 0..=t {
            let want = if s + 1 == t { a(t) } else { eps(t) };
            close(previous[t * 6 + s], want, &format!("head 0.0 at {t}, {s}"));
        }
    }
    assert!((0.99..0.999).contains(&a(5)), "attention is sharp but not saturated: {}", a(5));
    let induction = numbers(&kept.block(1, At::Pattern).unwrap().narrow(2, 5, 1).unwrap());
    let want = attention(clean_n());
    assert!((0.99..0.999).contains(&want[2]), "{}", want[2]);
    induction.iter().zip(want).for_each(|(&got, want)| close(got, want, "head 1.0 at the end"));
    // the logits at the end: g for the token itself, which the stream still holds, and g · A_s for what each position holds
    let logits = numbers(&logits.narrow(1, 5, 1).unwrap());
    let mut known = [0.0; V];
    known[A as usize] = G;
    CLEAN.iter().zip(want).for_each(|(&token, attention)| known[token as usize] += G * attention);
    logits.iter().zip(known).for_each(|(&got, want)| close(got, want, "a logit"));
    assert_eq!(numbers(kept.block(1, At::MlpOut).unwrap()), vec![0.0; 6 * D]);
    for site in [Site::Block(0, At::Ln1Scale), Site::FinalScale] {
        assert_eq!(numbers(kept.get(site).unwrap()), vec![2f64.powi(50); 6], "the norm is the identity");
    }
}

/// b's logit is all head 1.0's, through its attention to position 2; head 0.0 writes where the unembedding does not read.
#[test]
fn attribution_finds_the_head_that_writes() {
    let findings = Attribution::default().run(&wired(), &task(NO_A)).unwrap();
    let (all, sources) = (table(&findings, "attribution"), table(&findings, "attribution_source"));
    for component in all.texts("component").unwrap() {
        let want = if component == "a1.h0" { ld(clean_n()) } else { 0.0 };
        close(cell(all, &[("component", &component)], "direct"), want, &component);
    }
    let attention = attention(clean_n());
    for (layer, pos) in (0..2).flat_map(|layer| (0..6).map(move |pos| (layer, pos))) {
        let want = match (layer, pos) {
            (1, 2) => G * attention[2],
            (1, 3) => -G * attention[3],
            _ => 0.0,
        };
        let keys = [("layer", &layer.to_string()[..]), ("pos", &pos.to_string()[..])];
        close(cell(sources, &keys, "direct"), want, &format!("layer {layer} from {pos}"));
    }
    // the stream before head 1.0 knows nothing; after it, everything
    let accumulated = table(&findings, "accumulated");
    for (label, want) in [("1_pre", 0.0), ("1_mid", ld(clean_n())), ("final_post", ld(clean_n()))] {
        close(cell(accumulated, &[("label", label)], "logit_diff"), want, label);
    }
}

/// Swapped alone for its value on `# e b c d a`: the tokens, head 0.0's output and head 1.0's each take away everything
/// (LD of the corrupt run is 0; with head 0.0's output swapped, n is the corrupt run's). Only head 1.0 does so directly.
#[test]
fn components_tell_direct_from_total() {
    let findings = Components::default().run(&wired(), &task(NO_A)).unwrap();
    let rows = table(&findings, "components");
    let whole = ld(clean_n());
    for (component, direct, total) in [
        ("embed", 0.0, whole),
        ("pos_embed", 0.0, 0.0),
        ("a0.h0", 0.0, whole),
        ("m0", 0.0, 0.0),
        ("a1.h0", whole, whole),
        ("m1", 0.0, 0.0),
    ] {
        let keys = [("component", component)];
        close(cell(rows, &keys, "direct"), direct, &format!("{component} directly"));
        close(cell(rows, &keys, "total"), total, &format!("{component} in total"));
    }
}

/// The prefix corruption moves head 0.0 by its values alone, and head 1.0 by its keys alone: K-composition.
#[test]
fn patching_finds_the_k_composition_edge() {
    let findings = Patch::default().run(&wired(), &task(NO_A)).unwrap();
    let heads = table(&findings, "patch_head");
    for direction in ["denoise", "noise"] {
        for (layer, site, effect) in [
            ("0", "q", 0.0), // positions ask, and they are the same
            ("0", "k", 0.0),
            ("0", "pattern", 0.0),
            ("0", "v", 1.0), // the token at 1
            ("0", "z", 1.0),
            ("1", "q", 0.0), // the last token is an a in both
            ("1", "k", 1.0), // whom the tokens followed
            ("1", "pattern", 1.0),
            ("1", "v", 0.0), // an e in place of an a, and neither is the answer
            ("1", "z", 1.0),
        ] {
            let keys = [("direction", direction), ("layer", layer), ("site", site), ("head", "0")];
            close(cell(heads, &keys, "effect"), effect, &format!("{direction} {site} of layer {layer}"));
        }
    }
}

/// With another answer after the a (`# a e c d a`) the matches of `a` stay what they are: only the value that head 1.0 moves
/// changes. The corrupt run says LD = −g A_3; its A are the clean run's.
#[test]
fn patching_finds_what_a_value_carries() {
    let findings = Patch::default().run(&wired(), &task([HASH, A, E, C, D_, A])).unwrap();
    let heads = table(&findings, "patch_head");
    for (layer, site, effect) in [
        ("0", "v", 0.0),
        ("0", "z", 0.0), // what follows b has no match with a
        ("1", "q", 0.0),
        ("1", "k", 0.0),
        ("1", "pattern", 0.0),
        ("1", "v", 1.0),
        ("1", "z", 1.0),
    ] {
        let keys = [("direction", "denoise"), ("layer", layer), ("site", site)];
        close(cell(heads, &keys, "effect"), effect, &format!("{site} of layer {layer}"));
        let raw = G * if effect == 0.0 { 0.0 } else { attention(clean_n())[2] } - G * attention(clean_n())[3];
        close(cell(heads, &keys, "raw"), raw, &format!("{site} of layer {layer}, raw"));
    }
}

/// Position by position, on the prefix corruption. Into layer 0 only the token at 1 differs. Into layer 1, restoring
/// position s gives it its clean match and leaves the others: at 2 nearly everything, at 3 a little the wrong way, elsewhere b
/// and c stay level. What leaves layer 1 is read at the end alone.
#[test]
fn patching_by_position_is_exact_in_both_directions() {
    let lab = wired();
    let by = vec![By::Position, By::HeadPosition];
    let findings = Patch { by, ..Patch::default() }.run(&lab, &task(NO_A)).unwrap();
    let (stream, heads) = (table(&findings, "resid_by_pos"), table(&findings, "patch_head_pos"));
    let whole = ld(clean_n());
    for pos in 0..6 {
        let with = |mut n: [f64; 6], from: [f64; 6]| {
            n[pos] = from[pos];
            ld(n)
        };
        let place = pos.to_string();
        let at = |rows: &Rows, direction: &str, layer: &str, site: &str| {
            let keys = [("direction", direction), ("layer", layer), ("site", site), ("pos", &place)];
            cell(rows, &keys, "raw")
        };
        let denoised = with(no_a_n(), clean_n());
        let noised = with(clean_n(), no_a_n());
        for (direction, one, untouched, restored) in
            [("denoise", denoised, 0.0, whole), ("noise", noised, whole, 0.0)]
        {
            let say = |what: &str| format!("{direction} {what} at {pos}");
            let or = |it: bool, then: f64| if it { then } else { untouched };
            close(at(stream, direction, "0", "resid_pre"), or(pos == 1, restored), &say("resid_pre 0"));
            for (layer, site) in
                [("0", "attn_out"), ("0", "resid_mid"), ("0", "resid_post"), ("1", "resid_pre")]
            {
                // the token at 1 is swapped with the stream, not with what the head wrote; it is no answer
                close(at(stream, direction, layer, site), one, &say(site));
            }
            for (layer, site) in [("1", "attn_out"), ("1", "resid_mid"), ("1", "resid_post")] {
                close(at(stream, direction, layer, site), or(pos == 5, restored), &say(site));
            }
            close(at(stream, direction, "0", "mlp_out"), untouched, &say("mlp_out"));
            close(at(heads, direction, "0", "z"), one, &say("z of 0.0"));
            close(at(heads, direction, "1", "k"), one, &say("k of 1.0"));
            close(at(heads, direction, "1", "z"), or(pos == 5, restored), &say("z of 1.0"));
            close(at(heads, direction, "1", "v"), untouched, &say("v of 1.0"));
        }
    }
    // in numbers: restoring position 2 alone makes A_2 : A_3 = e^{β a(2)} : 1
    let alone = G * ((BETA * a(2)).exp() - 1.0) / ((BETA * a(2)).exp() + 4.0 + (BETA * eps(5)).exp());
    let keys = [("direction", "denoise"), ("layer", "1"), ("site", "resid_pre"), ("pos", "2")];
    close(cell(stream, &keys, "raw"), alone, "position 2 alone");
}

/// With w_s = [b stands at s] − [c stands at s] and w̄ = Σ A_s w_s: ∂LD/∂score_s = g A_s (w_s − w̄), and a score is β copy_s[a], so
/// that the gradient at z of head 0.0 is that times β, in the entry of a, and 0 in every other.
#[test]
fn gradients_are_the_derivatives_of_the_formula() {
    let lab = wired();
    let model = &lab.model;
    let (z0, z1, scores) = (Site::Block(0, At::Z), Site::Block(1, At::Z), Site::Block(1, At::Scores));
    let mut hook = Gradients::new(|site| [z0, z1, scores, Site::Embed].contains(&site));
    let logits = model.forward(&model.tokens(&[&CLEAN]).unwrap(), &mut hook).unwrap();
    let logit = |id: u32| logits.narrow(1, 5, 1).unwrap().narrow(2, id as usize, 1).unwrap();
    let found = hook.of(&(logit(B) - logit(C)).unwrap()).unwrap();
    let found = |site: Site| numbers(found.get(site).unwrap());

    let attention = attention(clean_n());
    let worth = |s: usize| f64::from(CLEAN[s] == B) - f64::from(CLEAN[s] == C);
    let mean: f64 = (0..6).map(|s| attention[s] * worth(s)).sum();
    let of_score = |s: usize| G * attention[s] * (worth(s) - mean);
    let (z0, z1, scores) = (found(z0), found(z1), found(scores));
    for s in 0..6 {
        close(scores[5 * 6 + s], of_score(s), &format!("score of {s}"));
        for j in 0..V {
            let want = if j == A as usize { BETA * of_score(s) } else { 0.0 };
            close(z0[s * V + j], want, &format!("z of 0.0 at {s}, entry {j}"));
            let read = f64::from(j == B as usize) - f64::from(j == C as usize);
            let want = if s == 5 { G * read } else { 0.0 };
            close(z1[s * V + j], want, &format!("z of 1.0 at {s}, entry {j}"));
        }
    }
    // the token at 1 as an a: head 0.0 copies it to every later position, 2 above all; there is no other way to b
    let through = (1..6).map(|s| of_score(s) * BETA * if s == 2 { a(2) } else { eps(s) }).sum::<f64>();
    close(found(Site::Embed)[D + A as usize], through, "the token at 1");
}

/// On t₁ … t_T t₁ … t_T without BOS, head 0.0's scores are those of its formula whatever the tokens. Head 1.0's are known for
/// T = 3 different tokens: the second x_i, at q = 3 + i, matches the copies at i + 1 (the one after the first x_i) with
/// a(i + 1); at every later s with ε(s), and once more at q itself, which holds x_i twice among its others; at i with ε(i), which holds it
/// once; where i = 0, the copy at 0 is x_0 itself, which had nobody before it.
#[test]
fn head_scores_are_those_of_the_formula() {
    let findings = Heads::default().run(&wired(), &Task::default()).unwrap();
    let rows = table(&findings, "head_scores");
    let score = |layer: &str, column: &str| cell(rows, &[("layer", layer)], column);
    let mean = |from: usize, of: &dyn Fn(usize) -> f64| (from..6).map(of).sum::<f64>() / (6 - from) as f64;
    close(score("0", "previous"), mean(1, &a), "previous");
    close(score("0", "duplicate"), mean(3, &eps), "duplicate");
    close(score("0", "induction"), mean(3, &eps), "induction");
    close(score("0", "bos"), (a(1) + (2..6).map(eps).sum::<f64>()) / 5.0, "bos");
    let entropy = |t: usize| -(a(t) * a(t).ln() + t as f64 * eps(t) * eps(t).ln()) / ((t + 1) as f64).ln();
    close(score("0", "entropy"), mean(1, &entropy), "entropy");

    let matched = |i: usize, s: usize| match s {
        0 => f64::from(i == 0),
        s if s == i + 1 => a(s),
        s if s == i + 3 => 2.0 * eps(s),
        s if s >= i => eps(s),
        _ => 0.0,
    };
    let of_key = |i: usize, key: usize| {
        let z: f64 = (0..=i + 3).map(|s| (BETA * matched(i, s)).exp()).sum();
        (BETA * matched(i, key)).exp() / z
    };
    let third = |key: &dyn Fn(usize) -> usize| (0..3).map(|i| of_key(i, key(i))).sum::<f64>() / 3.0;
    let (induction, duplicate) = (third(&|i| i + 1), third(&|i| i));
    let each = table(&findings, "examples_head_scores").only("layer", "1").unwrap();
    let (ours, theirs) = (each.numbers("induction").unwrap(), each.numbers("duplicate").unwrap());
    let exact = ours.iter().zip(theirs).filter(|(ours, theirs)| {
        let off = |got: Option<f64>, want: f64| (got.unwrap() - want).abs();
        off(**ours, induction) < 1e-12 && off(*theirs, duplicate) < 1e-12
    });
    // 64 · 63 · 62 of 64³ sequences have three different tokens: 95 %
    let exact = exact.count();
    assert!(exact >= 12, "{exact} of 16 sequences score {induction}");
}
