//! The words under a comparison's pictures: those of the view, with both runs in its placeholders, and what the panels are.

use crate::compare::{Compared, Interval, Side};
use crate::figure::{Facts, View};
use crate::report::story::figure;
use crate::report::{derive, facts};
use crate::row::Rows;

/// Captions of views whose pictures hold less where both runs are in them.
const OTHERWISE: [(&str, &str); 1] = [(
    "lens",
    "Logit lens: the probability of the answer when the residual stream after each layer, at each position of the first prompt, goes \
     straight to the final norm and the unembedding. Which token is likeliest there is in the table.",
)];

/// The caption of a view with both runs in it.
pub(super) fn caption(view: &View, compared: &Compared) -> String {
    let own = OTHERWISE.iter().find(|(name, _)| *name == view.name);
    let said = filled(own.map_or(view.caption.as_str(), |(_, caption)| caption), compared);
    if view.kind == "bars" { without_signs(said) } else { said }
}

/// Without what a caption says in brackets of blue: bars of two runs have the colours of the runs, not those of signs.
fn without_signs(mut caption: String) -> String {
    while let Some(start) = caption.find(" (blue") {
        let Some(length) = caption.get(start..).and_then(|rest| rest.find(')')) else { break };
        caption.replace_range(start..=start + length, "");
    }
    caption
}

/// What a view's caption or label says of both runs.
pub(super) fn filled(text: &str, compared: &Compared) -> String {
    let [a, b] = &compared.sides;
    let both = |of: &dyn Fn(&Side) -> String| {
        let (one, two) = (of(a), of(b));
        if one == two { one } else { format!("{one} and {two}") }
    };
    text.replace("{model}", &both(&model))
        .replace("{task}", &both(&Side::task))
        .replace("{metric}", &both(&metric))
        .replace("{pairs}", "")
        .replace("{circuit}", "")
        .replace("{answer}", "")
        .replace("{corruption}", "")
        .replace("{scored}", &of_both(compared, "edges_first", derive::scored))
        .replace("{sequences}", &of_both(compared, "head_scores", derive::sequences))
        .replace("{random}", &of_both(compared, "steer_curve", derive::against))
        .replace("{which}", "of a head that both runs show")
        .replace("{probe}", "the probes")
}

/// What a table of each run says.
fn of_both(compared: &Compared, table: &str, says: fn(Option<&Rows>) -> String) -> String {
    let sides = compared.tables.get(table).map(|joined| &joined.sides);
    let [one, two] = [0, 1].map(|k| says(sides.and_then(|sides| sides.get(k))));
    if one == two { one } else { format!("{one} and {two}") }
}

/// Where the numbers of both runs come from.
pub(super) fn source(compared: &Compared) -> Facts {
    let [a, b] = &compared.sides;
    let [name_a, name_b, _] = &compared.names;
    let told = |side: &Side, key: &str| side.fact(&["facts", key]).filter(|word| !word.is_empty());
    let both = |of: &dyn Fn(&Side) -> String| {
        let (one, two) = (of(a), of(b));
        if one == two { one } else { format!("{one} ({name_a}) and {two} ({name_b})") }
    };
    let weights = |side: &Side| {
        let hash = || side.fact(&["model", "sha256"]).unwrap_or_default().chars().take(7).collect::<String>();
        format!("{}, {}", model(side), told(side, "weights").unwrap_or_else(|| format!("weights {}", hash())))
    };
    let alike = a.seed() == b.seed();
    let data = |side: &Side| {
        let n = side.prompts().map_or_else(String::new, |n| format!("{n} "));
        let data = told(side, "data").unwrap_or_else(|| format!("{n}prompts of {}", side.task()));
        if alike { data } else { format!("{data}, seed {}", side.seed()) }
    };
    let over = both(&|side| told(side, "over").unwrap_or_else(|| "prompts".to_owned()));
    let together = if compared.same_examples {
        "the same in both runs and drawn together"
    } else {
        "of each run by itself"
    };
    let seed = alike.then(|| a.seed());
    let dtype = both(&|side| side.fact(&["dtype"]).unwrap_or_default());
    Facts {
        model: both(&weights),
        weights: String::new(),
        data: both(&data),
        n: a.prompts().filter(|n| b.prompts() == Some(*n)),
        over: format!("{over}, {together}"),
        metric: both(&metric),
        seed,
        dtype: if dtype == "f32" { String::new() } else { dtype },
    }
}

fn model(side: &Side) -> String {
    side.fact(&["model", "name"]).unwrap_or_else(|| "the model".to_owned())
}

/// The metric in words.
fn metric(side: &Side) -> String {
    side.metric().parse().map_or_else(|_| side.metric().to_owned(), |metric| facts::metric(metric).to_owned())
}

/// How the panels of a heat map are read.
pub(super) fn panels(compared: &Compared, differences: &Rows, view: &View) -> String {
    let [a, b, _] = &compared.names;
    if differences.is_empty() {
        return format!(
            " Panels: {a} and {b}, on one symmetric scale; hatched: no such row in that run. They share no row, and so there is no \
             difference."
        );
    }
    let mut said = format!(
        " Panels: {a}, {b}, and their difference ({b} minus {a}), all on one symmetric scale; hatched: no such row in that \
         run, and so no difference."
    );
    match largest(differences, view) {
        Some((0.0, ..)) => said += " No cell differs.",
        Some((size, at, interval)) => {
            said += &format!(" The largest difference is {}{interval}: {at}.", figure(size));
        }
        None => said += " No difference could be taken.",
    }
    said
}

/// Where differences have no interval although the runs' own values do, and warnings that concern every number.
pub(super) fn certainty(compared: &Compared, interval: Option<&Interval>) -> String {
    let mut said = match interval {
        Some(Interval::None(why)) => format!(" The difference has no interval: {why}."),
        Some(Interval::Paired(_) | Interval::Apart(_)) | None => String::new(),
    };
    if compared.warnings.iter().any(|warning| warning.contains("not meaningful")) {
        said += " The runs do not measure the same thing, so that their difference is not meaningful: see the page.";
    }
    said
}

/// The largest difference by size, where it is, and its interval.
fn largest(rows: &Rows, view: &View) -> Option<(f64, String, String)> {
    let values = rows.numbers(view.value.as_deref()?).ok()?;
    let finite = |i: &usize| values.get(*i).copied().flatten().is_some_and(f64::is_finite);
    let size = |i: usize| values.get(i).copied().flatten().unwrap_or(0.0);
    let at = (0..rows.len()).filter(finite).min_by(|&i, &j| size(j).abs().total_cmp(&size(i).abs()))?;
    let place = |axis: &Option<String>, words: &Option<String>, label: &str| -> Option<String> {
        let column = axis.as_deref()?;
        let own = rows.texts(column).ok()?.get(at)?.clone();
        let name = if label.is_empty() { column } else { label };
        let token = words.as_deref().and_then(|words| rows.texts(words).ok()?.get(at).cloned());
        let token =
            token.filter(|token| *token != own).map(|token| format!(" ({})", crate::show::visible(&token)));
        Some(format!("{name} {own}{}", token.unwrap_or_default()))
    };
    let places = [place(&view.y, &view.y_text, &view.y_label), place(&view.x, &view.x_text, &view.x_label)];
    let end = |name: &Option<String>| rows.numbers(name.as_deref()?).ok()?.get(at).copied().flatten();
    let interval = end(&view.lo).zip(end(&view.hi));
    let interval = interval.map_or_else(String::new, |(lo, hi)| format!(" [{}, {}]", figure(lo), figure(hi)));
    Some((size(at), places.into_iter().flatten().collect::<Vec<_>>().join(", "), interval))
}
