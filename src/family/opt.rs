//! OPT (Zhang et al. 2022): GPT-2 with ReLU, and a table of positions whose first two rows stand for none.

use super::parts::{Names, decoder};
use super::{Family, activation, shared_width};
use crate::checkpoint::{Keys, Tensors};
use crate::error::{Error, Result};
use crate::model::{Activation, Block, Config, Layer, Transformer};

/// How it is read.
pub const FAMILY: Family = Family {
    name: "opt",
    about: "LayerNorm before each part, learned positions, ReLU (opt-350m, which norms behind the addition, is refused)",
    model_types: &["opt"],
    config,
    build,
};

const NAMES: Names = Names {
    prefixes: &["model.decoder.", "decoder."],
    embed: "embed_tokens",
    blocks: "layers",
    ln_final: "final_layer_norm",
    head: "lm_head",
    tied: true,
};

fn config(keys: &mut Keys) -> Result<Config> {
    if !keys.flag_or("do_layer_norm_before", true)? {
        return Err(Error::input(
            "config.json: `do_layer_norm_before` is false: this model norms the stream itself, behind each addition",
            "its stream is no sum of what is written to it, on which every method here rests; other sizes of OPT are supported",
        ));
    }
    let (d_model, n_heads) = (keys.size("hidden_size")?, keys.few("num_attention_heads")?);
    let (d_vocab, affine) = (keys.size("vocab_size")?, keys.flag_or("layer_norm_elementwise_affine", true)?);
    let d_head = shared_width(keys, d_model, n_heads, "num_attention_heads")?;
    keys.only("word_embed_proj_dim", d_model)?;
    keys.only("learned_embeddings", true)?;
    keys.only("scale_embeddings", false)?;
    Ok(Config {
        d_model,
        n_layers: keys.few("num_hidden_layers")?,
        n_heads,
        n_kv_heads: n_heads,
        d_head,
        d_mlp: keys.size("ffn_dim")?,
        d_vocab,
        d_vocab_out: d_vocab,
        n_ctx: keys.size("max_position_embeddings")?,
        norm_gain: affine,
        norm_bias: affine,
        final_norm: !keys.flag_or("_remove_final_layer_norm", false)?,
        layers: vec![Layer::plain(d_head)],
        activation: activation(keys, "activation_function", Activation::Relu)?,
        ..Config::default()
    })
}

fn build(config: Config, keys: &mut Keys, tensors: &mut Tensors) -> Result<Transformer> {
    let bias = keys.flag_or("enable_bias", true)?;
    decoder(config, keys, tensors, &NAMES, Some(("embed_positions", 2)), |part, layer| {
        let names = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.out_proj"];
        let attention = part.attention(layer, names, bias, bias)?;
        let (ln1, ln2) = (part.norm("self_attn_layer_norm")?, part.norm("final_layer_norm")?);
        Block::new(part.c.wiring, ln1, attention, ln2, part.plain_mlp(["fc1", "fc2"], bias)?)
    })
}
