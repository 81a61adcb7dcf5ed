//! The same input gives the same numbers.

use super::{Ledger, Promise, Subject, Within, attribution};
use crate::analysis::Analysis;
use crate::analysis::attribution::Attribution;
use crate::error::Result;
use crate::site::Site;

pub(super) const PROMISE: Promise =
    Promise { name: "determinism", about: "the same input gives the same bits", within: Within::EXACT, run };

fn run(subject: &Subject, ledger: &mut Ledger) -> Result<()> {
    let tokens = subject.tokens()?;
    let weights = subject.weights(2, subject.positions())?;
    let whole = |site| !matches!(site, Site::Block(_, at) if at.is_split_input());
    let ((_, first), (_, second)) = (subject.record(&tokens, whole)?, subject.record(&tokens, whole)?);
    let gradients = || subject.gradients(&tokens, &weights, whole);
    let (one, other) = (gradients()?, gradients()?);
    for (what, first, second) in [("", first, second), ("the gradient at ", one, other)] {
        for (site, x) in &second.0 {
            ledger.equal(format_args!("{what}{site}"), x, first.get(*site)?)?;
        }
    }
    let task = attribution::task(subject);
    let tables =
        || Ok::<_, crate::Error>(format!("{:?}", Attribution::default().run(subject.lab, &task)?.tables));
    ledger.holds(tables()? == tables()?, "the tables of `attribution` differ from one run to the next");
    Ok(())
}
