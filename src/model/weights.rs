//! Weights under their classic names and in their classic layouts: row vectors times matrices, heads apart.

use std::collections::BTreeMap;

use candle_core::Tensor;

use super::{Attention, Block, Dense, Linear, Mlp, Norm, Transformer};
use crate::error::{Error, Result};

impl Transformer {
    /// Every weight, as the model computes with it, by classic name:
    ///
    /// | name | shape |
    /// |---|---|
    /// | `embed.W_E`, `pos_embed.W_pos` | `[d_vocab, d_model]`, `[n_ctx, d_model]` |
    /// | `blocks.{l}.attn.W_Q`, `b_Q` | `[head, d_model, d_head]`, `[head, d_head]` |
    /// | `blocks.{l}.attn.W_K`, `b_K`, `W_V`, `b_V` | the same with `kv_head` |
    /// | `blocks.{l}.attn.W_O`, `b_O` | `[head, d_head, d_model]`, `[d_model]` |
    /// | `blocks.{l}.mlp.W_in`, `W_gate`, `b_in`, `b_gate` | `[d_model, d_mlp]`, `[d_mlp]` |
    /// | `blocks.{l}.mlp.W_out`, `b_out` | `[d_mlp, d_model]`, `[d_model]` |
    /// | `blocks.{l}.mlp.W_router`, `blocks.{l}.mlp.experts.{e}.W_in`, … | `[d_model, expert]`, … |
    /// | `blocks.{l}.ln1.w`, `b`; likewise `ln1_post`, `ln2`, `ln2_post`, `attn.q_norm`, `attn.k_norm`, `mlp.ln`, `ln_final` | `[d_model]` |
    /// | `blocks.{l}.attn.sinks` | `[head]` |
    /// | `unembed.W_U`, `b_U` | `[d_model, d_vocab_out]`, `[d_vocab_out]` |
    ///
    /// Of a gated MLP, `W_gate` is what goes through the activation and `W_in` the linear branch. Multipliers that a family
    /// has are in the weights.
    pub fn weights(&self) -> Result<BTreeMap<String, Tensor>> {
        let mut all = Weights::default();
        all.put("embed.W_E", &self.embed);
        if let Some(table) = &self.pos_embed {
            all.put("pos_embed.W_pos", table);
        }
        for (layer, block) in self.blocks.iter().enumerate() {
            all.block(&format!("blocks.{layer}"), block)?;
        }
        all.norm("ln_final", &self.ln_final);
        all.linear("unembed", "U", &self.unembed);
        Ok(all.0)
    }

    /// One weight by its classic name, or one of every layer stacked: `W_Q` is `[layer, head, d_model, d_head]`, `mlp.W_in`
    /// and `W_in` are `[layer, d_model, d_mlp]`.
    pub fn weight(&self, name: &str) -> Result<Tensor> {
        let all = self.weights()?;
        if let Some(weight) = all.get(name) {
            return Ok(weight.clone());
        }
        let short = |full: &str| full == name || full.rsplit('.').next() == Some(name);
        let of_layer = |layer: usize| {
            let inside = format!("blocks.{layer}.");
            let mut found = all.iter().filter(|(full, _)| full.strip_prefix(&inside).is_some_and(short));
            found.next().filter(|_| found.next().is_none()).map(|(_, weight)| weight.clone())
        };
        let layers: Option<Vec<Tensor>> = (0..self.blocks.len()).map(of_layer).collect();
        match layers.filter(|layers| !layers.is_empty()) {
            Some(layers) => Ok(Tensor::stack(&layers, 0)?),
            None => {
                let single = all.iter().find(|(full, _)| full.rsplit('.').next() == Some(name));
                let known = || Error::unknown("weight", name, all.keys().map(String::as_str));
                single.map(|(_, weight)| weight.clone()).ok_or_else(known)
            }
        }
    }
}

#[derive(Default)]
struct Weights(BTreeMap<String, Tensor>);

impl Weights {
    fn put(&mut self, name: impl Into<String>, weight: &Tensor) {
        self.0.insert(name.into(), weight.clone());
    }

    fn linear(&mut self, place: &str, what: &str, linear: &Linear) {
        self.put(format!("{place}.W_{what}"), &linear.w);
        if let Some(b) = &linear.b {
            self.put(format!("{place}.b_{what}"), b);
        }
    }

    fn norm(&mut self, place: &str, norm: &Norm) {
        if norm.is_some() {
            self.put(format!("{place}.w"), &norm.gain);
            if let Some(b) = &norm.bias {
                self.put(format!("{place}.b"), b);
            }
        }
    }

    fn block(&mut self, place: &str, block: &Block) -> Result<()> {
        for (name, norm) in [
            ("ln1", &block.ln1),
            ("ln1_post", &block.ln1_post),
            ("ln2", &block.ln2),
            ("ln2_post", &block.ln2_post),
        ] {
            self.norm(&format!("{place}.{name}"), norm);
        }
        self.attention(&format!("{place}.attn"), &block.attention)?;
        let place = format!("{place}.mlp");
        match &block.mlp {
            Mlp::Absent => {}
            Mlp::Dense(dense) => self.dense(&place, dense),
            Mlp::Experts(experts) => {
                self.linear(&place, "router", &experts.router);
                for (e, expert) in experts.experts.iter().enumerate() {
                    self.dense(&format!("{place}.experts.{e}"), expert);
                }
            }
        }
        Ok(())
    }

    fn attention(&mut self, place: &str, a: &Attention) -> Result<()> {
        for (what, linear, heads) in
            [("Q", &a.q, a.n_heads), ("K", &a.k, a.n_kv_heads), ("V", &a.v, a.n_kv_heads)]
        {
            let w = linear.w.reshape(((), heads, a.d_head))?.permute((1, 0, 2))?.contiguous()?;
            let b = linear.b.as_ref().map(|b| b.reshape((heads, a.d_head))).transpose()?;
            self.linear(place, what, &Linear { w, b });
        }
        let w = a.o.w.reshape((a.n_heads, a.d_head, ()))?;
        self.linear(place, "O", &Linear { w, b: a.o.b.clone() });
        for (name, norm) in [("q_norm", &a.q_norm), ("k_norm", &a.k_norm)] {
            if let Some(norm) = norm {
                self.norm(&format!("{place}.{name}"), &norm.norm);
            }
        }
        if let Some(sinks) = &a.sinks {
            let sinks = Tensor::new(&sinks[..], &candle_core::Device::Cpu)?;
            self.put(format!("{place}.sinks"), &sinks.to_dtype(a.q.w.dtype())?.to_device(a.q.w.device())?);
        }
        Ok(())
    }

    fn dense(&mut self, place: &str, dense: &Dense) {
        match &dense.linear {
            None => self.linear(place, "in", &dense.pre),
            Some(linear) => {
                self.linear(place, "gate", &dense.pre);
                self.linear(place, "in", linear);
            }
        }
        if let Some(shift) = &dense.shift {
            self.put(format!("{place}.b_in"), shift);
        }
        self.linear(place, "out", &dense.out);
        if let Some(norm) = &dense.norm {
            self.norm(&format!("{place}.ln"), norm);
        }
    }
}
