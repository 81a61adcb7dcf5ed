//! Attention knockout: what the answer loses when one position may not attend to others (Geva et al. 2023).
//!
//! In every layer of a window the scores from the position that asks to its sources are set to −∞ before the softmax. The row's
//! other keys share out its attention anew; a row of which nothing is left attends to nothing. A window stands around each
//! layer in turn: k layers, from ⌊k/2⌋ before it, cut off at the ends of the model.

mod rows;
mod sources;

use std::ops::Range;

use candle_core::{Device, Tensor};
use serde::Deserialize;

use crate::analysis::attribution::ReadAt;
use crate::analysis::{Analysis, Findings};
use crate::component::Component;
use crate::edit::{Edit, Op};
use crate::error::{Error, Result};
use crate::lab::Lab;
use crate::metric::Metric;
use crate::model::{Base, Transformer};
use crate::ops;
use crate::site::{At, Positions, Site, Slice};
use crate::sweep::{Cell, Reading, sweep};
use crate::task::{Side, Task};
use sources::{Source, sources};

/// What a position needs to attend to, and where: the change of the answer when it may not.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Knockout {
    /// The position that asks: `end` (where the answer is due), a named one, or a number.
    pub from: ReadAt,
    /// What it may not attend to, each in turn: a named position or number, `first..subject`, several with commas, `self` (the
    /// position that asks), `rest` (what no other source names). By default every place that the prompts share, `self`
    /// and `rest`.
    pub sources: Vec<String>,
    /// How many layers a window has; by default a fifth of the model's, one at least.
    pub window: Option<usize>,
    /// Only these heads, written `9.6`, `L9H6` or `a9.h6`; by default all.
    pub heads: Vec<String>,
    /// The number whose change is reported beside that of the answer's probability.
    pub metric: Metric,
}

impl Default for Knockout {
    fn default() -> Self {
        Knockout {
            from: ReadAt::Name("end".to_owned()),
            sources: Vec::new(),
            window: None,
            heads: Vec::new(),
            metric: Metric::LogitDiff,
        }
    }
}

/// One source cut off in the window around one layer.
#[derive(Debug, Clone, Copy)]
struct Cut {
    source: usize,
    layer: usize,
}

/// Everything measured, by example: the answer's probability, then the metric.
struct Measured {
    /// `[measure][example]`.
    whole: [Vec<f64>; 2],
    /// `[cut][measure][example]`.
    cut: Vec<[Vec<f64>; 2]>,
    /// Of each example, whether its first choice is an answer.
    right: Vec<bool>,
}

impl Analysis for Knockout {
    const NAME: &'static str = "knockout";
    const ABOUT: &'static str =
        "attention knockout: what the answer loses when a position may not attend to others, by layer";
    const TAKES_METRIC: bool = true;
    const TASK: &'static str = "facts";

    fn run(&self, lab: &Lab, task: &Task) -> Result<Findings> {
        task.check()?;
        task.fits(&lab.model)?;
        let layers = lab.model.config.n_layers;
        let width = self.window.unwrap_or((layers / 5).max(1));
        if width == 0 {
            return Err(Error::usage("a window of 0 layers cuts nothing", "write `window = 1` or more"));
        }
        let heads = self.heads(&lab.model)?;
        let from: Vec<usize> =
            task.examples.iter().map(|example| self.from.of(example)).collect::<Result<_>>()?;
        let sources = sources(&self.sources, &lab.model, task, &from)?;
        let cuts: Vec<Cut> = (0..sources.len())
            .flat_map(|source| (0..layers).map(move |layer| Cut { source, layer }))
            .collect();
        let setting = Setting { from: &from, sources: &sources, heads: heads.as_deref(), width, cuts: &cuts };
        let measured = self.measure(lab, task, &setting)?;
        Ok(rows::findings(self, lab, task, &setting, &measured))
    }
}

/// What a run is made of.
struct Setting<'a> {
    /// The position that asks, in each example.
    from: &'a [usize],
    sources: &'a [Source],
    /// Layer and head; all if none.
    heads: Option<&'a [(usize, usize)]>,
    width: usize,
    cuts: &'a [Cut],
}

/// The `width` layers around one, as far as there are layers: of an even number, one more stands before it.
pub(crate) fn around(layer: usize, width: usize, layers: usize) -> Range<usize> {
    layer.saturating_sub(width / 2)..layers.min(layer + width.div_ceil(2))
}

impl Knockout {
    /// The heads asked for, which the model must have; none means all.
    fn heads(&self, model: &Transformer) -> Result<Option<Vec<(usize, usize)>>> {
        if self.heads.is_empty() {
            return Ok(None);
        }
        let named = |name: &String| {
            let (layer, head) = Component::named_head(name)?;
            let size = model.block(layer)?.attention.n_heads;
            if head < size {
                return Ok((layer, head));
            }
            let site = Site::Block(layer, At::Scores).to_string();
            Err(Error::OutOfRange { what: "head", index: head, size, site })
        };
        self.heads.iter().map(named).collect::<Result<Vec<_>>>().map(Some)
    }

    fn measure(&self, lab: &Lab, task: &Task, setting: &Setting) -> Result<Measured> {
        let (model, n) = (&lab.model, task.examples.len());
        let metrics = [Metric::Prob, self.metric];
        let none = || [vec![0.0; n], vec![0.0; n]];
        let mut all = Measured {
            whole: none(),
            cut: setting.cuts.iter().map(|_| none()).collect(),
            right: vec![false; n],
        };
        let longest = task.examples.iter().map(|example| example.clean.len()).max().unwrap_or(0);
        let each = 4 * model.recorded_bytes(longest, |site| Base::needs(model, site) || site == Site::Logits);
        let batches = task.batches((lab.memory / 2 / each.max(1)).clamp(1, 1 << 16) as usize);
        lab.progress.begin("knockout", (batches.len() * setting.cuts.len()) as u64);
        for batch in &batches {
            lab.check()?;
            let read = task.ends(batch);
            let base = Base::record(model, &task.tokens(model, batch, Side::Clean)?, |_| false)?;
            let logits = base.logits(model, &read)?;
            let targets = task.targets(batch, Some(ops::log_softmax(&logits)?));
            let whole: Vec<f64> = Metric::columns(&metrics, &logits, &targets)?.flatten_all()?.to_vec1()?;
            let ranks: Vec<f64> =
                Metric::columns(&[Metric::Rank], &logits, &targets)?.flatten_all()?.to_vec1()?;
            batch.iter().zip(ranks).for_each(|(&i, rank)| all.right[i] = rank <= 1.0);
            put(&mut all.whole, batch, &whole);
            let (mut indices, mut cells) = (Vec::new(), Vec::new());
            for (index, cut) in setting.cuts.iter().enumerate() {
                let edits = setting.edits(*cut, model.config.n_layers, batch)?;
                if edits.is_empty() {
                    put(&mut all.cut[index], batch, &whole);
                } else {
                    indices.push(index);
                    cells.push(Cell { edits });
                }
            }
            lab.progress.advance((setting.cuts.len() - cells.len()) as u64);
            let reading = Reading::metrics(&read, &metrics, &targets);
            for (&index, scores) in indices.iter().zip(sweep(lab, &base, &cells, &reading)?) {
                put(&mut all.cut[index], batch, &scores);
            }
        }
        lab.progress.end();
        Ok(all)
    }
}

impl Setting<'_> {
    /// The scores that are set to −∞ on these examples; none where no head of the window is meant.
    fn edits(&self, cut: Cut, layers: usize, batch: &[usize]) -> Result<Vec<Edit>> {
        let hidden = Tensor::new(f64::NEG_INFINITY, &Device::Cpu)?;
        let mut edits = Vec::new();
        for layer in around(cut.layer, self.width, layers) {
            let heads: Vec<Option<usize>> = match self.heads {
                None => vec![None],
                Some(heads) => heads.iter().filter(|(l, _)| *l == layer).map(|(_, h)| Some(*h)).collect(),
            };
            for head in heads {
                for (row, &i) in batch.iter().enumerate() {
                    let whole = Slice::whole(Site::Block(layer, At::Scores));
                    let at = Slice {
                        rows: Some(row..row + 1),
                        pos: Positions::At(vec![self.from[i]]),
                        key: Positions::At(self.sources[cut.source].positions[i].clone()),
                        head,
                        ..whole
                    };
                    edits.push(Edit { at, op: Op::Set(hidden.clone()) });
                }
            }
        }
        Ok(edits)
    }
}

/// Numbers `[row][measure]` as they come from a sweep, put in the place of their examples.
fn put(all: &mut [Vec<f64>; 2], examples: &[usize], values: &[f64]) {
    for (&example, values) in examples.iter().zip(values.chunks_exact(2)) {
        all.iter_mut().zip(values).for_each(|(all, &value)| all[example] = value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_those_of_the_paper() {
        assert_eq!(around(20, 9, 48), 16..25);
        assert_eq!(around(20, 10, 48), 15..25);
        assert_eq!(around(1, 9, 48), 0..6);
        assert_eq!(around(47, 9, 48), 43..48);
        assert_eq!(around(2, 1, 3), 2..3);
    }
}
