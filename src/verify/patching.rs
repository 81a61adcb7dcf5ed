//! Values taken from another run make it that run; its own values change nothing.

use super::{Ledger, Promise, Subject, Within};
use crate::edit::{Edit, Op};
use crate::error::Result;
use crate::site::{At, Site, Slice};

pub(super) const PROMISE: Promise = Promise {
    name: "patching",
    about: "the stream entering layer 0 is the run; own values change nothing",
    within: Within::ROUNDING,
    run,
};

fn run(subject: &Subject, ledger: &mut Ledger) -> Result<()> {
    let (tokens, others) = (subject.tokens()?, subject.other_tokens()?);
    let (clean, kept) = subject.record(&others, |_| true)?;
    let replaced = |at: Slice, tokens| -> Result<_> {
        let value = at.take(kept.get(at.site)?)?;
        subject.edited(tokens, [Edit { at, op: Op::Set(value) }])
    };
    let entering = Slice::whole(Site::Block(0, At::ResidPre));
    ledger.equal("the run whose stream was taken", &replaced(entering, &tokens)?, &clean)?;
    let sites: Vec<Site> = subject.model().every_site().collect();
    for site in sites {
        let Site::Block(layer, at) = site else { continue };
        if subject.layers(At::ALL.len(), at as usize).contains(&layer) {
            let same = replaced(Slice::whole(site), &others)?;
            ledger.equal(format_args!("the run with its own {site}"), &same, &clean)?;
        }
    }
    Ok(())
}
