//! One quantity along training.

use crate::error::Result;
use crate::figure::across::Places;
use crate::figure::apart::least_squares;
use crate::figure::axes::{self, Axis};
use crate::figure::font;
use crate::figure::lines::{self, Line, Plot};
use crate::figure::once;
use crate::figure::scene::{Fill, Frame, Group, Item, Scene, Text};
use crate::figure::style::Style;
use crate::figure::ticks;
use crate::figure::view::{Reference, Series, View, optional_categories, optional_texts};
use crate::row::Rows;

/// The longest name at the end of a line, in sizes of ticks.
const LONGEST: f64 = 5.0;

/// One quantity.
pub struct Panel {
    /// Its name.
    pub name: String,
    lines: Vec<Line>,
    /// Of each line, between which steps it passed half of its way.
    onsets: Vec<Option<[f64; 2]>>,
    references: Vec<Reference>,
}

/// The groups' names, and the panels in the order of the table; a panel has a line for each group and label, whose name is
/// that label.
pub fn read(rows: &Rows, view: &View, places: &Places) -> Result<(Vec<String>, Vec<Panel>)> {
    let value = view.need("value", &view.value)?.to_owned();
    let series = Series { value, lo: view.lo.clone(), hi: view.hi.clone(), ..Series::default() };
    let (facets, facet_of) = optional_categories(rows, &view.facet)?;
    let (groups, group_of) = optional_categories(rows, &view.group)?;
    let labels = optional_texts(rows, &view.label)?;
    let (mut known, mut of) = (Vec::new(), Vec::new());
    for i in 0..rows.len() {
        let label = labels.as_ref().map_or("", |labels| &labels[i]);
        let key = (facet_of[i], group_of[i], label);
        let place = known.iter().position(|known| *known == key);
        of.push(place.unwrap_or(known.len()));
        if place.is_none() {
            known.push(key);
        }
    }
    let mut onsets = vec![None; known.len()];
    if let Some([after, by]) = &view.onset {
        let ends = rows.numbers(after)?.into_iter().zip(rows.numbers(by)?);
        for (line, (after, by)) in of.iter().zip(ends) {
            onsets[*line] = onsets[*line].or(after.zip(by).map(|(after, by)| [after, by]));
        }
    }
    let panel = |facet: &String| Panel {
        name: if facets.len() > 1 { lines::named(facet) } else { font::visible(facet) },
        lines: Vec::new(),
        onsets: Vec::new(),
        references: {
            let own = view.references.iter().filter(|r| r.facet.is_empty() || r.facet == *facet);
            own.cloned().collect()
        },
    };
    let mut panels: Vec<Panel> = facets.iter().map(panel).collect();
    let points = lines::points(rows, &series, places, &of, known.len())?;
    for (((facet, group, label), points), onset) in known.into_iter().zip(points).zip(onsets) {
        if let Some(panel) = panels.get_mut(facet) {
            let (name, look) = (font::visible(label), lines::look(group));
            panel.lines.push(Line { name, numbers: String::new(), points, look });
            panel.onsets.push(onset);
        }
    }
    once::single(panels.iter().flat_map(|panel| &panel.lines), rows, view, places)?;
    Ok((groups, panels))
}

impl Panel {
    /// Whether any line has an onset.
    pub fn has_onset(&self) -> bool {
        self.onsets.iter().any(Option::is_some)
    }

    /// Room for the names at the ends of lines.
    pub fn ends(&self, style: &Style) -> f64 {
        self.lines.iter().map(|line| font::width(&end(line, style), style.small, false)).fold(0.0, f64::max)
    }

    /// The axis up.
    pub fn y(&self, style: &Style, high: f64, view: &View) -> Axis {
        let all = || lines::values(&self.lines);
        let most = all().fold(0.0, f64::max);
        let [lo, hi] = if most > 0.3 && all().all(|v| (0.0..=1.0).contains(&v)) {
            [0.0, 1.0] // shares are shown beside all there could be, so that panels compare
        } else {
            let at: Vec<f64> = self.references.iter().map(|r| r.at).collect();
            axes::spread(all(), &at, 0.06)
        };
        let range = view.limits.unwrap_or([lo - 0.03 * (hi - lo), hi + 0.03 * (hi - lo)]);
        Axis::round(range, (high / (2.6 * style.tick)).clamp(2.0, 6.0) as usize, true)
    }

    /// Draws it.
    pub fn draw(&self, scene: &mut Scene, plot: &Plot) -> Result<()> {
        self.onset_bars(scene, plot);
        plot.draw(scene, &self.lines, &self.references, None)?;
        self.names(scene, plot);
        Ok(())
    }

    /// A bar along the bottom for each onset, above each other.
    fn onset_bars(&self, scene: &mut Scene, plot: &Plot) {
        let unit = plot.style.space(1.0);
        let known = self.lines.iter().zip(&self.onsets).filter_map(|(line, onset)| Some((line, (*onset)?)));
        for (slot, (line, ends)) in known.enumerate() {
            let [from, to] = ends.map(|step| plot.x.place(step, plot.frame));
            let top = plot.frame.bottom() - (slot as f64 + 1.0) * 2.4 * unit;
            if from.is_finite() && to.is_finite() && top > plot.frame.y {
                let bar = Frame::new(from.min(to), top, (to - from).abs().max(unit), 1.7 * unit);
                let [after, by] = ends.map(ticks::exact);
                let tip = format!("{} half of the way between {after} and {by}", line.name);
                let items = vec![Item::Rect(bar, Fill::Solid(line.look.color.alpha(0.55)), None)];
                scene.add(Group { tip: tip.trim().to_owned(), items, ..Group::default() });
            }
        }
    }

    /// Names at the ends of lines, moved apart where they would touch.
    fn names(&self, scene: &mut Scene, plot: &Plot) {
        let (style, frame) = (plot.style, plot.frame);
        // place, size of the last value
        let mut named: Vec<(f64, f64, &Line)> = Vec::new();
        for line in self.lines.iter().filter(|line| !line.name.is_empty()) {
            if let Some(last) = line.points.iter().rev().find(|p| p.y.is_finite()) {
                let [_, y] = plot.at(last.x, last.y);
                named.push((y.clamp(frame.y, frame.bottom()), last.y.abs(), line));
            }
        }
        // where not all fit, the largest are named
        let high = 1.02 * style.small;
        named.sort_by(|a, b| b.1.total_cmp(&a.1));
        named.truncate(((frame.h / high) as usize).max(1));
        named.sort_by(|a, b| a.0.total_cmp(&b.0));
        let wanted: Vec<(f64, f64)> = named.iter().map(|(y, ..)| (*y, 1.0)).collect();
        let apart = vec![high; named.len().saturating_sub(1)];
        let ends = [frame.y + high / 2.0, frame.bottom() - high / 2.0];
        let left = frame.right() + style.space(3.0);
        for (y, (_, _, line)) in least_squares(&wanted, &apart, ends).into_iter().zip(&named) {
            scene.add(Text::new(left, y, end(line, style), style.small).middle().color(line.look.ink()));
        }
    }
}

/// A line's name at its end.
fn end(line: &Line, style: &Style) -> String {
    font::fit(&line.name, style.small, false, LONGEST * style.tick)
}
