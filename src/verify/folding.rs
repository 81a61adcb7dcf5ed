//! Folded weights say the same: every step alone, and all that are valid together. A step that would not is refused.

use candle_core::Tensor;

use super::{Ledger, Promise, Subject, Within};
use crate::error::Result;
use crate::model::{Fold, Folding, NormKind};
use crate::ops;

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
    let norms = model.blocks.iter().flat_map(|block| [&block.ln1, &block.ln2]).chain([&model.ln_final]);
    let centred = norms.into_iter().all(|norm| norm.kind == NormKind::Layer);
    let each = Fold::ALL.map(|step| (step.name(), Folding::Steps(vec![step])));
    for (name, folding) in each.into_iter().chain([("all", Folding::All)]) {
        subject.lab.check()?;
        let invalid = folding == Folding::Steps(vec![Fold::Writers]) && !centred;
        match model.clone().folded(&folding) {
            Ok(_) if invalid => {
                ledger.broken(format_args!("{name} is done, although the norms keep the mean"));
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
