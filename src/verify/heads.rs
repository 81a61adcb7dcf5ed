//! A head writes its z through its own rows of W_O, and nothing but the heads' z reaches what attention writes.

use super::{Ledger, Promise, Subject, Within};
use crate::edit::{Edit, Op};
use crate::error::Result;
use crate::ops;
use crate::site::{At, Site, Slice};

pub(super) const PROMISE: Promise = Promise {
    name: "heads",
    about: "a head writes z through its rows of W_O; all z = attn_out",
    within: Within::ROUNDING,
    run,
};

fn run(subject: &Subject, ledger: &mut Ledger) -> Result<()> {
    let (tokens, others) = (subject.tokens()?, subject.other_tokens()?);
    let wanted = |site| matches!(site, Site::Block(_, At::Z | At::Result | At::AttnOut));
    let ((_, kept), (_, other)) = (subject.record(&tokens, wanted)?, subject.record(&others, wanted)?);
    for (layer, block) in subject.model().blocks.iter().enumerate() {
        let attention = &block.attention;
        let (z, result) = (kept.block(layer, At::Z)?, kept.block(layer, At::Result)?);
        for head in 0..attention.n_heads {
            let rows = attention.o.w.narrow(0, head * attention.d_head, attention.d_head)?;
            let own = ops::linear(&z.narrow(2, head, 1)?, &rows, None)?;
            let what = format_args!("what head {layer}.{head} writes").to_string();
            ledger.equal(what, &result.narrow(2, head, 1)?, &own)?;
        }
    }
    for layer in subject.layers(2, 0) {
        let replaced = |at| -> Result<_> {
            let site = Site::Block(layer, at);
            let op = Op::Set(other.get(site)?.clone());
            subject.edited(&tokens, [Edit { at: Slice::whole(site), op }])
        };
        let what = format_args!("replacing every z of layer {layer}, against attn_out,").to_string();
        ledger.equal(what, &replaced(At::Z)?, &replaced(At::AttnOut)?)?;
    }
    Ok(())
}
