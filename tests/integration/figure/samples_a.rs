//! Circuits, faithfulness, ROC and training: the tables they are drawn from, ordinary, large and hostile.

use glassbox::row::{Column, Rows};

use super::{HOSTILE, noise, num, table, text};

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
        ("backup name mover", &["a9.h0", "a9.h7", "a10.h1", "a10.h2", "a10.h6", "a10.h10", "a11.h2", "a11.h9"]),
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

/// Each sample: file name, rows, view as text.
pub fn samples() -> Vec<(&'static str, Rows, String)> {
    let view = "kind='circuit'\nx='from'\ny='to'\nvalue='effect'\nlo='ci_lo'\nhi='ci_hi'\ngroup='channel'\nx_text='from_role'\ny_text='to_role'\n";
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
        ("circuit-missing", scored(own.clone(), |i| [Some(f64::NAN), None, Some(0.4), Some(f64::INFINITY), Some(-0.2)][i % 5]), view.to_owned()),
        ("circuit-zero", scored(own, |_| Some(0.0)), view.to_owned()),
        ("circuit-hostile", edges(&hostile), view.to_owned()),
        ("circuit-hostile-one", edges(&shouting), view.to_owned()),
        ("circuit-gpt2", gpt2(), format!("{view}value_label='share of the gap lost'")),
        ("circuit-gpt2-40", gpt2(), format!("{view}top=40\nvalue_label='share of the gap lost'")),
        ("circuit-crowd", crowd(6, 32), view.to_owned()),
        ("circuit-deep", crowd(32, 4), view.to_owned()),
    ]
}
