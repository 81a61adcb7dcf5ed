//! One quantity along training.

use crate::error::Result;
use crate::figure::across::Across;
use crate::figure::apart::least_squares;
use crate::figure::axes::{self, Axis, Mark, Shape};
use crate::figure::color::FAINT;
use crate::figure::font;
use crate::figure::lines::{self, Plot, Point};
use crate::figure::scene::{Fill, Frame, Group, Item, Scene, Text};
use crate::figure::style::Style;
use crate::figure::ticks;
use crate::figure::view::{Reference, View, categories, optional_numbers, optional_texts};
use crate::row::Rows;

/// The longest name at the end of a line, in sizes of ticks.
const LONGEST: f64 = 5.0;

/// A line of a panel.
struct Line {
    /// Its place among the groups.
    group: usize,
    /// Its own name; may be empty.
    label: String,
    /// Step, value, interval, in order.
    points: Vec<[f64; 4]>,
    /// Between which steps it passed half of its way.
    onset: Option<[f64; 2]>,
}

/// One quantity.
pub struct Panel {
    /// Its name.
    pub name: String,
    lines: Vec<Line>,
    references: Vec<Reference>,
}

/// The groups' names, and the panels in the order of the table.
pub fn read(rows: &Rows, view: &View) -> Result<(Vec<String>, Vec<Panel>)> {
    let value = view.need("value", &view.value)?;
    let steps = rows.numbers(view.need("x", &view.x)?)?;
    let (values, lo, hi) =
        (rows.numbers(value)?, optional_numbers(rows, &view.lo)?, optional_numbers(rows, &view.hi)?);
    let split = |column: &Option<String>| match column {
        Some(column) => categories(rows, column),
        None => Ok((vec![String::new()], vec![0; rows.len()])),
    };
    let ((facets, facet_of), (groups, group_of)) = (split(&view.facet)?, split(&view.group)?);
    let labels = optional_texts(rows, &view.label)?;
    let onset = match &view.onset {
        Some([after, by]) => [rows.numbers(after)?, rows.numbers(by)?],
        None => [vec![None; rows.len()], vec![None; rows.len()]],
    };
    let mut panels: Vec<Panel> = facets
        .iter()
        .map(|facet| Panel {
            name: if facets.len() > 1 { lines::named(facet) } else { font::visible(facet) },
            lines: Vec::new(),
            references: view.references.iter().filter(|r| r.facet.is_empty() || r.facet == *facet).cloned().collect(),
        })
        .collect();
    for i in 0..rows.len() {
        let Some(panel) = panels.get_mut(facet_of[i]) else { continue };
        let label = labels.as_ref().map_or_else(String::new, |labels| font::visible(&labels[i]));
        let known = panel.lines.iter().position(|line| line.group == group_of[i] && line.label == label);
        let place = known.unwrap_or(panel.lines.len());
        if known.is_none() {
            panel.lines.push(Line { group: group_of[i], label, points: Vec::new(), onset: None });
        }
        let Some(line) = panel.lines.get_mut(place) else { continue };
        if let Some(step) = steps[i].filter(|step| step.is_finite()) {
            line.points.push([step, values[i].unwrap_or(f64::NAN), lo[i].unwrap_or(f64::NAN), hi[i].unwrap_or(f64::NAN)]);
        }
        line.onset = line.onset.or(onset[0][i].zip(onset[1][i]).map(|(after, by)| [after, by]));
    }
    for line in panels.iter_mut().flat_map(|panel| &mut panel.lines) {
        line.points.sort_by(|a, b| a[0].total_cmp(&b[0]));
    }
    Ok((groups, panels))
}

impl Panel {
    /// Whether any line has an onset.
    pub fn has_onset(&self) -> bool {
        self.lines.iter().any(|line| line.onset.is_some())
    }

    /// Room for the names at the ends of lines.
    pub fn ends(&self, style: &Style) -> f64 {
        let label = |line: &Line| font::fit(&line.label, style.small, false, LONGEST * style.tick);
        self.lines.iter().map(|line| font::width(&label(line), style.small, false)).fold(0.0, f64::max)
    }

    /// The axis up.
    pub fn y(&self, style: &Style, high: f64, view: &View) -> Axis {
        let all = || self.lines.iter().flat_map(|line| line.points.iter().flat_map(|p| [p[1], p[2], p[3]])).filter(|v| v.is_finite());
        let at: Vec<f64> = self.references.iter().map(|r| r.at).collect();
        let most = all().fold(0.0, f64::max);
        let range = match view.limits {
            Some(limits) => limits,
            // shares are shown beside all there could be, so that panels compare
            None if most > 0.3 && all().all(|v| (0.0..=1.0).contains(&v)) => [0.0, 1.0],
            None => axes::spread(all(), &at, 0.06),
        };
        let air = if view.limits.is_some() { 0.0 } else { 0.03 * (range[1] - range[0]) };
        let range = [range[0] - air, range[1] + air];
        Axis::round(range, (high / (2.6 * style.tick)).clamp(2.0, 6.0) as usize, true)
    }

    /// Draws it.
    pub fn draw(
        &self,
        scene: &mut Scene,
        style: &Style,
        frame: Frame,
        (x, ticked): (&Across, &Axis),
        view: &View,
    ) -> Result<()> {
        let y = self.y(style, frame.h, view);
        let inside = |r: &&Reference| (y.range[0]..=y.range[1]).contains(&r.at);
        let dashed = |r: &Reference| -> Mark {
            let points = x.axis.range.map(|x| [x, r.at]).to_vec();
            Shape::Line { points, color: FAINT, width: style.thin(), dash: true }.into()
        };
        let marks: Vec<Mark> = self.references.iter().filter(inside).map(dashed).collect();
        axes::plot(scene, style, frame, ticked, &y, &marks)?;
        x.mark(scene, style, frame);
        let plot = Plot { frame, x: &x.axis, y: &y };
        let points: Vec<Vec<Point>> = self.lines.iter().map(|line| line.points(x)).collect();
        let looks = self.lines.iter().map(|line| lines::look(line.group));
        self.onsets(scene, style, &plot, x);
        plot.lines(scene, style, points.iter().map(Vec::as_slice).zip(looks));
        for reference in self.references.iter().filter(inside) {
            plot.name(scene, style, (reference.at, &reference.name), points.iter().map(Vec::as_slice));
        }
        self.names(scene, style, &plot, &points);
        if !points.iter().flatten().any(|point| point.y.is_finite()) {
            axes::nothing(scene, style, frame);
        }
        Ok(())
    }

    /// A bar along the bottom for each onset, above each other.
    fn onsets(&self, scene: &mut Scene, style: &Style, plot: &Plot, x: &Across) {
        let unit = style.space(1.0);
        let known = self.lines.iter().filter_map(|line| Some((line, line.onset?)));
        for (slot, (line, ends)) in known.enumerate() {
            let [from, to] = ends.map(|step| plot.x.place(x.at(step), plot.frame.x, plot.frame.right()));
            let top = plot.frame.bottom() - (slot as f64 + 1.0) * 2.4 * unit;
            if from.is_finite() && to.is_finite() && top > plot.frame.y {
                let bar = Frame::new(from.min(to), top, (to - from).abs().max(unit), 1.7 * unit);
                let fill = Fill::Solid(lines::look(line.group).color.alpha(0.55));
                let tip = format!("{} half of the way between {} and {}", line.label, ticks::exact(ends[0]), ticks::exact(ends[1]));
                let items = vec![Item::Rect(bar, fill, None)];
                scene.add(Group { tip: tip.trim().to_owned(), items, ..Group::default() });
            }
        }
    }

    /// Names at the ends of lines, moved apart where they would touch.
    fn names(&self, scene: &mut Scene, style: &Style, plot: &Plot, points: &[Vec<Point>]) {
        let mut named: Vec<(f64, f64, &Line)> = Vec::new();
        for (line, points) in self.lines.iter().zip(points).filter(|(line, _)| !line.label.is_empty()) {
            if let Some(last) = points.iter().rev().find(|p| p.y.is_finite()) {
                let [_, y] = plot.at(last.x, last.y);
                named.push((y.clamp(plot.frame.y, plot.frame.bottom()), last.x, line));
            }
        }
        // where not all fit, the largest are named
        let high = 1.02 * style.small;
        let most = ((plot.frame.h / high) as usize).max(1);
        named.sort_by(|a, b| b.2.last().total_cmp(&a.2.last()));
        named.truncate(most);
        named.sort_by(|a, b| a.0.total_cmp(&b.0));
        let wanted: Vec<(f64, f64)> = named.iter().map(|(y, _, _)| (*y, 1.0)).collect();
        let apart = vec![high; named.len().saturating_sub(1)];
        let ends = [plot.frame.y + high / 2.0, plot.frame.bottom() - high / 2.0];
        let left = plot.frame.right() + style.space(3.0);
        for (y, (_, _, line)) in least_squares(&wanted, &apart, ends).into_iter().zip(&named) {
            let name = font::fit(&line.label, style.small, false, LONGEST * style.tick);
            scene.add(Text::new(left, y, name, style.small).middle().color(lines::look(line.group).ink()));
        }
    }
}

impl Line {
    /// The size of its last value.
    fn last(&self) -> f64 {
        let last = self.points.iter().rev().find(|p| p[1].is_finite());
        last.map_or(0.0, |p| p[1].abs())
    }

    fn points(&self, x: &Across) -> Vec<Point> {
        let point = |[step, value, lo, hi]: &[f64; 4]| Point {
            x: x.at(*step),
            y: *value,
            band: [*lo, *hi],
            apart: x.is_apart(*step),
            tip: format!("{} step {}: {} [{}, {}]", self.label, ticks::exact(*step), ticks::exact(*value), ticks::exact(*lo), ticks::exact(*hi))
                .trim()
                .to_owned(),
        };
        self.points.iter().map(point).filter(|point| point.x.is_finite()).collect()
    }
}
