//! What a study's sweeps would take, before any of them is run.

use std::sync::Arc;

use super::Study;
use crate::error::{Error, Result};
use crate::lab::{Lab, Planned, Plans};
use crate::row;
use crate::row::Rows;
use crate::sweep;
use crate::task::Task;

row! {
    /// What the sweeps of a step would take.
    pub struct Cost {
        /// The step.
        pub analysis: String,
        /// Runs that are needed: one intervention on one prompt.
        pub runs: usize,
        /// Runs that are not, because they can change nothing.
        pub free: usize,
        /// Passes through the model, each shared by many runs.
        pub passes: usize,
        /// Products, in 10⁹ floating-point operations.
        pub gflop: f64,
        /// Those of what changes alone (the light cones): no plan can do with fewer.
        pub floor_gflop: f64,
        /// The share of the operations that is above the floor.
        pub waste: Option<f64>,
        /// Memory of the streams that are held at once, in MiB, besides the model and the runs that are recorded.
        pub stream_mib: f64,
        /// Seconds at the rate of products on this machine, measured now, of which sweeps reach about three quarters.
        pub seconds: f64,
    }
}

impl Study {
    /// Plans every step: what its sweeps would take, and what is to be said beside it. Base runs and gradients are made, sweeps are not:
    /// what a step chooses by their results may come out differently.
    pub fn plan(&self, lab: Lab, task: &Task) -> Result<(Rows, Vec<String>)> {
        let (plans, rate) = (Arc::new(Plans::default()), sweep::product_rate()?);
        let lab = Lab { planned: Some(Arc::clone(&plans)), journal: None, ..lab };
        let (mut costs, mut notes, mut without) = (Vec::new(), Vec::new(), Vec::new());
        for step in &self.steps {
            let done = self.step(step, &lab, task);
            let planned = plans.take();
            let note = match done {
                Ok(outcome) => outcome.skipped,
                // what follows from results that there are not is no error of the plan
                Err(error)
                    if planned != Planned::default() && !matches!(error, Error::Interrupted { .. }) =>
                {
                    Some(error.to_string())
                }
                Err(error) => return Err(error),
            };
            notes.extend(note.map(|note| format!("{}: {note}", step.name)));
            if planned == Planned::default() {
                without.push(step.name.as_str());
                continue;
            }
            let Planned { runs, free, passes, flops, floor, bytes } = planned;
            let waste = (flops > 0).then(|| 1.0 - floor as f64 / flops as f64);
            let (gflop, floor_gflop) = (flops as f64 / 1e9, floor as f64 / 1e9);
            let (stream_mib, seconds) = (bytes as f64 / f64::from(1 << 20), flops as f64 / rate / 0.75);
            let [runs, free, passes] = [runs, free, passes].map(|n| n as usize);
            let analysis = step.name.clone();
            costs.push(Cost { analysis, runs, free, passes, gflop, floor_gflop, waste, stream_mib, seconds });
        }
        if !without.is_empty() {
            notes.push(format!("without sweeps: {}", without.join(", ")));
        }
        notes.push(
            "runs: one intervention on one prompt; free: runs that can change nothing and are not made; floor: the light cones alone; \
             seconds: of the sweeps, at the rate of products measured now"
                .to_owned(),
        );
        Ok((Rows::of("plan", &costs), notes))
    }
}
