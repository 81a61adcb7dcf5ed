//! Samples of the pictures of sums, tracing, probes, doses and head scores.

use glassbox::row::{Column, Rows};

use super::{HOSTILE, IOI, int, noise, num, table, text};

type Sample = (&'static str, Rows, String);

/// What parts add to a logit difference; with a start and a stated total where `levels` says.
fn parts(names: &[String], value: impl Fn(usize) -> f64, levels: bool) -> Rows {
    let n = names.len();
    let values: Vec<f64> = (0..n).map(value).collect();
    let sum: f64 = values.iter().sum();
    let full = |more: [f64; 2]| {
        let [first, last] = more;
        let inner = values.iter().copied();
        if levels {
            std::iter::once(first).chain(inner).chain([last]).collect()
        } else {
            inner.collect::<Vec<f64>>()
        }
    };
    let all = full([1.4, 1.4 + sum]);
    let near = |v: f64| 0.05 + v.abs() * 0.12;
    let mut labels = names.to_vec();
    if levels {
        labels.insert(0, "corrupt prompt".into());
        labels.push("logit difference".into());
    }
    let last = labels.len() - 1;
    table(vec![
        ("label", text(labels.iter())),
        ("role", text((0..=last).map(|i| if i == 5 { "name mover" } else { "" }))),
        ("level", Column::Bool((0..=last).map(|i| Some(levels && (i == 0 || i == last))).collect())),
        ("lo", num(all.iter().map(|v| v - near(*v)))),
        ("hi", num(all.iter().map(|v| v + near(*v)))),
        ("direct", num(all)),
    ])
}

fn components(layers: usize, heads: usize) -> Vec<String> {
    let mut names = vec!["embed".to_owned(), "pos_embed".to_owned()];
    for layer in 0..layers {
        names.extend((0..heads).map(|h| format!("a{layer}.h{h}")));
        names.push(format!("m{layer}"));
    }
    names.push("unembed.b".to_owned());
    names
}

/// Effects of restoring three kinds of state at every token and layer.
fn traced(tokens: &[&str], layers: usize, negative: f64) -> Rows {
    let states = ["single state", "MLP window of 10", "attention window of 10"];
    let n = tokens.len();
    let all: Vec<(usize, usize, usize)> =
        (0..3).flat_map(|s| (0..n).flat_map(move |p| (0..layers).map(move |l| (s, p, l)))).collect();
    let bump = |d: f64, width: f64| (-(d / width).powi(2)).exp();
    let effect = |(i, (s, p, l)): (usize, &(usize, usize, usize))| {
        let depth = *l as f64 / layers as f64;
        let subject = (*p == 2 % n) as usize as f64;
        let end = (*p == n - 1) as usize as f64;
        let shape = match s {
            0 => subject * bump(depth - 0.2, 0.35) + end * bump(depth - 1.0, 0.3),
            1 => subject * 0.8 * bump(depth - 0.35, 0.2),
            _ => end * 0.7 * bump(depth - 0.7, 0.2),
        };
        0.6 * shape + negative * noise(i).powi(5)
    };
    table(vec![
        ("state", text(all.iter().map(|a| states[a.0]))),
        ("pos", int(all.iter().map(|a| a.1))),
        ("token", text(all.iter().map(|a| tokens[a.1]))),
        ("layer", int(all.iter().map(|a| a.2))),
        ("subject", Column::Bool(all.iter().map(|a| Some(a.1 > 0 && a.1 < 3)).collect())),
        ("effect", num(all.iter().enumerate().map(effect))),
    ])
}

/// Accuracies along depth.
fn probed(layers: usize, spoil: impl Fn(usize) -> Option<f64>) -> Rows {
    let depth: Vec<f64> = (0..=2 * layers).map(|i| i as f64 / 2.0).collect();
    let curve = |i: usize, top: f64| {
        0.5 + (top - 0.5) * (1.0 - (-(depth[i] / layers as f64) * 4.0).exp()) + 0.01 * noise(i)
    };
    let n = depth.len();
    let line = |top: f64, by: f64| num((0..n).map(move |i| curve(i, top) + by));
    let main = |by: f64| Column::Num((0..n).map(|i| spoil(i).map(|s| s + curve(i, 0.97) + by)).collect());
    table(vec![
        ("accuracy", main(0.0)),
        ("lo", main(-0.04)),
        ("hi", main(0.025)),
        ("control", line(0.62, 0.0)),
        ("control_lo", line(0.62, -0.03)),
        ("control_hi", line(0.62, 0.03)),
        ("shuffled", num((0..n).map(|i| 0.5 + 0.02 * noise(i + 70)))),
        ("random_weights", line(0.7, 0.0)),
        ("majority", num((0..n).map(|_| 0.5))),
        ("embedding", num((0..n).map(|_| 0.53))),
        ("selectivity", line(0.85, -0.5)),
        ("s_lo", line(0.85, -0.56)),
        ("s_hi", line(0.85, -0.44)),
        ("n", int((0..n).map(|_| 288))),
        ("depth", num(depth)),
    ])
}

/// Probability and cost by strength, for a direction, a random one and, with many groups, for places.
fn dosed(groups: &[&str]) -> Rows {
    let strengths: Vec<f64> = (-8..=8).map(|i| f64::from(i) / 4.0).collect();
    let all: Vec<(usize, f64)> =
        (0..groups.len()).flat_map(|g| strengths.iter().map(move |s| (g, *s))).collect();
    let random = |g: usize| groups[g].contains("random");
    let steep = |g: usize| if random(g) { 0.05 } else { 3.0 / (1.0 + g as f64 * 0.4) };
    let prob = |(g, s): &(usize, f64)| 1.0 / (1.0 + (-steep(*g) * s).exp());
    let wide = |(g, s): &(usize, f64)| if random(*g) { 0.15 * s.abs() } else { 0.04 };
    let loss = |(g, s): &(usize, f64)| s * s * if random(*g) { 0.05 } else { 0.4 };
    table(vec![
        ("direction", text(all.iter().map(|a| groups[a.0]))),
        ("strength", num(all.iter().map(|a| a.1))),
        ("random", Column::Bool(all.iter().map(|a| Some(random(a.0))).collect())),
        ("prob", num(all.iter().map(prob))),
        ("lo", num(all.iter().map(|a| (prob(a) - wide(a)).max(0.0)))),
        ("hi", num(all.iter().map(|a| (prob(a) + wide(a)).min(1.0)))),
        ("loss", num(all.iter().map(loss))),
        ("loss_lo", num(all.iter().map(|a| loss(a) * 0.7))),
        ("loss_hi", num(all.iter().map(|a| loss(a) * 1.4))),
    ])
}

/// Five scores of every head.
fn scored(layers: usize, heads: usize, value: impl Fn(usize) -> Option<f64>) -> Rows {
    let kinds = ["previous token", "duplicate token", "induction", "first token", "copying"];
    let n = layers * heads;
    let all: Vec<(usize, usize)> = (0..5).flat_map(|k| (0..n).map(move |i| (k, i))).collect();
    let score = |(k, i): &(usize, usize)| {
        let x = noise(k * 5000 + i);
        let own = value(*i)?;
        Some(
            own + match k {
                3 => 0.5 + 0.45 * x,
                4 => x.powi(3),
                _ => (x.abs().powi(12) * 1.1).min(1.0),
            },
        )
    };
    let near = |by: f64| Column::Num(all.iter().map(|a| score(a).map(|v| v + by)).collect());
    table(vec![
        ("kind", text(all.iter().map(|a| kinds[a.0]))),
        ("layer", int(all.iter().map(|a| a.1 / heads))),
        ("head", int(all.iter().map(|a| a.1 % heads))),
        ("score", near(0.0)),
        ("lo", near(-0.03)),
        ("hi", near(0.03)),
    ])
}

/// As `samples`, the views as text.
pub fn samples() -> Vec<Sample> {
    let fall = "kind='waterfall'\nlabel='label'\nrole='role'\nvalue='direct'\nlo='lo'\nhi='hi'\nsort='table'\nvalue_label='direct effect on the logit difference (logits)'\n";
    let trace = "kind='trace'\nx='layer'\ny='pos'\ny_text='token'\nmark='subject'\nvalue='effect'\nfacet='state'\nx_label='restored layer, or middle of the window'\nvalue_label='indirect effect on p(answer)'\n";
    let probe = "kind='probe'\nx='depth'\ntext='n'\nx_label='depth (blocks; 0 = embeddings)'\nvalue_label='accuracy'\n";
    let lines = "[[series]]\nvalue='accuracy'\nlo='lo'\nhi='hi'\nname='task'\n[[series]]\nvalue='control'\nlo='control_lo'\nhi='control_hi'\nname='control task'\n[[series]]\nvalue='random_weights'\nname='random weights'\n[[series]]\nvalue='shuffled'\nname='shuffled labels'\n[[series]]\nvalue='majority'\nname='most frequent class'\n";
    let strip = "strip={value='selectivity', lo='s_lo', hi='s_hi', name='selectivity'}\n";
    let dose = "kind='dose'\nx='strength'\nvalue='prob'\nlo='lo'\nhi='hi'\ngroup='direction'\nmark='random'\nlimits=[0.0, 1.0]\nx_label='strength (times the direction)'\nvalue_label='P(answer)'\n";
    let cost = "strip={value='loss', lo='loss_lo', hi='loss_hi', name='loss growth'}\n";
    let scores = "kind='scores'\nx='head'\ny='layer'\nvalue='score'\nlo='lo'\nhi='hi'\nfacet='kind'\nvalue_label='score'\n";
    let big = |i: usize| noise(i).powi(9) * 3.0;
    let hostile: Vec<String> = HOSTILE.iter().map(|t| (*t).to_owned()).collect();
    let long: Vec<String> = (0..60).map(|i| format!(" word{i}")).collect();
    let long: Vec<&str> = long.iter().map(String::as_str).collect();
    let places: Vec<String> = (0..12).map(|i| format!("layer {i}, resid_pre")).collect();
    let places: Vec<&str> = places.iter().map(String::as_str).collect();
    let none = || parts(&components(1, 1), |_| f64::NAN, false);
    let slide = "venue='slide'\n";
    vec![
        ("waterfall", parts(&components(3, 4), big, true), format!("{fall}mark='level'\ntop=10")),
        (
            "waterfall-half",
            parts(&components(3, 4), big, true),
            format!("{fall}mark='level'\ntop=10\nspan='half'"),
        ),
        ("waterfall-slide", parts(&components(3, 4), big, true), format!("{fall}{slide}mark='level'\ntop=8")),
        (
            "waterfall-1000",
            parts(&components(32, 32), big, false),
            format!("{fall}venue='icml'\nspan='full'"),
        ),
        ("waterfall-1", parts(&["embed".to_owned()], |_| -0.3, false), fall.to_owned()),
        ("waterfall-hostile", parts(&hostile, big, false), format!("{fall}span='half'")),
        ("waterfall-none", none(), fall.to_owned()),
        ("waterfall-zero", parts(&components(1, 1), |_| 0.0, false), fall.to_owned()),
        (
            "waterfall-mixed",
            parts(&components(2, 2), |i| [f64::NAN, f64::INFINITY, 0.3, -0.2][i % 4], false),
            format!("{fall}top=6"),
        ),
        ("trace", traced(&IOI, 12, 0.02), trace.to_owned()),
        ("trace-48", traced(&IOI[..9], 48, 0.03), format!("{trace}venue='icml'\nspan='full'")),
        ("trace-half", traced(&IOI[..9], 12, 0.0), format!("{trace}span='half'")),
        ("trace-slide", traced(&IOI[..9], 12, 0.0), format!("{trace}{slide}shared=false")),
        (
            "trace-rows",
            traced(&IOI[..6], 12, 0.02),
            trace
                .replace("y='pos'\ny_text='token'\nmark='subject'\n", "y='state'\n")
                .replace("facet='state'", "facet='token'"),
        ),
        ("trace-negative", traced(&IOI[..9], 12, 0.6), trace.to_owned()),
        ("trace-named", traced(&["first", "subject", "end"], 3, 0.02), trace.to_owned()),
        ("trace-60", traced(&long, 48, 0.02), trace.to_owned()),
        ("trace-hostile", traced(&HOSTILE, 6, 0.02), trace.to_owned()),
        ("trace-none", traced(&IOI[..3], 4, f64::NAN), trace.to_owned()),
        ("trace-1", traced(&IOI[..1], 1, 0.0), format!("{trace}span='half'\nonly={{state='single state'}}")),
        ("probe", probed(12, |_| Some(0.0)), format!("{probe}{lines}")),
        ("probe-strip", probed(12, |_| Some(0.0)), format!("{probe}span='full'\n{strip}{lines}")),
        ("probe-slide", probed(3, |_| Some(0.0)), format!("{probe}{slide}{strip}{lines}")),
        ("probe-1", probed(0, |_| Some(0.2)), format!("{probe}{strip}{lines}")),
        (
            "probe-levels",
            probed(12, |_| Some(0.0)),
            format!("{probe}{lines}[[series]]\nvalue='embedding'\nname='embeddings'\n"),
        ),
        ("probe-none", probed(4, |_| None), format!("{probe}{strip}[[series]]\nvalue='accuracy'")),
        (
            "probe-gaps",
            probed(4, |i| [Some(0.0), None, Some(f64::NAN), Some(f64::INFINITY), Some(-0.3)][i % 5]),
            format!("{probe}{lines}"),
        ),
        ("dose", dosed(&["steering vector", "random directions"]), format!("{dose}{cost}")),
        ("dose-plain", dosed(&["steering vector", "random directions"]), dose.to_owned()),
        ("dose-slide", dosed(&["steering vector", "random directions"]), format!("{dose}{slide}{cost}")),
        ("dose-places", dosed(&places), format!("{dose}span='full'")),
        ("dose-hostile", dosed(&HOSTILE[3..6]), format!("{dose}{cost}")),
        ("scores-12", scored(3, 4, |_| Some(0.0)), scores.to_owned()),
        ("scores-144", scored(12, 12, |_| Some(0.0)), format!("{scores}venue='icml'\nspan='full'")),
        ("scores-1024", scored(32, 32, |_| Some(0.0)), scores.to_owned()),
        ("scores-half", scored(12, 12, |_| Some(0.0)), format!("{scores}span='half'")),
        ("scores-slide", scored(3, 4, |_| Some(0.0)), format!("{scores}{slide}")),
        ("scores-1", scored(1, 1, |_| Some(0.0)), scores.to_owned()),
        ("scores-none", scored(2, 4, |_| None), scores.to_owned()),
        (
            "scores-mixed",
            scored(2, 4, |i| [None, Some(0.0), Some(f64::INFINITY), Some(7.0)][i % 4]),
            scores.to_owned(),
        ),
    ]
}
