//! Seeded tables and the views that draw them, ordinary and hostile.

use glassbox::figure::View;
use glassbox::row::{Column, Rows};

// by its path, so that this file can be read as a module from anywhere
#[path = "samples_a.rs"]
mod samples_a;
#[path = "samples_b.rs"]
mod samples_b;

/// A column of numbers.
fn num(values: impl IntoIterator<Item = f64>) -> Column {
    Column::Num(values.into_iter().map(Some).collect())
}

/// A column of counts.
fn int(values: impl IntoIterator<Item = usize>) -> Column {
    Column::Int(values.into_iter().map(|v| Some(v as i64)).collect())
}

/// A column of text.
fn text<T: ToString>(values: impl IntoIterator<Item = T>) -> Column {
    Column::Text(values.into_iter().map(|v| Some(v.to_string())).collect())
}

/// A table from columns.
fn table(columns: Vec<(&str, Column)>) -> Rows {
    let columns = columns.into_iter().map(|(n, c)| (n.to_owned(), String::new(), c)).collect();
    Rows { name: "sample".into(), columns }
}

/// Even noise in -1..1, the same each time.
fn noise(i: usize) -> f64 {
    let mut x = (i as u64).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((x ^ x >> 31) >> 11) as f64 / (1u64 << 52) as f64 - 1.0
}

const IOI: [&str; 15] = [
    "<bos>", " When", " Mary", " and", " John", " went", " to", " the", " store", ",", " John", " gave",
    " a", " drink", " to",
];

const HOSTILE: [&str; 8] = [
    "",
    " ",
    "\n",
    "<script>alert('x')</script>",
    "\u{202e}desrever\u{202c}",
    "שלום",
    "Donaudampfschifffahrtsgesellschaftskapitän",
    "\u{0}\"&日本",
];

/// Layer × head effects; a few heads matter.
pub fn heads(layers: usize, heads: usize) -> Rows {
    let n = layers * heads;
    let effect: Vec<f64> = (0..n).map(|i| noise(i).powi(9) * 0.9 + noise(i + 999) * 0.04).collect();
    table(vec![
        ("layer", int((0..n).map(|i| i / heads))),
        ("head", int((0..n).map(|i| i % heads))),
        ("ci_lo", num(effect.iter().map(|e| e - 0.06))),
        ("ci_hi", num(effect.iter().map(|e| e + 0.06))),
        ("effect", num(effect)),
    ])
}

/// Site × layer × position effects.
fn positions(tokens: &[&str], layers: usize) -> Rows {
    let n = tokens.len();
    let all: Vec<(usize, usize, usize)> =
        (0..3).flat_map(|s| (0..layers).flat_map(move |l| (0..n).map(move |p| (s, l, p)))).collect();
    let sites = ["resid_pre", "attn_out", "mlp_out"];
    table(vec![
        ("site", text(all.iter().map(|a| sites[a.0]))),
        ("layer", int(all.iter().map(|a| a.1))),
        ("pos", int(all.iter().map(|a| a.2))),
        ("token", text(all.iter().map(|a| tokens[a.2]))),
        ("changed", Column::Bool(all.iter().map(|a| Some(a.2 == 10 % n)).collect())),
        (
            "effect",
            num(all
                .iter()
                .enumerate()
                .map(|(i, a)| if a.2 == 10 % n && a.1 < layers / 2 { 0.9 } else { noise(i).powi(7) })),
        ),
    ])
}

/// Components with a direct and a total effect.
pub fn components() -> Rows {
    let names = [
        "a2.h0",
        "a2.h1",
        "a1.h1",
        "a0.h1",
        "m0",
        "m1",
        "a0.h0",
        "a1.h0",
        "embed",
        "pos_embed",
        "a9.b_O",
        "a2.h3",
    ];
    let roles = [
        "name mover",
        "name mover",
        "S-inhibition",
        "duplicate token",
        "",
        "",
        "previous token",
        "induction",
        "",
        "",
        "",
        "",
    ];
    let total = [0.52, 0.49, 0.81, 0.78, 0.06, -0.03, 0.01, 0.02, 0.11, 0.002, 0.0, -0.12];
    let direct = [0.50, 0.47, 0.01, 0.0, 0.02, 0.02, 0.0, 0.01, 0.0, 0.001, 0.0, -0.10];
    let around = |v: &[f64], d: f64| num(v.iter().map(move |v| v + d * (0.02 + v.abs() * 0.08)));
    table(vec![
        ("component", text(names)),
        ("role", text(roles)),
        ("kind", text(names.map(|n| if n.starts_with('m') { "MLP" } else { "head" }))),
        ("direct_ci_lo", around(&direct, -1.0)),
        ("direct_ci_hi", around(&direct, 1.0)),
        ("total_ci_lo", around(&total, -1.0)),
        ("total_ci_hi", around(&total, 1.0)),
        ("direct", num(direct)),
        ("total", num(total)),
    ])
}

/// Logit lens: the top token at every layer and position, surer with depth.
fn lens(tokens: &[&str], layers: usize) -> Rows {
    let n = tokens.len();
    let all: Vec<(usize, usize)> = (0..layers).flat_map(|l| (0..n).map(move |p| (l, p))).collect();
    let sure = |l: usize, i: usize| ((l as f64 / layers as f64).powi(2) + 0.2 * noise(i)).clamp(0.01, 0.99);
    table(vec![
        ("layer", int(all.iter().map(|a| a.0))),
        ("pos", int(all.iter().map(|a| a.1))),
        ("token", text(all.iter().map(|a| tokens[a.1]))),
        (
            "top",
            text(
                all.iter().enumerate().map(|(i, a)| tokens[(a.1 + 1 + (noise(i).abs() * 3.0) as usize) % n]),
            ),
        ),
        ("next", text(all.iter().map(|a| tokens[(a.1 + 1) % n]))),
        ("right", Column::Bool(all.iter().map(|a| Some(a.0 + 2 > layers && a.1 % 3 == 0)).collect())),
        ("prob", num(all.iter().enumerate().map(|(i, a)| sure(a.0, i)))),
    ])
}

/// Causal attention of several heads.
fn attention(tokens: &[&str], heads: usize) -> Rows {
    let n = tokens.len();
    let pairs = |h: usize| (0..n).flat_map(move |q| (0..n).map(move |k| (h, q, k)));
    let all: Vec<(usize, usize, usize)> = (0..heads).flat_map(pairs).filter(|a| a.2 <= a.1).collect();
    let score = |a: &(usize, usize, usize)| if a.1 == a.2 + a.0 % n { 0.8 } else { 0.2 / (a.1 + 1) as f64 };
    table(vec![
        ("head", text(all.iter().map(|a| format!("L{}H{}", a.0 / 2, a.0 % 2)))),
        ("query", int(all.iter().map(|a| a.1))),
        ("key", int(all.iter().map(|a| a.2))),
        ("key_token", text(all.iter().map(|a| tokens[a.2]))),
        ("attention", num(all.iter().map(score))),
    ])
}

/// Logit difference along half-steps for two kinds of prompt.
fn accumulated(layers: usize) -> Rows {
    let mut steps: Vec<String> = (0..layers).flat_map(|l| [format!("{l}_pre"), format!("{l}_mid")]).collect();
    steps.push("final_post".into());
    let n = steps.len();
    let value = |i: usize| {
        4.0 / (1.0 + (-((i % n) as f64 - 0.7 * n as f64)).exp()) * (1.0 + (i / n) as f64 * 0.2)
            + noise(i) * 0.1
    };
    table(vec![
        ("step", text((0..2 * n).map(|i| steps[i % n].clone()))),
        ("order", text((0..2 * n).map(|i| ["ABBA", "BABA"][i / n]))),
        ("logit_diff", num((0..2 * n).map(value))),
        ("lo", num((0..2 * n).map(|i| value(i) - 0.3))),
        ("hi", num((0..2 * n).map(|i| value(i) + 0.3))),
    ])
}

/// A training curve with a phase change.
fn training() -> Rows {
    let mut steps: Vec<usize> = (0..120).map(|i| 1 + (1.08f64.powi(i) - 1.0) as usize * 3).collect();
    steps.dedup();
    table(vec![
        (
            "loss",
            num(steps
                .iter()
                .enumerate()
                .map(|(i, s)| 5.5 / (1.0 + (*s as f64 / 400.0).powf(0.8)) + 0.3 + noise(i) * 0.05)),
        ),
        ("step", int(steps)),
    ])
}

/// What two heads write along a direction, by source token.
fn sources(tokens: &[&str]) -> Rows {
    let n = tokens.len();
    table(vec![
        ("head", text((0..2 * n).map(|i| format!("a2.h{}", i / n)))),
        ("pos", int((0..2 * n).map(|i| i % n))),
        ("token", text((0..2 * n).map(|i| tokens[i % n]))),
        ("direct", num((0..2 * n).map(|i| if i % n == 2 { 3.4 } else { noise(i).powi(5) }))),
    ])
}

/// Heads of which some have no value, none, or an extreme one.
fn extreme(value: impl Fn(usize) -> Option<f64>) -> Rows {
    let mut rows = heads(4, 6);
    for (name, _, column) in &mut rows.columns {
        if name == "effect" {
            *column = Column::Num((0..24).map(&value).collect());
        }
    }
    rows
}

/// A picture to be drawn: file name, rows, view.
pub type Sample = (&'static str, Rows, View);

/// Every sample.
pub fn samples() -> Vec<Sample> {
    let long: Vec<String> = (0..60).map(|i| format!(" word{i}")).collect();
    let long: Vec<&str> = long.iter().map(String::as_str).collect();
    let head_view = "kind='heatmap'\nx='head'\ny='layer'\nvalue='effect'\nvalue_label='share of the logit difference restored'\n";
    let pos_view = "kind='heatmap'\nx='pos'\ny='layer'\nvalue='effect'\nx_text='token'\nmark='changed'\nfacet='site'\nspan='full'\nvalue_label='share restored'\n";
    let lens_view = "kind='lens'\nx='pos'\ny='layer'\ntext='top'\nvalue='prob'\nx_text='token'\nmark='right'\nvalue_label='probability of the top token'\n";
    let att_view =
        "kind='attention'\nx='key'\ny='query'\nvalue='attention'\nx_text='key_token'\nfacet='head'\n";
    let curve_view = "kind='curve'\nx='step'\ngroup='order'\nvalue='logit_diff'\nlo='lo'\nhi='hi'\nx_label='residual stream after'\n";
    let scatter_view = "kind='scatter'\nx='direct'\ny='total'\nlabel='component'\ngroup='kind'\nx_label='direct effect'\ny_label='total effect'\n";
    let mut list = vec![
        ("heatmap-3x4", heads(3, 4), format!("{head_view}lo='ci_lo'\nhi='ci_hi'")),
        ("heatmap-12x12", heads(12, 12), format!("{head_view}lo='ci_lo'\nhi='ci_hi'")),
        ("heatmap-12x12-top", heads(12, 12), format!("{head_view}top=5\nspan='full'\nlayer_axis='up'")),
        ("heatmap-32x32", heads(32, 32), head_view.to_owned()),
        ("heatmap-1x12", heads(1, 12), head_view.to_owned()),
        ("heatmap-1x1", heads(1, 1), head_view.to_owned()),
        ("heatmap-60x60", heads(60, 60), format!("{head_view}layer_axis='up'\nlimits=[-0.4, 0.4]")),
        ("heatmap-pos", positions(&IOI, 3), pos_view.to_owned()),
        ("heatmap-pos-12", positions(&IOI, 12), pos_view.to_owned()),
        ("heatmap-pos-60", positions(&long, 12), pos_view.to_owned()),
        ("heatmap-hostile", positions(&HOSTILE, 3), pos_view.to_owned()),
("heatmap-sources", sources(&IOI), "kind='heatmap'\nx='pos'\ny='head'\nvalue='direct'\nx_text='token'\nx_label='attended token'\nspan='full'".to_owned()),
        ("heatmap-facets", positions(&["0", "1", "2", "3"], 3), "kind='heatmap'\nx='pos'\ny='layer'\nvalue='effect'\nfacet='site'\ntop=4\nmap='blues'\nlimits=[0.0, 1.0]\nspan='full'\nx_label='head'".to_owned()),
        ("bars", components(), "kind='bars'\nlabel='component'\nrole='role'\nvalue='total'\nlo='total_ci_lo'\nhi='total_ci_hi'\nvalue_label='total effect (share of the logit difference)'\ntop=8".to_owned()),
        ("bars-two", components(), "kind='bars'\nlabel='component'\nrole='role'\nvalue_label='effect on the logit difference'\n[[series]]\nvalue='total'\nlo='total_ci_lo'\nhi='total_ci_hi'\n[[series]]\nvalue='direct'\nlo='direct_ci_lo'\nhi='direct_ci_hi'".to_owned()),
        ("extreme-zero", extreme(|_| Some(0.0)), head_view.to_owned()),
        ("extreme-none", extreme(|_| None), head_view.to_owned()),
        ("extreme-mixed", extreme(|i| [Some(f64::NAN), Some(f64::INFINITY), Some(f64::NEG_INFINITY), None, Some(0.3), Some(-0.2), Some(1e-9)][i % 7]), head_view.to_owned()),
        ("extreme-huge", extreme(|i| Some(noise(i) * 1e12)), head_view.to_owned()),
        ("extreme-bars", extreme(|i| [Some(f64::NAN), Some(f64::INFINITY), None, Some(0.3), Some(-0.2)][i % 5]), "kind='bars'\nlabel='head'\nvalue='effect'\nlo='ci_lo'\nhi='ci_hi'".to_owned()),
        ("extreme-bars-endless", extreme(|i| [Some(f64::NEG_INFINITY), Some(0.3), Some(0.1)][i % 3]), "kind='bars'\nlabel='head'\nvalue='effect'".to_owned()),
        ("extreme-bars-infinite", extreme(|i| Some([f64::NEG_INFINITY, f64::INFINITY][i % 2])), "kind='bars'\nlabel='head'\nvalue='effect'\ntop=4\nspan='half'".to_owned()),
        ("extreme-bars-outside", extreme(|i| Some([-0.4, 0.3, 2.0, f64::NEG_INFINITY][i % 4])), "kind='bars'\nlabel='head'\nvalue='effect'\ntop=8\nlimits=[0.0, 1.0]".to_owned()),
        ("extreme-bars-none", extreme(|_| None), "kind='bars'\nlabel='head'\nvalue='effect'".to_owned()),
        ("extreme-curve", extreme(|i| [Some(f64::NAN), Some(f64::INFINITY), None, Some(0.3), Some(-0.2)][i % 5]), "kind='curve'\nx='head'\ngroup='layer'\nvalue='effect'\nlo='ci_lo'\nhi='ci_hi'".to_owned()),
        ("extreme-curve-none", extreme(|_| None), "kind='curve'\nx='head'\ngroup='layer'\nvalue='effect'".to_owned()),
        ("extreme-scatter", extreme(|i| [Some(f64::NAN), Some(f64::INFINITY), None, Some(0.3), Some(-0.2)][i % 5]), "kind='scatter'\nx='ci_lo'\ny='effect'\nlabel='head'".to_owned()),
        ("lens", lens(&IOI, 3), lens_view.to_owned()),
        ("lens-target", lens(&IOI, 6), lens_view.replace("mark='right'", "target='next'")),
        ("lens-26", lens(&IOI, 26), format!("{lens_view}span='full'")),
        ("lens-60", lens(&long, 80), lens_view.to_owned()),
        ("lens-hostile", lens(&HOSTILE, 4), lens_view.to_owned()),
        ("attention-1", attention(&IOI, 1), format!("{att_view}span='half'")),
        ("attention-4", attention(&IOI, 4), att_view.to_owned()),
        ("attention-60", attention(&long, 3), att_view.to_owned()),
        ("attention-28", attention(&long[..28], 3), att_view.to_owned()),
        ("attention-144", attention(&IOI, 144), att_view.to_owned()),
        ("attention-hostile", attention(&HOSTILE, 2), att_view.to_owned()),
        ("curve", accumulated(3), format!("{curve_view}references=[{{at=4.2, name='final'}}, {{at=0.0, name='chance'}}]")),
        ("curve-26", accumulated(26), format!("{curve_view}span='full'\nheight=180")),
        ("curve-loss", training(), "kind='curve'\nx='step'\nvalue='loss'\nlog_x=true\nx_label='training step'\nvalue_label='loss (nats)'".to_owned()),
        ("scatter", components(), scatter_view.to_owned()),
        ("panels", components(), "kind='panels'\n[[panels]]\nkind='bars'\nspan='full'\nlabel='component'\nrole='role'\nvalue='total'\nlo='total_ci_lo'\nhi='total_ci_hi'\ntop=6\n[[panels]]\nkind='scatter'\nx='direct'\ny='total'\nlabel='component'\ngroup='kind'\n[[panels]]\nkind='bars'\nlabel='component'\nvalue='direct'\nlo='direct_ci_lo'\nhi='direct_ci_hi'\ntop=9".to_owned()),
        ("panels-shared", positions(&IOI, 3), "kind='panels'\nshared=true\n[[panels]]\nkind='heatmap'\nx='pos'\ny='layer'\nvalue='effect'\nx_text='token'\nonly={site='resid_pre'}\n[[panels]]\nkind='heatmap'\nx='pos'\ny='layer'\nvalue='effect'\nx_text='token'\nonly={site='mlp_out'}\n[[panels]]\nkind='curve'\nx='pos'\ngroup='layer'\nvalue='effect'\nonly={site='attn_out'}".to_owned()),
        ("tokens", sources(&IOI), "kind='tokens'\nx='pos'\nx_text='token'\nvalue='direct'\ngroup='head'\nvalue_label='direct effect on the logit difference'".to_owned()),
        ("tokens-hostile", sources(&HOSTILE), "kind='tokens'\nx='pos'\nx_text='token'\nvalue='direct'\ngroup='head'".to_owned()),
    ];
    list.extend(samples_a::samples());
    list.extend(samples_b::samples());
    list.drain(..).map(|(name, rows, view)| (name, rows, toml::from_str(&view).expect(name))).collect()
}
