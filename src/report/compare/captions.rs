//! The words under a comparison's pictures: those of the view, with both runs in its placeholders, and what the panels are.

use crate::compare::{Compared, Interval, Side};
use crate::figure::View;
use crate::report::story::figure;
use crate::row::Rows;

/// What a view's caption or label says of both runs.
pub(super) fn filled(text: &str, compared: &Compared) -> String {
    let [a, b] = &compared.sides;
    let both = |of: &dyn Fn(&Side) -> String| {
        let (one, two) = (of(a), of(b));
        if one == two { one } else { format!("{one} and {two}") }
    };
    let model = both(&|side| side.fact(&["model", "name"]).unwrap_or_else(|| "the model".to_owned()));
    let n = both(&|side| side.prompts().map_or_else(|| "?".to_owned(), |n| n.to_string()));
    let task = both(&|side| side.task());
    text.replace("{model}", &model)
        .replace("{task}", &task)
        .replace("{n}", &n)
        .replace("{metric}", &both(&|side| side.metric().to_owned()))
        .replace("{pairs}", "")
        .replace("{outlined}", "")
        .replace("{over}", &format!("Means over n = {n} prompts of {task}; bands are 95 % bootstrap intervals."))
        .replace("{whiskers}", &format!("Whiskers: 95 % bootstrap intervals over n = {n} prompts of {task}. "))
        .replace("{which}", "of a head that both runs show,")
        .replace("{probe}", "the probes")
}

/// How the panels of a heat map are read.
pub(super) fn panels(compared: &Compared, differences: &Rows, view: &View) -> String {
    let [a, b, _] = &compared.names;
    let mut said = format!(
        " Panels: {a}, {b}, and their difference ({b} minus {a}), all on one symmetric scale; hatched: no such row in that \
         run, and so no difference."
    );
    match largest(differences, view) {
        Some((size, at, interval)) => {
            said += &format!(" The largest difference is {}{interval}, at {at}.", figure(size));
        }
        None => said += " No difference could be taken.",
    }
    said
}

/// What intervals of differences stand on, in a sentence, and warnings that concern every number.
pub(super) fn certainty(compared: &Compared, interval: Option<&Interval>) -> String {
    let mut said = match interval {
        Some(Interval::Paired(n)) => format!(
            " Intervals of differences: 95 %, the same {n} examples in both runs resampled together; outlined cells are a \
             twentieth of the largest or more, and their interval excludes 0."
        ),
        Some(Interval::Apart([a, b])) => format!(
            " Intervals of differences: 95 %, the {a} and {b} examples of the runs resampled independently; outlined cells are \
             a twentieth of the largest or more, and their interval excludes 0."
        ),
        Some(Interval::None(why)) => format!(" Differences have no interval: {why}."),
        None => String::new(),
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
        let token = token.filter(|token| *token != own).map(|token| format!(" ({})", crate::show::visible(&token)));
        Some(format!("{name} {own}{}", token.unwrap_or_default()))
    };
    let places = [place(&view.y, &view.y_text, &view.y_label), place(&view.x, &view.x_text, &view.x_label)];
    let end = |name: &Option<String>| rows.numbers(name.as_deref()?).ok()?.get(at).copied().flatten();
    let interval = end(&view.lo).zip(end(&view.hi));
    let interval = interval.map_or_else(String::new, |(lo, hi)| format!(" [{}, {}]", figure(lo), figure(hi)));
    Some((size(at), places.into_iter().flatten().collect::<Vec<_>>().join(", "), interval))
}
