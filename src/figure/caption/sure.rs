//! How sure the drawn numbers are: intervals, outlines.

use super::spoken;
use crate::figure::color::INK;
use crate::figure::evidence;
use crate::figure::scene::{Fill, Item, Scene};
use crate::figure::view::View;
use crate::row::Rows;

/// What the drawn intervals are.
pub(super) fn intervals(rows: &Rows, view: &View) -> Option<String> {
    let own = (view.lo.clone(), view.hi.clone());
    let pairs = std::iter::once(own).chain(view.series.iter().map(|s| (s.lo.clone(), s.hi.clone())));
    let (lo, hi) = pairs.filter_map(|(lo, hi)| Some((lo?, hi?))).find(|(lo, hi)| both(rows, lo, hi))?;
    let what = match view.kind.as_str() {
        "bars" | "waterfall" | "scores" => "Whiskers",
        "roc" => "In brackets",
        "circuit" | "heatmap" | "trace" | "attention" | "lens" | "tokens" => return None,
        _ => "Bands",
    };
    Some(match over(view) {
        Some(over) => format!("{what}: 95 % bootstrap intervals over whole {over}."),
        None => format!("{what}: from {} to {}.", spoken(&lo), spoken(&hi)),
    })
}

/// What outlined cells are, if there are any.
pub(super) fn outlines(scene: &Scene, rows: &Rows, view: &View) -> Option<String> {
    outlined(&scene.items).then_some(())?;
    let size = match view.outline {
        Some(least) => format!("{least} or more from 0"),
        None => "a twentieth of the largest or more".to_owned(),
    };
    if evidence::corrected(rows, view) {
        let family = view.family.as_deref().map_or_else(String::new, |family| format!(", {family},"));
        let test = match over(view) {
            Some(over) => format!(
                "sign flips of whole {over}, corrected for all tested cells of the table{family} by Benjamini and Hochberg"
            ),
            None => "p-values corrected for the number of cells".to_owned(),
        };
        return Some(format!("Outlined: {size}, with q ≤ {} ({test}).", evidence::LEVEL));
    }
    let interval = match (over(view), &view.lo, &view.hi) {
        (Some(over), ..) => format!("a 95 % bootstrap interval (over whole {over})"),
        (None, Some(lo), Some(hi)) => format!("an interval ({} to {})", spoken(lo), spoken(hi)),
        _ => "an interval".to_owned(),
    };
    Some(format!("Outlined: {size}, with {interval} that excludes 0."))
}

/// What a bootstrap drew whole.
fn over(view: &View) -> Option<&str> {
    let own = view.over.as_deref().unwrap_or(&view.facts.over);
    (view.facts.known() && !own.is_empty()).then_some(own)
}

/// Whether some row has both ends of its interval.
fn both(rows: &Rows, lo: &str, hi: &str) -> bool {
    let (Ok(lo), Ok(hi)) = (rows.numbers(lo), rows.numbers(hi)) else { return false };
    lo.iter().zip(&hi).any(|(lo, hi)| lo.zip(*hi).is_some_and(|(lo, hi)| !lo.is_nan() && !hi.is_nan()))
}

/// Whether cells have outlines: frames in ink inside a panel.
fn outlined(items: &[Item]) -> bool {
    items.iter().any(|item| match item {
        Item::Group(group) if group.data.iter().any(|(name, _)| name == "panel") => group
            .items
            .iter()
            .any(|item| matches!(item, Item::Rect(_, Fill::None, Some(stroke)) if stroke.color == INK)),
        Item::Group(group) => outlined(&group.items),
        _ => false,
    })
}
