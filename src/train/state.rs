//! The state of a run in one safetensors file: weights and moments as tensors, step and log as metadata.

use std::collections::HashMap;

use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::recipe::Recipe;
use super::{GateRow, Logged, Trainer, adamw, files};
use crate::error::{Error, Result};

/// What stands in the metadata, as JSON.
#[derive(Serialize, Deserialize)]
struct Progressed {
    recipe: Recipe,
    step: usize,
    /// step, loss, attention loss, gradient norm, learning rate.
    logged: Vec<(usize, f64, f64, f64, f64)>,
    /// step, gate, value, bound, at most, holds.
    gates: Vec<(usize, String, f64, f64, bool, bool)>,
}

/// The metadata key.
const KEY: &str = "training";

pub(super) fn save(trainer: &Trainer) -> Result<Vec<u8>> {
    let logged = trainer.logged.iter();
    let gates = trainer.gates.iter();
    let progressed = Progressed {
        recipe: trainer.recipe.clone(),
        step: trainer.step,
        logged: logged
            .map(|l| (l.step, l.loss, l.attention_loss, l.gradient_norm, l.learning_rate))
            .collect(),
        gates: gates.map(|g| (g.step, g.gate.clone(), g.value, g.bound, g.at_most, g.holds)).collect(),
    };
    let text = serde_json::to_string(&progressed).map_err(|error| unreadable(&error.to_string()))?;
    let tensors = adamw::state(&trainer.network.parameters)?.into_iter().collect();
    files::safetensors(tensors, Some(HashMap::from([(KEY.to_owned(), text)])))
}

pub(super) fn restore(trainer: &mut Trainer, state: &[u8]) -> Result<()> {
    let (_, header) =
        safetensors::SafeTensors::read_metadata(state).map_err(|error| unreadable(&error.to_string()))?;
    let text = header.metadata().as_ref().and_then(|metadata| metadata.get(KEY));
    let Some(text) = text else { return Err(unreadable("it holds no log of a training run")) };
    let progressed: Progressed =
        serde_json::from_str(text).map_err(|error| unreadable(&error.to_string()))?;
    if progressed.recipe != trainer.recipe {
        return Err(Error::usage(
            "the interrupted run was training another recipe",
            "give the recipe that it began with, or leave out --resume",
        ));
    }
    let tensors: HashMap<String, Tensor> = candle_core::safetensors::load_buffer(state, &Device::Cpu)?;
    adamw::restore(&mut trainer.network.parameters, &tensors)?;
    trainer.step = progressed.step;
    let logged = progressed.logged.into_iter();
    trainer.logged = logged
        .map(|(step, loss, attention_loss, gradient_norm, learning_rate)| Logged {
            step,
            loss,
            attention_loss,
            gradient_norm,
            learning_rate,
        })
        .collect();
    let gates = progressed.gates.into_iter();
    trainer.gates = gates
        .map(|(step, gate, value, bound, at_most, holds)| GateRow {
            step,
            gate,
            value,
            bound,
            at_most,
            holds,
        })
        .collect();
    Ok(())
}

fn unreadable(why: &str) -> Error {
    Error::input(
        format!("the saved state of the training run cannot be used: {why}"),
        "train anew, without --resume",
    )
}
