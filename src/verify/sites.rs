//! Every place fires once with its shape; changing it moves the logits, unless the weights make it dead; its gradient is
//! the slope that finite differences measure.

use std::collections::BTreeMap;

use candle_core::Tensor;

use super::ledger::{SiteRow, numbers};
use super::{Ledger, Promise, Subject, Within, dead};
use crate::edit::{Edit, Op};
use crate::error::Result;
use crate::hook::Hook;
use crate::record::Activations;
use crate::site::{At, Site, Slice};

pub(super) const PROMISE: Promise = Promise {
    name: "sites",
    about: "places fire once, move the logits or are dead, have the right gradient",
    within: Within { double: 1e-6, single: 0.0 },
    run,
};

/// Steps of the differences, as shares of an activation's size. A right gradient agrees at one of them; a wrong one at
/// none.
const STEPS: [f64; 4] = [1e-3, 1e-2, 1e-4, 1e-5];
/// Passes that one place costs.
const PASSES: usize = 6;

/// Everything measured before the places are looked at one by one.
struct Run<'a> {
    subject: &'a Subject<'a>,
    tokens: Tensor,
    weights: Tensor,
    logits: Tensor,
    kept: Activations,
    gradients: Activations,
}

fn run(subject: &Subject, ledger: &mut Ledger) -> Result<()> {
    let model = subject.model();
    let is_split = |site: Site| matches!(site, Site::Block(_, at) if at.is_split_input());
    let tokens = subject.tokens()?;

    let mut watch = Watch { split: false, fired: BTreeMap::new(), order: Vec::new() };
    subject.forward(&tokens, &mut watch)?;
    ledger.holds(watch.order.is_sorted(), "places fire out of order");
    let mut all = watch.fired;
    // copies for single readers take the place of the shared norm, so they are looked at in a pass of their own
    let mut watch = Watch { split: true, fired: BTreeMap::new(), order: Vec::new() };
    subject.forward(&tokens, &mut watch)?;
    all.append(&mut watch.fired);
    for site in all.keys().filter(|&&site| model.check_site(site).is_err()) {
        ledger.broken(format_args!("{site} fires and this model has no such place"));
    }

    let weights = subject.weights(2, subject.positions())?;
    let logits = subject.forward(&tokens, &mut ())?;
    let (_, mut kept) = subject.record(&tokens, |site| !is_split(site))?;
    kept.0.extend(subject.record(&tokens, is_split)?.1.0);
    let mut gradients = Activations::default();
    if subject.is_double() {
        gradients = subject.gradients(&tokens, &weights, |site| !is_split(site))?;
        gradients.0.extend(subject.gradients(&tokens, &weights, is_split)?.0);
    } else {
        ledger.remark("gradients need f64");
    }
    let run = Run { subject, tokens, weights, logits, kept, gradients };

    let mut sampled = 0;
    let sites: Vec<Site> = model.every_site().collect();
    for &site in &sites {
        let fired = all.get(&site).copied().unwrap_or(0);
        ledger.holds(fired == 1, format_args!("{site} fired {fired} times in one pass"));
        let mut row = SiteRow {
            site: site.to_string(),
            shape: format!("{:?}", model.shape(site, 2, subject.positions())),
            fired,
            moved: None,
            gradient: None,
            differences: None,
            error: None,
            note: None,
        };
        let dead = dead(model, site, subject.positions())?;
        let chosen = match site {
            Site::Block(layer, at) => subject.layers(PASSES * At::ALL.len(), at as usize).contains(&layer),
            _ => true,
        };
        sampled += usize::from(chosen);
        match run.kept.0.get(&site) {
            Some(x) if x.dims() != model.shape(site, 2, subject.positions()) => {
                row.note = Some(format!("it has shape {:?}", x.dims()));
                ledger.broken(format_args!("{site} has shape {:?}, not {}", x.dims(), row.shape));
            }
            Some(x) if chosen => run.examine(site, x, dead.as_deref(), &mut row, ledger)?,
            _ => {}
        }
        row.note = row.note.or_else(|| dead.map(|why| format!("dead: {why}")));
        ledger.sites.push(row);
    }
    if sampled < sites.len() {
        ledger.remark(format_args!(
            "every kind of place, {sampled} of {} places: more would take long",
            sites.len()
        ));
    }
    Ok(())
}

impl Run<'_> {
    /// Whether a change there moves the logits, and how its gradient compares with differences.
    fn examine(
        &self,
        site: Site,
        x: &Tensor,
        dead: Option<&str>,
        row: &mut SiteRow,
        ledger: &mut Ledger,
    ) -> Result<()> {
        let direction = self.subject.noise(x, 1)?;
        let changed = |h: f64| -> Result<Tensor> {
            let edit = Edit { at: Slice::whole(site), op: Op::Add(direction.affine(h, 0.0)?) };
            self.subject.edited(&self.tokens, [edit])
        };
        let (before, after) = (numbers(&self.logits)?, numbers(&changed(1.0)?)?);
        let size = before.iter().fold(1.0, |size: f64, x| size.max(x.abs()));
        let moved = before.iter().zip(&after).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        row.moved = Some(moved);
        let moves = moved > if self.subject.is_double() { 1e-12 } else { 1e-6 } * size;
        row.note = match dead {
            None if !moves => {
                Some("a change here does not move the logits, and no weight explains why".to_owned())
            }
            Some(why) if moves => Some(format!("a change here moves the logits, although {why}")),
            _ => None,
        };
        ledger.holds(row.note.is_none(), format_args!("{site}: {}", row.note.as_deref().unwrap_or_default()));
        let Some(gradient) = self.gradients.0.get(&site) else { return Ok(()) };

        let weights = numbers(&self.weights)?;
        let score = |logits: &[f64]| logits.iter().zip(&weights).map(|(l, w)| l * w).sum::<f64>();
        let terms: f64 = before.iter().zip(&weights).map(|(l, w)| (l * w).abs()).sum();
        let slope: f64 = numbers(gradient)?.iter().zip(numbers(&direction)?).map(|(g, d)| g * d).sum();
        let at = |h: f64| -> Result<f64> { Ok(score(&numbers(&changed(h)?)?)) };
        let mut best: Option<(f64, f64)> = None; // relative distance, slope by differences
        for h in STEPS {
            // of fourth order, so that curvature does not show
            let differences = (8.0 * (at(h)? - at(-h)?) - (at(2.0 * h)? - at(-2.0 * h)?)) / (12.0 * h);
            // below this, differences are rounding: of about 4e-16 of the terms, at most a millionth of the slope
            let floor = 4e-10 * terms / h;
            let error = (slope - differences).abs()
                / slope.abs().max(differences.abs()).max(floor).max(f64::MIN_POSITIVE);
            if best.is_none_or(|(least, _)| error < least) {
                best = Some((error, differences));
            }
            if error <= ledger.tolerance() {
                break;
            }
        }
        let Some((error, differences)) = best else { return Ok(()) };
        (row.gradient, row.differences, row.error) = (Some(slope), Some(differences), Some(error));
        ledger.within(format_args!("the gradient at {site}"), error);
        Ok(())
    }
}

/// Counts how often each place fires: those for single readers, or all others.
struct Watch {
    split: bool,
    fired: BTreeMap<Site, usize>,
    order: Vec<Site>,
}

impl Hook for Watch {
    fn wants(&self, site: Site) -> bool {
        self.split == matches!(site, Site::Block(_, at) if at.is_split_input())
    }

    fn visit(&mut self, site: Site, _: usize, x: Tensor) -> Result<Tensor> {
        *self.fired.entry(site).or_default() += 1;
        self.order.push(site);
        Ok(x)
    }
}
