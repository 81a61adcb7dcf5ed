//! Circuits, faithfulness, ROC and training: the tables they are drawn from, ordinary, large and hostile.

use glassbox::row::{Column, Rows};

use super::{HOSTILE, int, noise, num, table, text};

/// From, to, channel, score, roles.
type Edge<'a> = (&'a str, &'a str, &'a str, f64, [&'a str; 2]);

/// A table of edges.
pub fn edges(all: &[Edge]) -> Rows {
    table(vec![
        ("from", text(all.iter().map(|e| e.0))),
        ("to", text(all.iter().map(|e| e.1))),
        ("channel", text(all.iter().map(|e| e.2))),
        ("effect", num(all.iter().map(|e| e.3))),
        ("ci_lo", num(all.iter().map(|e| e.3 - 0.1))),
        ("ci_hi", num(all.iter().map(|e| e.3 + 0.1))),
        ("from_role", text(all.iter().map(|e| e.4[0]))),
        ("to_role", text(all.iter().map(|e| e.4[1]))),
    ])
}

/// The bundled model's own circuit.
const OWN: [Edge; 8] = [
    ("input", "a0.h1<q>", "q", 1.101, ["", "duplicate token"]),
    ("a0.h1", "m0", "", 0.859, ["duplicate token", ""]),
    ("m0", "a1.h1<v>", "v", 0.490, ["", "S-inhibition"]),
    ("a2.h0", "logits", "", 0.423, ["name mover", ""]),
    ("a2.h1", "logits", "", 0.387, ["name mover", ""]),
    ("a1.h1", "a2.h0<q>", "q", 0.324, ["S-inhibition", "name mover"]),
    ("a1.h1", "a2.h1<q>", "q", 0.274, ["S-inhibition", "name mover"]),
    ("a0.h1", "a1.h1<v>", "v", 0.086, ["duplicate token", "S-inhibition"]),
];

/// A circuit of the size and shape of that of Wang et al. (2023) in GPT-2 small, with invented scores.
fn gpt2() -> Rows {
    let groups: [(&str, &[&str]); 7] = [
        ("previous token", &["a2.h2", "a4.h11"]),
        ("duplicate token", &["a0.h1", "a3.h0", "a0.h10"]),
        ("induction", &["a5.h5", "a6.h9", "a5.h8", "a5.h9"]),
        ("S-inhibition", &["a7.h3", "a7.h9", "a8.h6", "a8.h10"]),
        ("name mover", &["a9.h9", "a9.h6", "a10.h0"]),
        ("negative name mover", &["a10.h7", "a11.h10"]),
        (
            "backup name mover",
            &["a9.h0", "a9.h7", "a10.h1", "a10.h2", "a10.h6", "a10.h10", "a11.h2", "a11.h9"],
        ),
    ];
    let layer = |name: &str| name[1..].split('.').next().unwrap_or_default().parse::<usize>().unwrap_or(99);
    let joins = [(0, 2, "k"), (1, 3, "v"), (2, 3, "v"), (3, 4, "q"), (3, 5, "q"), (3, 6, "q")];
    let mut all: Vec<(String, String, String, f64, [&str; 2])> = Vec::new();
    let mut put = |from: &str, to: &str, channel: &str, scale: f64, roles: [&'static str; 2]| {
        let score = scale * noise(all.len() + 7).abs().powi(2);
        all.push((from.into(), to.into(), channel.into(), score, roles));
    };
    for (a, b, channel) in joins {
        for from in groups[a].1 {
            for to in groups[b].1 {
                if layer(from) < layer(to) {
                    put(from, to, channel, 0.6, [groups[a].0, groups[b].0]);
                }
            }
        }
    }
    for (role, heads) in groups {
        for head in heads {
            match role {
                "name mover" | "backup name mover" => put(head, "logits", "", 1.0, [role, ""]),
                "negative name mover" => put(head, "logits", "", -0.8, [role, ""]),
                "previous token" | "duplicate token" => put("input", head, "v", 0.5, ["", role]),
                _ => {}
            }
        }
    }
    for mlp in ["m0", "m5", "m7", "m9", "m10", "m11"] {
        put("input", mlp, "", 0.3, ["", ""]);
        put(mlp, "logits", "", 0.3, ["", ""]);
    }
    for head in ["a5.h5", "a7.h3", "a9.h9", "a9.h6", "a3.h0"] {
        put("m0", head, "v", -0.3, ["", ""]);
    }
    let rows: Vec<Edge> = all.iter().map(|e| (e.0.as_str(), e.1.as_str(), e.2.as_str(), e.3, e.4)).collect();
    edges(&rows)
}

/// Every head of every layer: more than any page can show.
fn crowd(layers: usize, heads: usize) -> Rows {
    let name = |i: usize| format!("a{}.h{}", i / heads, i % heads);
    let pairs: Vec<(String, String, f64)> = (0..layers * heads)
        .flat_map(|i| (1..4).map(move |k| (i, i + heads * k + k)))
        .filter(|(_, to)| *to < layers * heads)
        .map(|(from, to)| (name(from), name(to), noise(from * 31 + to)))
        .collect();
    let rows: Vec<Edge> = pairs.iter().map(|p| (p.0.as_str(), p.1.as_str(), "k", p.2, ["", ""])).collect();
    edges(&rows)
}

/// The scores of a table replaced.
fn scored(mut rows: Rows, score: impl Fn(usize) -> Option<f64>) -> Rows {
    let n = rows.len();
    for (name, _, column) in &mut rows.columns {
        if name == "effect" {
            *column = Column::Num((0..n).map(&score).collect());
        }
    }
    rows
}

/// Circuits by size for several methods, counts of edges with MIB's fractions.
pub fn sizes(methods: &[&str], edges: usize) -> Rows {
    let fractions = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0];
    let all: Vec<(usize, usize)> = (0..methods.len()).flat_map(|m| (0..10).map(move |k| (m, k))).collect();
    let kept = |a: &(usize, usize)| (fractions[a.1] * edges as f64).floor();
    let faith = |a: &(usize, usize)| {
        let place = kept(a).max(0.3).log10() / (edges as f64).log10();
        let rise = 1.0 / (1.0 + (-(place - 0.45 - 0.1 * a.0 as f64) * 14.0).exp());
        if a.1 == 9 { 1.0 } else { rise * (1.0 + 0.06 * noise(a.0 * 10 + a.1)) }
    };
    table(vec![
        ("order", text(all.iter().map(|a| methods[a.0]))),
        ("fraction", num(all.iter().map(|a| fractions[a.1]))),
        ("edges", num(all.iter().map(kept))),
        ("share", num(all.iter().map(|a| kept(a) / edges as f64))),
        ("faithfulness", num(all.iter().map(faith))),
        ("ci_lo", num(all.iter().map(|a| faith(a) - 0.05))),
        ("ci_hi", num(all.iter().map(|a| faith(a) + 0.05))),
    ])
}

/// Curves of methods that are better and better; scores in tenths, so that many are tied.
fn rates(methods: &[&str]) -> Rows {
    let mut rows: Vec<(String, f64, f64)> = Vec::new();
    for (m, name) in methods.iter().enumerate() {
        let score =
            |i: usize| ((noise(i + 100 * m) + if i < 20 { 0.4 * m as f64 } else { 0.0 }) * 10.0).round();
        let mut order: Vec<usize> = (0..120).collect();
        order.sort_by(|a, b| score(*b).total_cmp(&score(*a)));
        let (mut hits, mut alarms) = (0.0, 0.0);
        rows.push(((*name).to_owned(), 0.0, 0.0));
        for tied in order.chunk_by(|a, b| score(*a) == score(*b)) {
            hits += tied.iter().filter(|i| **i < 20).count() as f64;
            alarms += tied.iter().filter(|i| **i >= 20).count() as f64;
            rows.push(((*name).to_owned(), alarms / 100.0, hits / 20.0));
        }
    }
    table(vec![
        ("method", text(rows.iter().map(|r| &r.0))),
        ("false_positives", num(rows.iter().map(|r| r.1))),
        ("true_positives", num(rows.iter().map(|r| r.2))),
        ("auc_lo", num(rows.iter().map(|_| 0.71))),
        ("auc_hi", num(rows.iter().map(|_| 0.93))),
    ])
}

/// Quantities along training, of several models and heads; an onset for each line.
fn quantities(models: &[&str], panels: &[&str], parts: &[&str], steps: &[usize]) -> Rows {
    let mut all: Vec<(usize, usize, usize, usize)> = Vec::new();
    for panel in 0..panels.len() {
        for model in 0..models.len() {
            for part in 0..parts.len().clamp(1, 1 + panel) {
                all.extend(steps.iter().map(|step| (panel, model, part, *step)));
            }
        }
    }
    let value = |a: &(usize, usize, usize, usize)| {
        let late = 300.0 * (1 + a.1) as f64 * (1 + a.2) as f64;
        let size = if a.0.is_multiple_of(3) { 18.0 } else { 0.95 };
        size / (1.0 + (late / (a.3 as f64 + 1.0)).powi(3)) * (1.0 - 0.1 * a.2 as f64)
    };
    table(vec![
        ("step", int(all.iter().map(|a| a.3))),
        ("model", text(all.iter().map(|a| models[a.1]))),
        ("panel", text(all.iter().map(|a| panels[a.0]))),
        ("part", text(all.iter().map(|a| if a.0 == 0 { "" } else { parts[a.2] }))),
        ("ci_lo", num(all.iter().map(|a| (value(a) * 0.9 - 0.02).max(0.0)))),
        (
            "ci_hi",
            num(all
                .iter()
                .map(|a| if a.0.is_multiple_of(3) { value(a) * 1.1 } else { (value(a) * 1.1).min(1.0) })),
        ),
        ("after", num(all.iter().map(|a| 200.0 * (1 + a.1) as f64))),
        ("by", num(all.iter().map(|a| 500.0 * (1 + a.1) as f64))),
        ("value", num(all.iter().map(value))),
    ])
}

/// Each sample: file name, rows, view as text.
pub fn samples() -> Vec<(&'static str, Rows, String)> {
    let view = "kind='circuit'\nx='from'\ny='to'\nvalue='effect'\nlo='ci_lo'\nhi='ci_hi'\ngroup='channel'\nx_text='from_role'\ny_text='to_role'\n";
    let faith = "kind='faithfulness'\nx='edges'\nvalue='faithfulness'\nlo='ci_lo'\nhi='ci_hi'\ngroup='order'\nfraction='fraction'\ny_label='faithfulness'\n";
    let roc = "kind='roc'\nx='false_positives'\ny='true_positives'\ngroup='method'\n";
    let training = "kind='training'\nx='step'\nvalue='value'\nlo='ci_lo'\nhi='ci_hi'\ngroup='model'\nfacet='panel'\nlabel='part'\nonset=['after','by']\n";
    let stages = [100, 300, 500, 700, 1000, 2000, 3600];
    let pythia = [
        0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000, 2000, 4000, 8000, 16000, 33000, 66000, 99000, 143_000,
    ];
    let eight = [
        "logit difference (logits)",
        "accuracy",
        "probability of the answer",
        "previous token",
        "duplicate token",
        "induction",
        "total effect (logits)",
        "direct effect (logits)",
    ];
    let chance = "references=[{at=0.5, name='chance', facet='accuracy'}]";
    let methods =
        ["exact", "eap-ig-inputs", "eap-ig-activations", "random", "acdc", "eap", "clean-corrupt", "eighth"];
    let own = edges(&OWN);
    let shouting: Vec<Edge> = OWN.iter().map(|e| (e.0, e.1, e.2, e.3, [HOSTILE[3], HOSTILE[6]])).collect();
    let hostile: Vec<Edge> =
        OWN.iter().enumerate().map(|(i, e)| (e.0, e.1, e.2, e.3, [HOSTILE[i % 8], HOSTILE[7]])).collect();
    vec![
        ("circuit", own.clone(), format!("{view}value_label='share of the gap lost'")),
        ("circuit-full", own.clone(), format!("{view}span='full'\nvalue_label='share of the gap lost'")),
        ("circuit-1", own.take(&[3]), view.to_owned()),
        ("circuit-top", own.clone(), format!("{view}top=3")),
        ("circuit-none", own.clone(), format!("{view}top=0")),
        ("circuit-unscored", own.clone(), view.replace("value='effect'\nlo='ci_lo'\nhi='ci_hi'\n", "")),
        (
            "circuit-missing",
            scored(own.clone(), |i| {
                [Some(f64::NAN), None, Some(0.4), Some(f64::INFINITY), Some(-0.2)][i % 5]
            }),
            view.to_owned(),
        ),
        ("circuit-zero", scored(own, |_| Some(0.0)), view.to_owned()),
        ("circuit-hostile", edges(&hostile), view.to_owned()),
        ("circuit-hostile-one", edges(&shouting), view.to_owned()),
        ("circuit-gpt2", gpt2(), format!("{view}value_label='share of the gap lost'")),
        ("circuit-gpt2-40", gpt2(), format!("{view}top=40\nvalue_label='share of the gap lost'")),
        ("circuit-crowd", crowd(6, 32), view.to_owned()),
        ("circuit-deep", crowd(32, 4), view.to_owned()),
        ("circuit-everything", crowd(12, 24), format!("{view}top=100000")),
        ("faithfulness", sizes(&methods[..3], 262), faith.to_owned()),
        ("faithfulness-full", sizes(&methods[..4], 32_491), format!("{faith}span='full'")),
        ("faithfulness-share", sizes(&methods, 32_491), faith.replace("x='edges'", "x='share'")),
        ("faithfulness-1", sizes(&methods[..1], 262).take(&[5]), faith.to_owned()),
        (
            "faithfulness-none",
            sizes(&methods[..2], 3),
            faith.replace("value='faithfulness'", "value='edges'").replace("x='edges'", "x='faithfulness'"),
        ),
        ("faithfulness-hostile", sizes(&HOSTILE, 262), faith.to_owned()),
        ("roc", rates(&methods[..4]), roc.to_owned()),
        ("roc-full", rates(&methods), format!("{roc}span='full'\nlo='auc_lo'\nhi='auc_hi'")),
        ("roc-one", rates(&methods[..1]), roc.replace("group='method'\n", "")),
        (
            "roc-same",
            table(vec![
                ("method", text(methods)),
                ("false_positives", num([0.0; 8])),
                ("true_positives", num([1.0; 8])),
            ]),
            roc.to_owned(),
        ),
        (
            "roc-none",
            table(vec![("false_positives", num([f64::NAN])), ("true_positives", num([1.0]))]),
            roc.replace("group='method'\n", ""),
        ),
        ("roc-hostile", rates(&HOSTILE), roc.to_owned()),
        (
            "training",
            quantities(&["textbook", "textbook-wild"], &eight, &["a1.h0", "a1.h2", "a0.h3"], &stages),
            format!("{training}{chance}"),
        ),
        (
            "training-zero",
            quantities(&["pythia-160m"], &eight[..3], &["a5.h0", "a8.h11"], &pythia),
            training.to_owned(),
        ),
        (
            "training-half",
            quantities(&["textbook", "textbook-wild"], &eight, &["a1.h0", "a1.h2", "a0.h3"], &pythia),
            format!("{training}span='half'"),
        ),
        ("training-one", quantities(&["m"], &eight[..1], &[""], &[1, 2, 3]), training.to_owned()),
        (
            "training-words",
            quantities(&["m", "n"], &eight[..1], &[""], &stages),
            training.replace("facet='panel'\n", "span='half'\n"),
        ),
        ("training-point", quantities(&["m"], &eight[..1], &[""], &[0]), training.to_owned()),
        ("training-hostile", quantities(&HOSTILE, &HOSTILE, &HOSTILE, &stages), training.to_owned()),
    ]
}
