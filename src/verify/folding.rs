//! Folded weights say the same: every step alone, and all that are valid together. A step that would not is refused.

use candle_core::Tensor;

use super::{Ledger, Promise, Subject, Within};
use crate::error::Result;
use crate::model::{Block, Fold, Folding, Norm, NormKind, PositionKind, Transformer};
use crate::ops;
use crate::site::At;

pub(super) const PROMISE: Promise = Promise {
    name: "folding",
    about: "folded weights give the same log-probabilities",
    within: Within::ROUNDING,
    run,
};

fn run(subject: &Subject, ledger: &mut Ledger) -> Result<()> {
    let (model, tokens) = (subject.model(), subject.tokens()?);
    let log_probs = |logits: &Tensor| -> Result<Tensor> { Ok(ops::log_softmax(logits)?) };
    let want = log_probs(&subject.forward(&tokens, &mut ())?)?;
    let invalid_steps = invalid(model);
    let each = Fold::ALL.map(|step| (step.name(), Folding::Steps(vec![step])));
    for (name, folding) in each.into_iter().chain([("all", Folding::All)]) {
        subject.lab.check()?;
        let invalid = invalid_steps.iter().any(|&step| folding == Folding::Steps(vec![step]));
        match model.clone().folded(&folding) {
            Ok(_) if invalid => {
                ledger.broken(format_args!("{name} is done, although it changes what this model says"));
            }
            Ok((folded, _)) => {
                ledger.equal(
                    format_args!("{name}"),
                    &log_probs(&folded.forward(&tokens, &mut ())?)?,
                    &want,
                )?;
            }
            Err(error) => ledger.holds(invalid, format_args!("{name} is refused: {error}")),
        }
    }
    Ok(())
}

/// The steps that would change what a model says, by what they rest on.
fn invalid(model: &Transformer) -> Vec<Fold> {
    // of a block without an MLP, nothing reads the second norm
    let read = |block: &'_ Block| {
        std::iter::once(block.ln1.clone())
            .chain(block.has(At::MlpIn).then(|| block.ln2.clone()))
            .collect::<Vec<Norm>>()
    };
    let norms: Vec<Norm> = model.blocks.iter().flat_map(read).chain([model.ln_final.clone()]).collect();
    let behind = || model.blocks.iter().flat_map(|block| [&block.ln1_post, &block.ln2_post]);
    let attention = || model.blocks.iter().map(|block| &block.attention);
    let reads_mean = norms.iter().any(|norm| norm.kind != NormKind::Layer)
        || behind().any(|norm| norm.kind == NormKind::Rms);
    let mut invalid = Vec::new();
    for (step, is_invalid) in [
        (Fold::Norms, model.config.positions == PositionKind::Shortformer),
        (Fold::Writers, reads_mean),
        (Fold::Unembed, model.config.logit_cap.is_some()),
        (Fold::ValueBiases, attention().any(|a| a.sinks.is_some() || a.clip.is_some())),
    ] {
        if is_invalid {
            invalid.push(step);
        }
    }
    invalid
}
