//! What most families share: tensors under a name, read as the parts of a block.

use candle_core::Tensor;

use crate::checkpoint::{Keys, Tensors};
use crate::error::{Error, Result};
use crate::model::{
    Attention, Block, Config, Dense, Experts, HeadNorm, Linear, Mlp, Norm, NormKind, QkNorm, Routing,
    Transformer,
};

/// How a family names what lies outside of its blocks.
pub(super) struct Names {
    /// Names may begin with one of these.
    pub(super) prefixes: &'static [&'static str],
    /// Token embeddings, without `.weight`.
    pub(super) embed: &'static str,
    /// Blocks: `layers` for `layers.0.…`.
    pub(super) blocks: &'static str,
    /// The norm before the unembedding.
    pub(super) ln_final: &'static str,
    /// The unembedding; it has no prefix.
    pub(super) head: &'static str,
    /// Whether the unembedding is the embedding where the config does not say.
    pub(super) tied: bool,
}

/// The names of the families that follow Llama.
pub(super) const LLAMA: Names = Names {
    prefixes: &["model."],
    embed: "embed_tokens",
    blocks: "layers",
    ln_final: "norm",
    head: "lm_head",
    tied: false,
};

/// Reads embeddings, blocks, final norm and unembedding. `learned` names the table of positions and says how many of its
/// first rows stand for no position.
pub(super) fn decoder(
    config: Config,
    keys: &mut Keys,
    tensors: &mut Tensors,
    names: &Names,
    learned: Option<(&str, usize)>,
    mut block: impl FnMut(&mut Part, usize) -> Result<Block>,
) -> Result<Transformer> {
    let c = &config;
    let prefix = tensors.prefix(names.prefixes);
    for buffer in ["rotary_emb.inv_freq", "version"] {
        tensors.skip(&format!("{prefix}{buffer}")); // follows from the config, or says who wrote it
    }
    let embed_name = format!("{prefix}{}.weight", names.embed);
    let embed = tensors.take(&embed_name, &[c.d_vocab, c.d_model])?;
    let pos_embed = match learned {
        None => None,
        Some((name, idle)) => {
            let table = tensors.take(&format!("{prefix}{name}.weight"), &[c.n_ctx + idle, c.d_model])?;
            Some(table.narrow(0, idle, c.n_ctx)?.contiguous()?)
        }
    };
    let mut blocks = Vec::new(); // no room is made for what a config promises
    for layer in 0..c.n_layers {
        let name = format!("{prefix}{}.{layer}.", names.blocks);
        blocks.push(block(&mut Part { tensors, c, name }, layer)?);
    }
    let ln_final = match c.final_norm {
        true => Part { tensors, c, name: prefix.to_owned() }.norm(names.ln_final)?,
        false => Norm::none(&embed)?,
    };
    let unembed = unembed(keys, tensors, names, &embed_name, c)?;
    Ok(Transformer { config, embed, pos_embed, blocks, ln_final, unembed })
}

/// The unembedding: the embedding turned over if `tie_word_embeddings`, else the head's own weights.
fn unembed(keys: &mut Keys, tensors: &mut Tensors, names: &Names, embed: &str, c: &Config) -> Result<Linear> {
    let head = format!("{}.weight", names.head);
    let tied = keys.flag_or("tie_word_embeddings", names.tied)?;
    if tied && tensors.has(&head) {
        tensors.copy_of(&head, embed)?;
    }
    // tied, it is read a second time: turned over on the way, which is faster than turning what is there
    let from = if tied { embed } else { &head };
    Ok(Linear { w: tensors.take_turned(from, c.d_vocab, c.d_model)?, b: None })
}

/// The tensors under one name, `model.layers.3.`, and the config they must fit.
pub(super) struct Part<'a> {
    pub(super) tensors: &'a mut Tensors,
    pub(super) c: &'a Config,
    name: String,
}

impl Part<'_> {
    /// The whole name of a part of it.
    pub(super) fn name(&self, part: &str) -> String {
        format!("{}{part}", self.name)
    }

    /// Leaves buffers aside that follow from the config.
    pub(super) fn skip(&mut self, parts: &[&str]) {
        parts.iter().for_each(|part| self.tensors.skip(&self.name(part)));
    }

    /// A tensor of this shape.
    pub(super) fn take(&mut self, part: &str, shape: &[usize]) -> Result<Tensor> {
        self.tensors.take(&self.name(part), shape)
    }

    /// A linear map whose weights the file holds as `[d_out, d_in]`, the way of torch's `Linear`.
    pub(super) fn linear(&mut self, part: &str, d_in: usize, d_out: usize, bias: bool) -> Result<Linear> {
        let w = self.tensors.take_turned(&self.name(&format!("{part}.weight")), d_out, d_in)?;
        let b = bias.then(|| self.take(&format!("{part}.bias"), &[d_out])).transpose()?;
        Ok(Linear { w, b })
    }

    /// A norm of the stream.
    pub(super) fn norm(&mut self, part: &str) -> Result<Norm> {
        self.norm_of(part, self.c.d_model)
    }

    /// A norm of the stream's kind over something of this width.
    pub(super) fn norm_of(&mut self, part: &str, width: usize) -> Result<Norm> {
        let Config { norm: kind, norm_eps: eps, norm_gain, norm_bias, .. } = *self.c;
        let gain = match norm_gain {
            true => self.take(&format!("{part}.weight"), &[width])?,
            false => self.tensors.ones(width)?,
        };
        let bias = norm_bias.then(|| self.take(&format!("{part}.bias"), &[width])).transpose()?;
        Ok(Norm { kind, eps, gain, bias })
    }

    /// No norm.
    pub(super) fn no_norm(&self) -> Result<Norm> {
        Norm::none(&self.tensors.ones(1)?)
    }

    /// Attention whose q, k, v and o have tensors of their own; biases of the first three, and of the last.
    pub(super) fn attention(
        &mut self,
        layer: usize,
        names: [&str; 4],
        qkv: bool,
        o: bool,
    ) -> Result<Attention> {
        let c = self.c;
        let (d, width, kv_width) = (c.d_model, c.n_heads * c.d_head, c.n_kv_heads * c.d_head);
        self.skip(&["self_attn.rotary_emb.inv_freq"]);
        let weights = [
            self.linear(names[0], d, width, qkv)?,
            self.linear(names[1], d, kv_width, qkv)?,
            self.linear(names[2], d, kv_width, qkv)?,
            self.linear(names[3], width, d, o)?,
        ];
        Ok(Attention::new(c, layer, weights))
    }

    /// Attention whose q, k and v lie in one tensor; `split` takes it apart.
    pub(super) fn fused_attention(
        &mut self,
        layer: usize,
        [qkv, o]: [&str; 2],
        [qkv_bias, o_bias]: [bool; 2],
        split: Split,
    ) -> Result<Attention> {
        let c = self.c;
        let width = c.n_heads * c.d_head;
        self.skip(&["self_attention.rotary_emb.inv_freq"]);
        let fused = self.linear(qkv, c.d_model, width + 2 * c.n_kv_heads * c.d_head, qkv_bias)?;
        let [q, k, v] = split.apart(&fused, c)?;
        let o = self.linear(o, width, c.d_model, o_bias)?;
        Ok(Attention::new(c, layer, [q, k, v, o]))
    }

    /// Norms of queries and keys, as the config has them, under these names.
    pub(super) fn qk_norms(&mut self, attention: &mut Attention, names: [&str; 2]) -> Result<()> {
        let c = self.c;
        let mut norm = |name: &str, heads: usize| -> Result<Option<HeadNorm>> {
            let (width, whole) = match c.qk_norm {
                QkNorm::None => return Ok(None),
                QkNorm::Head => (c.d_head, false),
                QkNorm::EachHead => (heads * c.d_head, false),
                QkNorm::Whole => (heads * c.d_head, true),
            };
            Ok(Some(HeadNorm { norm: self.norm_of(name, width)?, whole }))
        };
        attention.q_norm = norm(names[0], c.n_heads)?;
        attention.k_norm = norm(names[1], c.n_kv_heads)?;
        Ok(())
    }

    /// An MLP: in and out.
    pub(super) fn plain_mlp(&mut self, [pre, out]: [&str; 2], bias: bool) -> Result<Mlp> {
        let c = self.c;
        let pre = self.linear(pre, c.d_model, c.d_mlp, bias)?;
        Ok(Mlp::Dense(Dense::plain(pre, self.linear(out, c.d_mlp, c.d_model, bias)?, c.activation)))
    }

    /// A gated MLP of this width: gate, up, down.
    pub(super) fn gated(&mut self, [gate, up, down]: [&str; 3], width: usize, bias: bool) -> Result<Dense> {
        let c = self.c;
        Ok(Dense {
            pre: self.linear(gate, c.d_model, width, bias)?,
            linear: Some(self.linear(up, c.d_model, width, bias)?),
            out: self.linear(down, width, c.d_model, bias)?,
            activation: c.activation,
            shift: None,
            limit: c.mlp_limit,
            norm: None,
        })
    }

    /// The routing of a layer that has experts.
    pub(super) fn routing(&self, layer: usize) -> Result<Routing> {
        self.c.routing(layer).ok_or_else(|| Error::Tensor(format!("layer {layer} has no experts")))
    }

    /// Experts under a name: gate, up, down, each with tensors of its own, and the router, all without biases.
    pub(super) fn experts(&mut self, layer: usize, name: &str, maps: [&str; 3]) -> Result<Experts> {
        let Routing { experts, per_token, renormalised, d_expert } = self.routing(layer)?;
        let router = self.linear(&format!("{name}.gate"), self.c.d_model, experts, false)?;
        let mut all = Vec::new();
        for expert in 0..experts {
            let maps = maps.map(|map| format!("{name}.experts.{expert}.{map}"));
            all.push(self.gated(maps.each_ref().map(String::as_str), d_expert, false)?);
        }
        Ok(Experts { router, experts: all, per_token, renormalised })
    }

    /// The gated MLP of the families that follow Llama.
    pub(super) fn gated_mlp(&mut self, bias: bool) -> Result<Mlp> {
        let names = ["mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"];
        Ok(Mlp::Dense(self.gated(names, self.c.d_mlp, bias)?))
    }
}

/// The names of attention's four maps in the families that follow Llama.
pub(super) const QKVO: [&str; 4] =
    ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"];

/// How queries, keys and values lie in one tensor.
#[derive(Debug, Clone, Copy)]
pub(super) enum Split {
    /// All queries, all keys, all values.
    Thirds,
    /// For each key-value head: its queries, its key, its value.
    ByGroup,
}

impl Split {
    /// The fused map's three parts.
    pub(super) fn apart(self, fused: &Linear, c: &Config) -> Result<[Linear; 3]> {
        let (kv, d) = (c.n_kv_heads, c.d_head);
        let group = c.n_heads / kv;
        // columns: from, heads, of each group
        let (groups, parts) = match self {
            Split::Thirds => (1, [(0, kv * group), (kv * group, kv), (kv * (group + 1), kv)]),
            Split::ByGroup => (kv, [(0, group), (group, 1), (group + 1, 1)]),
        };
        let per_group: usize = parts.iter().map(|(_, heads)| heads).sum();
        let cut = |x: &Tensor, (from, heads): (usize, usize)| -> Result<Tensor> {
            let rows = x.elem_count() / (groups * per_group * d).max(1);
            let x = x.reshape((rows, groups, per_group, d))?.narrow(2, from, heads)?;
            Ok(x.reshape((rows, groups * heads * d))?)
        };
        let part = |at: (usize, usize)| -> Result<Linear> {
            let b = match &fused.b {
                Some(b) => Some(cut(b, at)?.squeeze(0)?),
                None => None,
            };
            Ok(Linear { w: cut(&fused.w, at)?, b })
        };
        Ok([part(parts[0])?, part(parts[1])?, part(parts[2])?])
    }
}

/// Every norm with a gain that the file holds as what is added to 1.
pub(super) fn one_plus(model: &mut Transformer) -> Result<()> {
    let blocks = model.blocks.iter_mut().flat_map(|block| {
        let heads = [&mut block.attention.q_norm, &mut block.attention.k_norm];
        let heads = heads.into_iter().flatten().map(|head| &mut head.norm);
        [&mut block.ln1, &mut block.ln1_post, &mut block.ln2, &mut block.ln2_post].into_iter().chain(heads)
    });
    for norm in blocks.chain([&mut model.ln_final]).filter(|norm| norm.kind != NormKind::None) {
        norm.gain = (&norm.gain + 1.0)?;
    }
    Ok(())
}

/// What a block writes to the stream, times a number.
pub(super) fn scale_writers(model: &mut Transformer, factor: f64) -> Result<()> {
    for block in &mut model.blocks {
        for linear in std::iter::once(&mut block.attention.o).chain(block.mlp.writers()) {
            *linear = times(linear, factor)?;
        }
    }
    Ok(())
}

/// A map whose results are multiplied by a number.
pub(super) fn times(linear: &Linear, factor: f64) -> Result<Linear> {
    let b = linear.b.as_ref().map(|b| b.affine(factor, 0.0)).transpose()?;
    Ok(Linear { w: linear.w.affine(factor, 0.0)?, b })
}

/// The norm of a table of embeddings: what a token is worth after it does not depend on where the token stands.
pub(super) fn table_norm(c: &Config, tensors: &mut Tensors, names: &Names, name: &str) -> Result<Norm> {
    let prefix = tensors.prefix(names.prefixes).to_owned();
    Part { tensors, c, name: prefix }.norm(name)
}
