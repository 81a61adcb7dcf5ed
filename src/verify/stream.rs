//! The residual stream is the sum of what is written to it, and attention's part the sum of its heads' and b_O.

use candle_core::Tensor;

use super::{Ledger, Promise, Subject, Within};
use crate::edit::{Edit, Edits, Op};
use crate::error::Result;
use crate::ops;
use crate::record::{Activations, Recorder};
use crate::site::{At, Site, Slice};

pub(super) const PROMISE: Promise = Promise {
    name: "stream",
    about: "the stream is the sum of what is written, under any write",
    within: Within::ROUNDING,
    run,
};

fn run(subject: &Subject, ledger: &mut Ledger) -> Result<()> {
    let tokens = subject.tokens()?;
    let (_, kept) = subject.record(&tokens, |_| true)?;
    check(subject, &kept, None, ledger)?;
    let sites: Vec<Site> = subject.model().every_site().collect();
    for site in sites {
        let Site::Block(layer, at) = site else { continue };
        if !subject.layers(At::ALL.len(), at as usize).contains(&layer) {
            continue;
        }
        let write = Edit { at: Slice::whole(site), op: Op::Add(subject.noise(kept.get(site)?, 2)?) };
        let mut hook = (Edits::new([write]), Recorder::new(joins));
        subject.forward(&tokens, &mut hook)?;
        hook.0.finish()?;
        check(subject, &hook.1.kept, Some(site), ledger)?;
    }
    Ok(())
}

fn joins(site: Site) -> bool {
    matches!(
        site,
        Site::Block(_, At::ResidPre | At::Result | At::AttnOut | At::ResidMid | At::MlpOut | At::ResidPost)
    )
}

/// The sums of every layer, but for a left-hand side that was itself written.
fn check(subject: &Subject, kept: &Activations, written: Option<Site>, ledger: &mut Ledger) -> Result<()> {
    let under = written.map_or(String::new(), |site| format!(" under a write at {site}"));
    for layer in 0..subject.model().config.n_layers {
        let block = subject.model().block(layer)?;
        let sum = |parts: &[At]| -> Result<Tensor> {
            let mut sum = kept.block(layer, At::ResidPre)?.clone();
            for &part in parts {
                sum = (sum + kept.block(layer, part)?)?;
            }
            Ok(sum)
        };
        let mut sums: Vec<(At, Tensor)> = Vec::new();
        if block.has(At::ResidMid) {
            sums.push((At::ResidMid, sum(&[At::AttnOut])?));
            sums.push((At::ResidPost, (kept.block(layer, At::ResidMid)? + kept.block(layer, At::MlpOut)?)?));
        } else {
            let parts = [At::AttnOut, At::MlpOut].into_iter().filter(|&at| block.has(at)).collect::<Vec<_>>();
            sums.push((At::ResidPost, sum(&parts)?));
        }
        for (at, sum) in sums {
            let site = Site::Block(layer, at);
            if written != Some(site) {
                ledger.equal(format_args!("{site}{under}"), kept.get(site)?, &sum)?;
            }
        }
        let site = Site::Block(layer, At::AttnOut);
        let behind = [At::Ln1PostScale, At::Ln1Post].map(|at| Some(Site::Block(layer, at)));
        if written != Some(site) && !behind.contains(&written) {
            let heads = kept.block(layer, At::Result)?.sum(2)?;
            let sum = match &block.attention.o.b {
                Some(bias) => ops::shift_rows(&heads, bias)?,
                None => heads,
            };
            ledger.equal(format_args!("{site}{under}"), kept.get(site)?, &block.ln1_post.apply(&sum)?)?;
        }
        if layer > 0 && written != Some(Site::Block(layer, At::ResidPre)) {
            let (pre, post) = (kept.block(layer, At::ResidPre)?, kept.block(layer - 1, At::ResidPost)?);
            ledger.equal(format_args!("the stream entering layer {layer}{under}"), pre, post)?;
        }
    }
    Ok(())
}
