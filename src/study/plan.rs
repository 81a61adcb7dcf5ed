//! What a study's sweeps would take, before any of them is run.

use std::sync::Arc;
use std::time::Instant;

use candle_core::{DType, Device, Tensor};

use super::Study;
use crate::error::{Error, Result};
use crate::lab::{Lab, Planned, Plans};
use crate::ops;
use crate::row;
use crate::row::Rows;
use crate::task::Task;

row! {
    /// What the sweeps of a step would take.
    pub struct Cost {
        /// The step.
        pub analysis: String,
        /// Interventions, each made on every prompt, and on both runs of a pair where both are changed.
        pub cells: usize,
        /// Runs that are needed: one intervention on one prompt.
        pub runs: usize,
        /// Runs that are not, because they can change nothing.
        pub free: usize,
        /// Passes through the model, each shared by many runs.
        pub passes: usize,
        /// Products, in 10⁹ floating-point operations.
        pub gflop: f64,
        /// Those of what changes alone (the light cones): no plan can do with fewer.
        pub floor: f64,
        /// The share of the operations that is above the floor.
        pub waste: Option<f64>,
        /// Memory of the streams that are held at once, in MiB.
        pub mib: f64,
        /// Seconds at the rate of products on this machine, measured now, of which sweeps reach about three quarters.
        pub seconds: f64,
        /// Why the step would not come to its end, or why what follows from the results of sweeps is not known.
        pub note: Option<String>,
    }
}

impl Study {
    /// Plans every step: what its sweeps would take. Base runs and gradients are made, sweeps are not: what a step chooses by their results
    /// may come out differently.
    pub fn plan(&self, lab: Lab, task: &Task) -> Result<Rows> {
        let (plans, rate) = (Arc::new(Plans::default()), rate()?);
        let lab = Lab { planned: Some(Arc::clone(&plans)), journal: None, ..lab };
        let mut costs = Vec::new();
        for step in &self.steps {
            let note = match self.step(step, &lab, task) {
                Ok(outcome) => outcome.skipped,
                Err(Error::Interrupted { kept }) => return Err(Error::Interrupted { kept }),
                Err(error) => Some(error.to_string()),
            };
            let Planned { cells, runs, free, passes, flops, floor, bytes, .. } = plans.take();
            let waste = (flops > 0).then(|| 1.0 - floor as f64 / flops as f64);
            let (gflop, floor) = (flops as f64 / 1e9, floor as f64 / 1e9);
            let (mib, seconds) = (bytes as f64 / f64::from(1 << 20), 1e9 * gflop / rate / 0.75);
            let analysis = step.name.clone();
            let [cells, runs, free, passes] = [cells, runs, free, passes].map(|n| n as usize);
            costs.push(Cost { analysis, cells, runs, free, passes, gflop, floor, waste, mib, seconds, note });
        }
        Ok(Rows::of("plan", &costs))
    }
}

/// Floating-point operations per second of the product [480×768]·[768×3072], the median of a few.
fn rate() -> Result<f64> {
    let (a, b) = (
        Tensor::ones((480, 768), DType::F32, &Device::Cpu)?,
        Tensor::ones((768, 3072), DType::F32, &Device::Cpu)?,
    );
    let mut seconds = Vec::new();
    for _ in 0..9 {
        let begin = Instant::now();
        std::hint::black_box(ops::linear(&a, &b, None)?);
        seconds.push(begin.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    Ok(2.0 * 480.0 * 768.0 * 3072.0 / seconds[seconds.len() / 2])
}
