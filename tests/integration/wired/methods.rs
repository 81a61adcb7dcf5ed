//! Path patching, weights and attribution patching in closed form.

use super::*;

/// Matches of each position with the last token `a`, from what head 0.0 reads in this prompt.
fn matches(prompt: [u32; 6]) -> [f64; 6] {
    std::array::from_fn(|t| {
        let weight = |s: usize| match t {
            0 => 1.0,
            t if s + 1 == t => a(t),
            t => eps(t),
        };
        (0..=t).filter(|&s| prompt[s] == A).map(weight).sum()
    })
}

/// The only path there is leads from head 0.0 to the keys of head 1.0, and from there to the logits. With `# b a c d a` the keys
/// say that c followed an a: LD becomes g (A_2 − A_3) of those matches, while the tokens there are still b and c.
#[test]
fn the_one_path_is_from_head_0_to_the_keys_of_head_1() {
    let lab = wired();
    for (corrupt, freeze) in
        [(NO_A, "heads"), ([HASH, B, A, C, D_, A], "heads"), ([HASH, B, A, C, D_, A], "all")]
    {
        let parameters = format!(
            "senders = ['input', 'a0.h0', 'm0', 'a1.h0', 'm1']\ndirection = 'both'\nfreeze = '{freeze}'\nreceivers = \
             ['m0', 'a1.h0<q>', 'a1.h0<k>', 'a1.h0<v>', 'm1', 'logits']"
        );
        let path: glassbox::analysis::path::Path = toml::from_str(&parameters).unwrap();
        let findings = path.run(&lab, &task(corrupt)).unwrap();
        let rows = table(&findings, "path");
        // head 1.0 at the end: attention from matches, to the tokens of a prompt
        let says = |n: [f64; 6], prompt: [u32; 6]| -> f64 {
            let weight = |token: u32| {
                if token == B {
                    G
                } else if token == C {
                    -G
                } else {
                    0.0
                }
            };
            attention(n).iter().zip(prompt).map(|(attention, token)| attention * weight(token)).sum()
        };
        for (direction, own, other) in [("noise", CLEAN, corrupt), ("denoise", corrupt, CLEAN)] {
            let rows = rows.only("direction", direction).unwrap();
            let untouched = says(matches(own), own);
            let mut seen = 0;
            for (sender, receivers) in
                rows.texts("sender").unwrap().iter().zip(rows.texts("receivers").unwrap())
            {
                let want = match (sender.as_str(), receivers.as_str()) {
                    ("a0.h0", "a1.h0<k>") => says(matches(other), own),
                    ("input", "a1.h0<v>") => says(matches(own), other),
                    ("a1.h0", "logits") => says(matches(other), other),
                    _ => untouched,
                };
                let keys = [("sender", &sender[..]), ("receivers", &receivers)];
                close(
                    cell(&rows, &keys, "raw"),
                    want,
                    &format!("{direction} {freeze} {sender} to {receivers}"),
                );
                seen += 1;
            }
            // m0; query, key and value of head 1.0; m1; the logits
            assert_eq!(seen, 2 + 3 * 3 + 4 + 5);
        }
    }
}

/// From the weights alone. Head 0.0's W_OV turns a token into its copy and head 1.0's keys read copies: K-composition, of V
/// directions alike, scores 1/√V and everything else 0. Head 1.0 says the token it finds: its eigenvalues are all alike. Head
/// 0.0 says nothing, and what nothing is said of has no sign.
#[test]
fn weights_hold_the_one_edge_and_the_one_copy() {
    let findings = Weights::default().run(&wired(), &Task::default()).unwrap();
    let rows = table(&findings, "weights");
    assert_eq!(
        rows.numbers("copying").unwrap()[0],
        None,
        "head 0.0 writes where the unembedding does not read"
    );
    close(cell(rows, &[("layer", "1")], "copying"), 1.0, "head 1.0 copies");
    assert_eq!(rows.numbers("preserving").unwrap()[0], None);
    close(cell(rows, &[("layer", "1")], "preserving"), 1.0, "and writes where it read");
    let gain = 2f64.powi(50);
    for (layer, directions) in [("0", V), ("1", V)] {
        close(cell(rows, &[("layer", layer)], "ov_norm") / gain, (V as f64).sqrt(), "W_OV");
        close(cell(rows, &[("layer", layer)], "ov_top") / gain, 1.0, "its directions are alike");
        close(cell(rows, &[("layer", layer)], "ov_rank"), directions as f64, "and all take part");
    }
    // P − 1 positions ask, V tokens ask, each times β
    close(
        cell(rows, &[("layer", "0")], "qk_norm") / gain / gain,
        BETA * ((P - 1) as f64).sqrt(),
        "W_QK of 0.0",
    );
    close(cell(rows, &[("layer", "1")], "qk_norm") / gain / gain, BETA * (V as f64).sqrt(), "W_QK of 1.0");
    close(cell(rows, &[("layer", "1")], "qk_rank"), V as f64, "directions of W_QK");
    let composition = table(&findings, "composition");
    for (kind, score) in [("q", 0.0), ("k", 1.0 / (V as f64).sqrt()), ("v", 0.0)] {
        let keys = [("from", "a0.h0"), ("to", "a1.h0"), ("kind", kind)];
        close(cell(composition, &keys, "score"), score, kind);
        let chance = 1.0 / (D as f64).sqrt();
        assert!((cell(composition, &keys, "baseline") / chance - 1.0).abs() < 0.02);
        assert_eq!(cell(composition, &keys, "z") > 10.0, kind == "k");
    }
    // read in tokens, the virtual K-map asks for each token by itself
    let together = table(&findings, "virtual").only("kind", "k").unwrap();
    assert_eq!(together.texts("from").unwrap()[0], "a0.h0");
    close(together.numbers("value").unwrap()[0].unwrap() / gain.powi(3), BETA, "one direction");
    let heads =
        Heads { length: Some(3), sequences: 4, ..Heads::default() }.run(&wired(), &Task::default()).unwrap();
    let heads = table(&heads, "head_scores");
    close(cell(heads, &[("layer", "1")], "copying"), 1.0, "the same score among those of heads");
    assert_eq!(heads.texts("kind").unwrap(), ["previous token", "induction"]);
}

/// Attribution patching in closed form, on the prefix corruption. ∂LD/∂n_s is β times the gradient of the score, so that what
/// moves n_s moves LD by β g A_s (w_s − w̄) Δn_s to first order: almost nothing, since the head that reads the copies attends to
/// one position with .99. With its softmax computed anew, its keys have the effects that patching measures. Without head 1.0
/// nothing of head 0.0 reaches the logits: it has no effect when layer 1 is dropped.
#[test]
fn attribution_patching_is_the_derivative_of_the_formula() {
    let by = vec![Grain::Position, Grain::Head, Grain::HeadPosition];
    let findings = Atp { by, ..Atp::default() }.run(&wired(), &task(NO_A)).unwrap();
    let (heads, stream, both) =
        (table(&findings, "atp_head"), table(&findings, "atp_position"), table(&findings, "atp_head_pos"));
    let whole = ld(clean_n());
    for (direction, at, to, sign) in
        [("noise", clean_n(), no_a_n(), -1.0), ("denoise", no_a_n(), clean_n(), 1.0)]
    {
        let attention = attention(at);
        let worth = |s: usize| f64::from(s == 2) - f64::from(s == 3);
        let mean: f64 = (0..6).map(|s| attention[s] * worth(s)).sum();
        let slope = |s: usize| BETA * G * attention[s] * (worth(s) - mean);
        let linear = |s: usize| sign * slope(s) * (to[s] - at[s]) / whole;
        let exact = |s: usize| {
            let mut n = at;
            n[s] = to[s];
            sign * (ld(n) - ld(at)) / whole
        };
        let all: f64 = (0..6).map(linear).sum();
        for (layer, site, effect, plain, drop) in [
            ("0", "z", all, None, 0.0),
            ("0", "q", 0.0, Some(0.0), 0.0),
            ("0", "k", 0.0, Some(0.0), 0.0),
            ("1", "q", 0.0, Some(0.0), 0.0),
            ("1", "k", 1.0, Some(all), 1.0), // the softmax computed anew, and all else is linear
            ("1", "pattern", 1.0, None, 1.0),
            ("1", "v", 0.0, None, 0.0),
            ("1", "z", 1.0, None, 1.0),
        ] {
            let keys = [("direction", direction), ("layer", layer), ("site", site)];
            close(cell(heads, &keys, "effect"), effect, &format!("{direction} {site} of layer {layer}"));
            close(cell(heads, &keys, "grad_drop"), drop, &format!("{direction} {site} of {layer}, dropped"));
            if let Some(plain) = plain {
                close(cell(heads, &keys, "linear"), plain, &format!("{direction} {site} of {layer}, linear"));
            }
        }
        for s in 0..6 {
            let place = s.to_string();
            let at = |rows: &Rows, layer: &str, site: &str, column: &str| {
                let keys = [("direction", direction), ("layer", layer), ("site", site), ("pos", &place)];
                cell(rows, &keys, column)
            };
            let say = |what: &str| format!("{direction} {what} at {s}");
            close(at(both, "0", "z", "effect"), linear(s), &say("z of 0.0"));
            close(at(stream, "0", "attn_out", "effect"), linear(s), &say("attn_out 0"));
            close(at(stream, "1", "resid_pre", "effect"), linear(s), &say("resid_pre 1"));
            close(at(both, "1", "k", "linear"), linear(s), &say("k of 1.0, linear"));
            close(at(both, "1", "k", "effect"), exact(s), &say("k of 1.0"));
        }
        // the token at 1 is what head 0.0 copies, to 2 above all
        let through: f64 = (1..6).map(|s| slope(s) * if s == 2 { a(2) } else { eps(s) }).sum();
        let keys = [("direction", direction), ("layer", "0"), ("site", "resid_pre"), ("pos", "1")];
        // an a is lost in noise, and an a is gained in denoising
        close(cell(stream, &keys, "effect"), through / whole, &format!("{direction} input"));
    }
    // plain AtP does not see the edge that carries everything; patching does, and the agreement says so
    let noise = [("direction", "noise"), ("site", "z")];
    let row = [&noise[..], &[("component", "z 0.0"), ("method", "atp")]].concat();
    let agreement = table(&findings, "atp_agreement");
    close(cell(&agreement.only("grain", "head").unwrap(), &row, "exact"), 1.0, "z of 0.0, exactly");
    assert!(cell(&agreement.only("grain", "head").unwrap(), &row, "approx") < 0.1);
}
