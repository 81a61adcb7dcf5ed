//! Every number that is read from the logits of a run.

use candle_core::{DType, Device, Tensor};

use crate::error::{Error, Result};
use crate::metric::{Metric, Targets};
use crate::task::Task;

/// One number.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Measure {
    Metric(Metric),
    /// Whether the answer is preferred to the wrong one.
    Accuracy,
    /// Whether the first choice is an answer.
    TopAccuracy,
}

/// The numbers that have what they need: wrong answers, gains.
pub(super) struct Measures {
    list: Vec<Measure>,
    /// Place of the metric that leads.
    pub(super) first: usize,
}

impl Measures {
    /// Every number these prompts allow; the metric that leads must be among them.
    pub(super) fn of(first: Metric, task: &Task) -> Result<Measures> {
        let answered = task.examples.iter().all(|example| !example.answers.is_empty());
        let opposed = answered && task.examples.iter().all(|example| !example.wrong.is_empty());
        let has = |metric: &Metric| match metric {
            Metric::Kl => true,
            Metric::ExpectedGain => opposed && task.gains.is_some(),
            metric => answered && (opposed || !metric.needs_wrong()),
        };
        let mut list: Vec<Measure> = Metric::ALL.into_iter().filter(has).map(Measure::Metric).collect();
        list.extend(opposed.then_some(Measure::Accuracy));
        list.extend(answered.then_some(Measure::TopAccuracy));
        let Some(place) = list.iter().position(|measure| *measure == Measure::Metric(first)) else {
            return Err(Error::usage(
                format!("{first} cannot be measured on these prompts"),
                "give answers, wrong answers or `--gains`, or choose another metric",
            ));
        };
        Ok(Measures { list, first: place })
    }

    /// How many.
    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    /// Their names in tables.
    pub(super) fn names(&self) -> Vec<&'static str> {
        let name = |measure: &Measure| match measure {
            Measure::Metric(metric) => metric.name(),
            Measure::Accuracy => "accuracy",
            Measure::TopAccuracy => "top-1 accuracy",
        };
        self.list.iter().map(name).collect()
    }

    /// The metric to follow by its gradient at the unchanged run: the one that leads if it has a slope there.
    pub(super) fn sloped(&self, first: Metric) -> Metric {
        match first {
            // KL is at its minimum there
            Metric::Kl | Metric::Rank if self.list.contains(&Measure::Metric(Metric::LogitDiff)) => {
                Metric::LogitDiff
            }
            Metric::Kl | Metric::Rank => Metric::LogProb,
            metric => metric,
        }
    }

    /// logits `[rows, d_vocab]` → `[rows, measures]` in f64.
    pub(super) fn score(&self, logits: &Tensor, targets: &Targets) -> Result<Tensor> {
        let metric = |metric: Metric| -> Result<Tensor> {
            Ok(metric.score(logits, targets)?.to_device(&Device::Cpu)?.to_dtype(DType::F64)?)
        };
        let score = |measure: &Measure| match measure {
            Measure::Metric(which) => metric(*which),
            Measure::Accuracy => Ok(metric(Metric::LogitDiff)?.gt(0.0)?.to_dtype(DType::F64)?),
            Measure::TopAccuracy => Ok(metric(Metric::Rank)?.le(1.0)?.to_dtype(DType::F64)?),
        };
        let columns: Vec<Tensor> = self.list.iter().map(score).collect::<Result<_>>()?;
        Ok(Tensor::stack(&columns, 1)?)
    }
}
