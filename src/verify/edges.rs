//! An edge that is cut changes what its reader reads, by what its writer writes in that very run (promise 12 of the design).
//!
//! The naive way knows no differences: reader by reader, in order of execution, it puts together the stream that the reader is
//! to read from what every writer wrote, sets it, runs the whole model and sees what that reader's part then writes.

use candle_core::Tensor;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{Ledger, Promise, Subject, Within};
use crate::edit::{Edit, Op};
use crate::error::Result;
use crate::graph::{Channel, Exchange, Graph, Reader, Writer, Written};
use crate::model::Base;
use crate::record::{Activations, at_positions};
use crate::site::{At, Site, Slice};

pub(super) const PROMISE: Promise = Promise {
    name: "edges",
    about: "cut edges carry other values, and cuts upstream are felt: all cut is the other run, none is its own",
    within: Within::ROUNDING,
    run,
};

fn run(subject: &Subject, ledger: &mut Ledger) -> Result<()> {
    let model = subject.model();
    let (tokens, graph, pos) = (subject.tokens()?, Graph::of(model), subject.positions());
    let mut rng = ChaCha8Rng::seed_from_u64(subject.lab.seed ^ 0xED6E);
    // from the middle on the prompts are others; what lies before is the same, and not computed where nothing looks ahead
    let middle = pos / 2;
    let rows: Vec<Vec<u32>> =
        subject.rows.iter().zip(&subject.others).map(|(own, other)| mixed(own, other, middle)).collect();
    let others = [subject.other_tokens()?, model.tokens(&[&rows[0], &rows[1]])?];
    let first = if model.config.causal { middle } else { 0 };
    let read = [pos - 1, middle];
    let base = Base::record(model, &tokens, Written::needs)?;
    let own = Written::of(model, &graph, &base.kept)?;
    let unchanged = base.logits(model, &read)?;
    for (others, first_pos) in others.iter().zip([0, first]) {
        let (theirs, kept) = model.record(others, Written::needs)?;
        let other = Written::of(model, &graph, &kept)?;
        let exchange = Exchange { model, graph: &graph, base: &base, own: &own, other: &other, first_pos };
        let none: Vec<usize> = Vec::new();
        let all: Vec<usize> = (0..graph.len()).collect();
        let half: Vec<usize> = (0..graph.len()).filter(|_| rng.random_bool(0.5)).collect();
        let few: Vec<usize> = (0..graph.len()).filter(|_| rng.random_bool(0.1)).collect();
        let logits = exchange.run(0, &[&none, &all, &half, &few], &read)?;
        let copy = |i: usize| logits.narrow(0, 2 * i, 2);
        ledger.equal("no edge cut", &copy(0)?, &unchanged)?;
        ledger.equal("every edge cut", &copy(1)?, &at_positions(&theirs, &read)?)?;
        for (place, cut) in [(2, &half), (3, &few)] {
            let naive = at_positions(&naive(subject, &graph, &base.kept, &other, cut)?, &read)?;
            ledger.equal(format_args!("{} edges cut", cut.len()), &copy(place)?, &naive)?;
        }
    }
    Ok(())
}

/// The first tokens of one prompt, the rest of another.
fn mixed(own: &[u32], other: &[u32], from: usize) -> Vec<u32> {
    own.iter().take(from).chain(other.iter().skip(from)).copied().collect()
}

/// The logits `[batch, pos, d_vocab]` with these edges cut, by whole passes in which readers' inputs are set.
fn naive(
    subject: &Subject,
    graph: &Graph,
    kept: &Activations,
    other: &Written,
    cut: &[usize],
) -> Result<Tensor> {
    let model = subject.model();
    let tokens = subject.tokens()?;
    let mut current = vec![kept.block(0, At::ResidPre)?.clone()];
    let mut edits: Vec<Edit> = Vec::new();
    let set = |site, value: Tensor| Edit { at: Slice::whole(site), op: Op::Set(value) };
    for (layer, block) in model.blocks.iter().enumerate() {
        for channel in Channel::ALL {
            let (at, heads) = match channel {
                Channel::Q => (At::QInput, model.config.n_heads),
                Channel::K => (At::KInput, model.config.n_kv_heads),
                Channel::V => (At::VInput, model.config.n_kv_heads),
            };
            let shared = model.config.n_heads / heads;
            let inputs: Vec<Tensor> = (0..heads)
                .map(|head| {
                    stream(
                        subject,
                        graph,
                        &current,
                        other,
                        cut,
                        Reader::Head { layer, channel, head, shared },
                    )
                })
                .collect::<Result<_>>()?;
            edits.push(set(Site::Block(layer, at), Tensor::stack(&inputs, 2)?));
        }
        let z = wrote(subject, &tokens, &edits, Site::Block(layer, At::Z))?;
        let results = block.attention.results(&z)?;
        let heads: Vec<Tensor> = (0..model.config.n_heads)
            .map(|head| Ok(results.narrow(2, head, 1)?.squeeze(2)?))
            .collect::<Result<_>>()?;
        current.extend(heads);
        if block.has(At::MlpOut) {
            let input = stream(subject, graph, &current, other, cut, Reader::Mlp(layer))?;
            edits.push(set(Site::Block(layer, At::MlpIn), input));
            current.push(wrote(subject, &tokens, &edits, Site::Block(layer, At::MlpOut))?);
        }
    }
    let last = Site::Block(model.config.n_layers - 1, At::ResidPost);
    edits.push(set(last, stream(subject, graph, &current, other, cut, Reader::Logits)?));
    subject.edited(&tokens, edits)
}

/// What is written at a site under these edits.
fn wrote(subject: &Subject, tokens: &Tensor, edits: &[Edit], site: Site) -> Result<Tensor> {
    let mut hook = (crate::edit::Edits::new(edits.to_vec()), crate::record::Recorder::new(|s| s == site));
    subject.forward(tokens, &mut hook)?;
    hook.0.finish()?;
    Ok(hook.1.kept.get(site)?.clone())
}

/// The stream that a reader is to read: the sum of what every writer before it wrote, or would have written, and of biases.
fn stream(
    subject: &Subject,
    graph: &Graph,
    current: &[Tensor],
    other: &Written,
    cut: &[usize],
    reader: Reader,
) -> Result<Tensor> {
    let reader = graph.reader(reader)?;
    let value = |writer: usize| -> &Tensor {
        if cut.contains(&graph.number(writer, reader)) { &other.each[writer] } else { &current[writer] }
    };
    let mut sum = value(0).clone();
    let mut writer = 1;
    while writer < graph.reach(reader) {
        match graph.writers()[writer] {
            Writer::Head(layer, _) => {
                let block = subject.model().block(layer)?;
                let mut attention = value(writer).zeros_like()?;
                for _ in 0..subject.model().config.n_heads {
                    attention = (attention + value(writer))?;
                    writer += 1;
                }
                if let Some(b) = &block.attention.o.b {
                    attention = attention.broadcast_add(b)?;
                }
                sum = (sum + block.ln1_post.apply(&attention)?)?;
            }
            _ => {
                sum = (sum + value(writer))?;
                writer += 1;
            }
        }
    }
    Ok(sum)
}
