//! Direct effects sum to what they are shares of.

use candle_core::{DType, Tensor};

use super::{Ledger, Promise, Subject, Within};
use crate::analysis::Analysis;
use crate::analysis::attribution::Attribution;
use crate::error::{Error, Result};
use crate::ops;
use crate::site::{At, Site};
use crate::task::{Example, Task};

pub(super) const PROMISE: Promise = Promise {
    name: "attribution",
    about: "direct effects sum to the logit difference",
    within: Within { double: 1e-9, single: 1e-4 },
    run,
};

fn run(subject: &Subject, ledger: &mut Ledger) -> Result<()> {
    if subject.model().config.d_vocab_out < 2 {
        ledger.elsewhere("a vocabulary of one token has no logit difference");
        return Ok(());
    }
    let task = task(subject);
    let found = Attribution::default().run(subject.lab, &task)?;
    let missing = || Error::Tensor("attribution has no table `examples_attribution`".into());
    let table = found.tables.iter().find(|table| table.name == "examples_attribution").ok_or_else(missing)?;
    let last = unbent(subject, ledger)?.to_dtype(DType::F64)?;
    let last: Vec<Vec<f64>> = last.to_vec2()?;
    for (example, logits) in task.examples.iter().zip(last) {
        let logit = |ids: &[u32]| ids.iter().map(|&id| logits[id as usize]).sum::<f64>();
        let want = logit(&example.answers) - logit(&example.wrong);
        let direct = table.only("example", &example.id)?.numbers("direct")?;
        let sum: f64 = direct.into_iter().flatten().sum();
        let size = logit(&example.answers).abs().max(logit(&example.wrong).abs()).max(1.0);
        ledger.within(format_args!("the sum of direct effects in {}", example.id), (sum - want).abs() / size);
    }
    Ok(())
}

/// The logits `[row, d_vocab]` that follow the prompts; where they are bent to a bound, those before that.
fn unbent(subject: &Subject, ledger: &mut Ledger) -> Result<Tensor> {
    let model = subject.model();
    let stream = Site::Block(model.config.n_layers.saturating_sub(1), At::ResidPost);
    let (logits, kept) = subject.record(&subject.tokens()?, |site| site == stream)?;
    let last = |x: &Tensor| -> Result<Tensor> { Ok(x.narrow(1, subject.positions() - 1, 1)?.squeeze(1)?) };
    let logits = last(&logits)?;
    let Some(cap) = model.config.logit_cap else { return Ok(logits) };
    let unbent = model.unembed.forward(&model.ln_final.apply(&last(kept.get(stream)?)?)?)?;
    ledger.equal("what is bent to a bound", &ops::softcap(&unbent, cap)?, &logits)?;
    ledger.remark("logits are bent to a bound: the sum is of those before that");
    Ok(unbent)
}

/// The subject's prompts, each with an answer and a wrong answer: ids half a vocabulary apart.
pub(super) fn task(subject: &Subject) -> Task {
    let d_vocab = subject.model().config.d_vocab_out as u32;
    let example = |(i, clean): (usize, &Vec<u32>)| {
        let answer = clean.last().copied().unwrap_or(0) % d_vocab.max(1);
        let wrong = (answer + (d_vocab / 2).max(1)) % d_vocab.max(1);
        let (id, answers, wrong) = (format!("prompt {i}"), vec![answer], vec![wrong]);
        Example { id, clean: clean.clone(), answers, wrong, ..Example::default() }
    };
    Task {
        name: "verify".into(),
        examples: subject.rows.iter().enumerate().map(example).collect(),
        ..Task::default()
    }
}
