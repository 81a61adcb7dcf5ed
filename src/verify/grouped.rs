//! Heads that share keys and values compute as if each had its own copy.

use candle_core::Tensor;

use super::{Ledger, Promise, Subject, Within};
use crate::edit::{Edit, Op};
use crate::error::Result;
use crate::model::{HeadNorm, Linear, Transformer};
use crate::site::{At, Site, Slice};

pub(super) const PROMISE: Promise = Promise {
    name: "grouped-queries",
    about: "a key-value head = its copies in the model with full heads",
    within: Within::ROUNDING,
    run,
};

fn run(subject: &Subject, ledger: &mut Ledger) -> Result<()> {
    let model = subject.model();
    let (heads, kv_heads) = (model.config.n_heads, model.config.n_kv_heads);
    if heads == kv_heads {
        ledger.elsewhere("every query head has keys and values of its own");
        return Ok(());
    }
    let expanded = expanded(model)?;
    let (tokens, others) = (subject.tokens()?, subject.other_tokens()?);
    let (logits, _) = subject.record(&tokens, |_| false)?;
    ledger.equal("the expanded model", &expanded.forward(&tokens, &mut ())?, &logits)?;
    let wanted = |site| matches!(site, Site::Block(_, At::K | At::V));
    let (_, other) = subject.record(&others, wanted)?;
    let group = heads / kv_heads;
    for layer in subject.layers(4 * kv_heads, 0) {
        for (at, kv_head) in [At::K, At::V].into_iter().flat_map(|at| (0..kv_heads).map(move |h| (at, h))) {
            let site = Site::Block(layer, at);
            let value = Slice::whole(site).head(kv_head).take(other.get(site)?)?;
            let replace = |head| Edit { at: Slice::whole(site).head(head), op: Op::Set(value.clone()) };
            let one = subject.edited(&tokens, [replace(kv_head)])?;
            let mut copies = crate::edit::Edits::new((kv_head * group..(kv_head + 1) * group).map(replace));
            let all = expanded.forward(&tokens, &mut copies)?;
            copies.finish()?;
            ledger.equal(format_args!("replacing head {kv_head} of {site}"), &one, &all)?;
        }
    }
    Ok(())
}

/// The model in which every query head has its own copy of the keys and values it shares.
fn expanded(model: &Transformer) -> Result<Transformer> {
    let mut model = model.clone();
    model.config.n_kv_heads = model.config.n_heads;
    for block in &mut model.blocks {
        let attention = &mut block.attention;
        let (kv_heads, group) = (attention.n_kv_heads, attention.n_heads / attention.n_kv_heads);
        let d_head = attention.d_head;
        let copied = |x: &Tensor| -> Result<Tensor> {
            let rows = x.elem_count() / (kv_heads * d_head);
            let x = x.reshape((rows, kv_heads, 1, d_head))?;
            let x = x.broadcast_as((rows, kv_heads, group, d_head))?.contiguous()?;
            Ok(x.reshape((rows, kv_heads * group * d_head))?)
        };
        for linear in [&mut attention.k, &mut attention.v] {
            let b = linear.b.as_ref().map(|b| Ok::<_, crate::Error>(copied(b)?.squeeze(0)?)).transpose()?;
            *linear = Linear { w: copied(&linear.w)?, b };
        }
        if let Some(HeadNorm { norm, .. }) = &mut attention.k_norm
            && norm.gain.elem_count() == kv_heads * attention.d_head
        {
            norm.gain = copied(&norm.gain)?.squeeze(0)?;
            norm.bias =
                norm.bias.as_ref().map(|b| Ok::<_, crate::Error>(copied(b)?.squeeze(0)?)).transpose()?;
        }
        attention.n_kv_heads = attention.n_heads;
    }
    Ok(model)
}
