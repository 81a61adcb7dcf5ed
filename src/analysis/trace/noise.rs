//! Noise on the embeddings of a prompt's subject.

use candle_core::{DType, Device, Tensor};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::{Trace, Unit};
use crate::edit::{Edit, Op};
use crate::error::{Error, Result};
use crate::lab::Lab;
use crate::site::{Positions, Site, Slice};
use crate::steering::normal;
use crate::task::{Example, Task};

/// Where noise goes, how much of it, and how often it is drawn.
pub(super) struct Noise {
    /// The subject's positions in each example.
    subjects: Vec<Vec<usize>>,
    /// Which words chose them.
    pub(super) chosen: String,
    /// ν.
    pub(super) size: f64,
    pub(super) samples: usize,
    seed: u64,
    width: usize,
}

impl Noise {
    pub(super) fn new(trace: &Trace, lab: &Lab, task: &Task) -> Result<Noise> {
        if trace.samples == 0 {
            return Err(Error::usage("`samples` is 0: no noise would be drawn", "write `samples = 10`"));
        }
        if !(trace.noise.is_finite() && trace.noise >= 0.0) {
            return Err(Error::usage(
                format!("noise of {} standard deviations cannot be drawn", trace.noise),
                "write `noise = 3.0`",
            ));
        }
        let named = |example: &Example| example.pos.contains_key("subject");
        let words = match &trace.subject {
            None if task.examples.iter().all(named) => Some("subject".to_owned()),
            asked => asked.clone(),
        };
        let (subjects, chosen) = match words {
            Some(words) => {
                let each = task.examples.iter().map(|example| example.span(&words));
                (each.collect::<Result<Vec<_>>>()?, format!("`{words}`"))
            }
            None => {
                let each = task.examples.iter().map(differing).collect::<Result<Vec<_>>>()?;
                (each, "the tokens in which clean and corrupt prompt differ".to_owned())
            }
        };
        let size = trace.noise * deviation(lab, task, &subjects)?;
        let width = lab.model.config.d_model;
        Ok(Noise { subjects, chosen, size, samples: trace.samples, seed: lab.seed, width })
    }

    /// The first position that noise reaches, in each row.
    pub(super) fn first(&self, batch: &[Unit]) -> Vec<usize> {
        batch.iter().map(|&(i, _)| self.subjects[i].first().copied().unwrap_or(0)).collect()
    }

    /// The noise of each row. It depends on the seed, the example and the sample alone.
    pub(super) fn edits(&self, batch: &[Unit]) -> Result<Vec<Edit>> {
        let one = |(row, &(example, sample)): (usize, &Unit)| {
            let subject = &self.subjects[example];
            let mut rng = ChaCha8Rng::seed_from_u64(self.seed ^ 0x7ACE_0000 ^ ((example as u64) << 32));
            rng.set_stream(sample as u64);
            let count = subject.len() * self.width;
            let drawn: Vec<f64> = (0..count).map(|_| self.size * normal(&mut rng)).collect();
            let drawn = Tensor::from_vec(drawn, (subject.len(), self.width), &Device::Cpu)?;
            let at = Slice::whole(Site::Embed).rows(row..row + 1).pos(Positions::At(subject.clone()));
            Ok(Edit { at, op: Op::Add(drawn) })
        };
        batch.iter().enumerate().map(one).collect()
    }
}

/// The positions in which the two prompts of a pair differ.
fn differing(example: &Example) -> Result<Vec<usize>> {
    let pairs = example.clean.iter().zip(example.corrupt.iter().flatten()).enumerate();
    let places: Vec<usize> = pairs.filter(|(_, (a, b))| a != b).map(|(pos, _)| pos).collect();
    if places.is_empty() {
        return Err(Error::usage(
            format!(
                "nothing says where the subject of `{}` stands: it has no position called `subject`, and no corrupt prompt \
                 that differs",
                example.id
            ),
            "write `subject=…`: a named position, a number, or a range such as `1..3`",
        ));
    }
    Ok(places)
}

/// The standard deviation of all numbers in the embeddings of the subjects' tokens, as the paper's code has it.
fn deviation(lab: &Lab, task: &Task, subjects: &[Vec<usize>]) -> Result<f64> {
    let both = task.examples.iter().zip(subjects);
    let ids: Vec<u32> =
        both.flat_map(|(example, at)| at.iter().filter_map(|&pos| example.clean.get(pos)).copied()).collect();
    let model = &lab.model;
    let rows = model.embed.index_select(&Tensor::new(ids, model.device())?, 0)?;
    let numbers: Vec<f64> = rows.flatten_all()?.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.to_vec1()?;
    let count = numbers.len() as f64;
    let mean = numbers.iter().sum::<f64>() / count;
    let squares: f64 = numbers.iter().map(|x| (x - mean).powi(2)).sum();
    Ok((squares / (count - 1.0).max(1.0)).sqrt())
}
