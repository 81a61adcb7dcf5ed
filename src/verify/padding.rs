//! A padded row is the row alone: at every place, in its gradients, in windows and under edits.

use candle_core::Tensor;

use super::{Ledger, Promise, Subject, Within};
use crate::edit::{Edit, Op};
use crate::error::Result;
use crate::model::Pad;
use crate::record::Activations;
use crate::site::{At, Axis, Positions, Site, Slice};

pub(super) const PROMISE: Promise = Promise {
    name: "padding",
    about: "a padded row (left, right) = the row alone, gradients too",
    within: Within::ROUNDING,
    run,
};

fn run(subject: &Subject, ledger: &mut Ledger) -> Result<()> {
    let positions = subject.positions();
    // rows of unequal length, both padded, the shorter one by more
    let rows = [&subject.rows[0][..], &subject.rows[1][..positions.div_ceil(2)]];
    for side in [Pad::Left, Pad::Right] {
        let filled = rows.map(|row| side.fill(row, positions + 1));
        let batch = Batch { subject, rows, side, tokens: subject.model().tokens(&[&filled[0], &filled[1]])? };
        batch.values(ledger)?;
        batch.gradients(ledger)?;
        batch.windows(ledger)?;
        batch.edits(ledger)?;
    }
    Ok(())
}

/// Two rows padded on one side.
struct Batch<'a> {
    subject: &'a Subject<'a>,
    rows: [&'a [u32]; 2],
    side: Pad,
    tokens: Tensor,
}

impl Batch<'_> {
    /// The batch column of a row's first own token.
    fn first(&self, row: usize) -> Result<usize> {
        Ok(if self.side == Pad::Left { self.tokens.dim(1)? - self.rows[row].len() } else { 0 })
    }

    fn alone(&self, row: usize) -> Result<Tensor> {
        self.subject.model().tokens(&[self.rows[row]])
    }

    /// The own part of a row of an activation.
    fn own(&self, site: Site, x: &Tensor, row: usize) -> Result<Tensor> {
        let mut x = x.narrow(0, row, 1)?;
        for (d, axis) in site.axes().iter().enumerate() {
            if matches!(axis, Axis::Pos | Axis::Query | Axis::Key) {
                x = x.narrow(d, self.first(row)?, self.rows[row].len())?;
            }
        }
        Ok(x)
    }

    fn what(&self, row: usize, what: impl std::fmt::Display) -> String {
        let side = if self.side == Pad::Left { "left" } else { "right" };
        format!("{what}, row {row} padded on the {side},")
    }

    /// Every place against the row alone. What pads is not attended to.
    fn values(&self, ledger: &mut Ledger) -> Result<()> {
        let split = |site| matches!(site, Site::Block(_, at) if at.is_split_input());
        for wanted in [&(|site| !split(site)) as &dyn Fn(Site) -> bool, &split] {
            let (_, together) = self.subject.record(&self.tokens, wanted)?;
            for row in 0..2 {
                let (_, alone) = self.subject.record(&self.alone(row)?, wanted)?;
                self.compare(&together, &alone, row, "", ledger)?;
            }
            for (site, x) in together.0.iter().filter(|(s, _)| matches!(s, Site::Block(_, At::Pattern))) {
                for row in 0..2 {
                    let (all, own) = (x.narrow(0, row, 1)?, self.own(*site, x, row)?);
                    let sum = |x: &Tensor| x.sum_all();
                    ledger.equal(self.what(row, "attention outside the row"), &sum(&all)?, &sum(&own)?)?;
                }
            }
        }
        Ok(())
    }

    fn compare(
        &self,
        together: &Activations,
        alone: &Activations,
        row: usize,
        of: &str,
        ledger: &mut Ledger,
    ) -> Result<()> {
        for (&site, alone) in &alone.0 {
            let own = self.own(site, together.get(site)?, row)?;
            ledger.equal(self.what(row, format_args!("{of}{site}")), &own, alone)?;
        }
        Ok(())
    }

    /// Gradients of a sum of the rows' own logits; those of what pads are exactly zero.
    fn gradients(&self, ledger: &mut Ledger) -> Result<()> {
        let columns = self.tokens.dim(1)?;
        let split = |site| matches!(site, Site::Block(_, at) if at.is_split_input());
        let mut weights = Vec::new();
        let mut apart = Vec::new();
        for row in 0..2 {
            let (first, length) = (self.first(row)?, self.rows[row].len());
            let own = self.subject.weights(1, length)?;
            apart.push(self.subject.gradients(&self.alone(row)?, &own, |site| !split(site))?);
            weights.push(own.pad_with_zeros(1, first, columns - first - length)?);
        }
        let together =
            self.subject.gradients(&self.tokens, &Tensor::cat(&weights, 0)?, |site| !split(site))?;
        for (row, alone) in apart.iter().enumerate() {
            self.compare(&together, alone, row, "the gradient at ", ledger)?;
        }
        for (&site, gradient) in &together.0 {
            // attention written to a masked key would be used, so that its gradient is not zero
            if matches!(site, Site::Block(_, At::Pattern)) {
                continue;
            }
            let (mut all, mut own) = (sum_of_sizes(gradient)?, 0.0);
            for row in 0..2 {
                own += sum_of_sizes(&self.own(site, gradient, row)?)?;
            }
            all -= own;
            ledger.within(format_args!("the gradient of padding at {site}"), all.abs() / own.max(1.0));
        }
        Ok(())
    }

    /// Passes resumed inside the batch, in the padding of one row or beyond it.
    fn windows(&self, ledger: &mut Ledger) -> Result<()> {
        if !self.subject.model().config.causal {
            return Ok(());
        }
        let columns = self.tokens.dim(1)?;
        let base = self.subject.base(&self.tokens)?;
        let whole = self.subject.finish(base.end(self.subject.model()), None, &mut ())?;
        for layer in self.subject.layers(columns, 0) {
            for first in 0..columns {
                let logits = self.subject.finish(base.stream(layer, first)?, Some(&base), &mut ())?;
                for row in 0..2 {
                    let own = base.padding.own(row, columns);
                    let from = own.start.max(first);
                    let length = own.end.saturating_sub(from);
                    if length == 0 {
                        continue;
                    }
                    let got = logits.narrow(0, row, 1)?.narrow(1, from - first, length)?;
                    let want = whole.narrow(0, row, 1)?.narrow(1, from, length)?;
                    let what = format_args!("a pass from layer {layer} and column {first} on").to_string();
                    ledger.equal(self.what(row, what), &got, &want)?;
                }
            }
        }
        Ok(())
    }

    /// An edit of one own position of each row.
    fn edits(&self, ledger: &mut Ledger) -> Result<()> {
        for at in [At::ResidPre, At::K, At::Z, At::MlpPost] {
            let layer = self.subject.layers(12, at as usize)[0];
            if !self.subject.model().block(layer)?.has(at) {
                continue;
            }
            let site = Site::Block(layer, at);
            let (_, kept) = self.subject.record(&self.tokens, |s| s == site)?;
            let column = |row: usize| Ok::<_, crate::Error>(self.first(row)? + self.rows[row].len() / 2);
            let slice = Slice::whole(site).pos(Positions::PerRow(vec![column(0)?, column(1)?]));
            let values = self.subject.noise(&slice.take(kept.get(site)?)?, 4)?;
            let edit = Edit { at: slice, op: Op::Add(values.clone()) };
            let together = self.subject.edited(&self.tokens, [edit])?;
            let each = values.dim(0)? / 2;
            for row in 0..2 {
                let at = Slice::whole(site).pos(Positions::At(vec![self.rows[row].len() / 2]));
                let edit = Edit { at, op: Op::Add(values.narrow(0, row * each, each)?) };
                let alone = self.subject.edited(&self.alone(row)?, [edit])?;
                let own = self.own(Site::Logits, &together, row)?;
                ledger.equal(self.what(row, format_args!("an edit of {site}")), &own, &alone)?;
            }
        }
        Ok(())
    }
}

fn sum_of_sizes(x: &Tensor) -> Result<f64> {
    Ok(super::ledger::numbers(x)?.iter().map(|x| x.abs()).sum())
}
