//! Direct effects sum to what they are shares of.

use super::{Ledger, Promise, Subject, Within};
use crate::analysis::Analysis;
use crate::analysis::attribution::Attribution;
use crate::error::{Error, Result};
use crate::task::{Example, Task};

pub(super) const PROMISE: Promise = Promise {
    name: "attribution",
    about: "direct effects sum to the logit difference",
    within: Within { double: 1e-9, single: 1e-4 },
    run,
};

fn run(subject: &Subject, ledger: &mut Ledger) -> Result<()> {
    let d_vocab = subject.model().config.d_vocab as u32;
    if d_vocab < 2 {
        ledger.elsewhere("a vocabulary of one token has no logit difference");
        return Ok(());
    }
    let task = task(subject);
    let found = Attribution::default().run(subject.lab, &task)?;
    let missing = || Error::Tensor("attribution has no table `examples_attribution`".into());
    let table = found.tables.iter().find(|table| table.name == "examples_attribution").ok_or_else(missing)?;
    let logits = subject.forward(&subject.tokens()?, &mut ())?;
    let last = logits.narrow(1, subject.positions() - 1, 1)?.squeeze(1)?.to_dtype(candle_core::DType::F64)?;
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

/// The subject's prompts, each with an answer and a wrong answer: ids half a vocabulary apart.
pub(super) fn task(subject: &Subject) -> Task {
    let d_vocab = subject.model().config.d_vocab as u32;
    let example = |(i, clean): (usize, &Vec<u32>)| {
        let answer = clean.last().copied().unwrap_or(0);
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
