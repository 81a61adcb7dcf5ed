//! Does a head say what it sees? The token goes through the first layer's MLP alone, then through the head alone, then to the
//! logits (the copy score of Wang et al. 2022, appendix).

use candle_core::Tensor;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::circuit::numbers;
use crate::edit::{Edit, Edits, Op};
use crate::error::{Error, Result};
use crate::lab::Lab;
use crate::model::{Norm, Padding, Stream};
use crate::ops;
use crate::row;
use crate::site::{At, Site, Slice};

row! {
    /// One token through one head.
    pub struct Copied {
        /// The token.
        pub token: String,
        /// Its id.
        pub id: usize,
        /// Layer.
        pub layer: usize,
        /// Head.
        pub head: usize,
        /// How many tokens have a larger logit than the token itself: 0 is the first choice.
        pub rank: usize,
    }
}

/// The tokens asked about: these words, and as many others drawn at random.
pub(super) fn tokens(lab: &Lab, words: &[String], drawn: usize) -> Result<Vec<u32>> {
    let c = &lab.model.config;
    if words.is_empty() && drawn == 0 {
        return Ok(Vec::new());
    }
    if c.d_vocab != c.d_vocab_out {
        return Err(Error::usage(
            format!("this model reads {} tokens and says {}: none is copied", c.d_vocab, c.d_vocab_out),
            "leave `copied` and `words` out",
        ));
    }
    let given = words.iter().map(|word| Ok(lab.vocabulary.single(word)?.0));
    let mut tokens: Vec<u32> = given.collect::<Result<_>>()?;
    let mut others = lab.vocabulary.ordinary(c.d_vocab);
    let mut rng = ChaCha8Rng::seed_from_u64(lab.seed ^ 0xC0_91ED);
    while tokens.len() < words.len() + drawn && !others.is_empty() {
        let token = others.swap_remove(rng.random_range(0..others.len()));
        if !tokens.contains(&token) {
            tokens.push(token);
        }
    }
    match tokens.iter().find(|id| **id as usize >= c.d_vocab) {
        None => Ok(tokens),
        Some(id) => Err(Error::input(
            format!("token id {id} is outside the vocabulary of {}", c.d_vocab),
            "check that tokenizer and model belong together",
        )),
    }
}

/// Each token's rank among what each head makes of it; by token, then layer, then head.
pub(super) fn copied(lab: &Lab, tokens: &[u32]) -> Result<Vec<Copied>> {
    let c = &lab.model.config;
    let each = 4 * lab.model.dtype().size_in_bytes() * c.n_heads * (c.d_model + c.d_vocab_out);
    let most = (lab.memory / 2 / each.max(1) as u64).clamp(1, 1 << 12) as usize;
    let mut rows = Vec::new();
    lab.progress.begin("copied tokens", tokens.len() as u64);
    for batch in tokens.chunks(most) {
        let seen = first_impression(lab, batch)?;
        let ranks: Vec<Vec<usize>> = (0..c.n_layers)
            .map(|layer| {
                lab.check()?;
                ranks(lab, layer, &seen, batch)
            })
            .collect::<Result<_>>()?;
        for (i, &id) in batch.iter().enumerate() {
            for (layer, head) in
                (0..c.n_layers).flat_map(|layer| (0..c.n_heads).map(move |head| (layer, head)))
            {
                let (token, rank) = (lab.vocabulary.token(id), ranks[layer][i * c.n_heads + head]);
                rows.push(Copied { token, id: id as usize, layer, head, rank });
            }
        }
        lab.progress.advance(batch.len() as u64);
    }
    lab.progress.end();
    Ok(rows)
}

/// Embeddings with what the first layer's MLP adds to them, nothing else having happened `[token, 1, d_model]`.
fn first_impression(lab: &Lab, tokens: &[u32]) -> Result<Tensor> {
    let model = &lab.model;
    let ids = Tensor::new(tokens, model.device())?;
    let resid = model.embed.index_select(&ids, 0)?.unsqueeze(1)?;
    let alone = Stream { layer: 0, first_pos: 0, padding: Padding::default(), resid, learned: None };
    let at = Slice::whole(Site::Block(0, At::AttnOut));
    Ok(model.run(alone, None, 1, &mut Edits::new([Edit { at, op: Op::Scale(0.0) }]))?.resid)
}

/// `[token · head]`, heads of a token together.
fn ranks(lab: &Lab, layer: usize, seen: &Tensor, tokens: &[u32]) -> Result<Vec<usize>> {
    let (model, block) = (&lab.model, lab.model.block(layer)?);
    let a = &block.attention;
    let gain_alone = |norm: &Norm, x: &Tensor| Norm { bias: None, ..norm.clone() }.apply(x);
    let (count, group) = (tokens.len(), a.n_heads / a.n_kv_heads);
    let v = ops::linear(&gain_alone(&block.ln1, seen)?, &a.v.w, None)?;
    let v = v.reshape((count, 1, a.n_kv_heads, 1, a.d_head))?;
    let v = v.broadcast_as((count, 1, a.n_kv_heads, group, a.d_head))?;
    let z = v.contiguous()?.reshape((count, 1, a.n_heads, a.d_head))?;
    let written = gain_alone(&block.ln1_post, &a.results(&z)?)?; // [token, 1, head, d_model]
    let logits = numbers(&model.unembed.forward(&model.ln_final.apply(&written)?)?)?;
    let own = logits.chunks_exact(model.config.d_vocab_out).enumerate().map(|(i, logits)| {
        let own = logits[tokens[i / a.n_heads] as usize];
        logits.iter().filter(|other| **other > own).count()
    });
    Ok(own.collect())
}
