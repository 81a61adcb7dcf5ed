//! BLOOM (BigScience 2022): linear biases for positions, and a norm of the embeddings.

use super::parts::{Names, Split, decoder, table_norm};
use super::{Family, shared_width};
use crate::checkpoint::{Keys, Tensors};
use crate::error::Result;
use crate::model::{Block, Config, Layer, PositionKind, Slopes, Transformer};

/// How it is read.
pub const FAMILY: Family = Family {
    name: "bloom",
    about: "LayerNorm, linear biases for positions (ALiBi), a norm of the embeddings (W_E is after it)",
    model_types: &["bloom"],
    config,
    build,
};

/// BLOOM's names, which Falcon has too.
pub(super) const NAMES: Names = Names {
    prefixes: &["transformer."],
    embed: "word_embeddings",
    blocks: "h",
    ln_final: "ln_f",
    head: "lm_head",
    tied: true,
};

fn config(keys: &mut Keys) -> Result<Config> {
    let d_model = match keys.size_opt("n_embed")? {
        Some(d_model) => d_model,
        None => keys.size("hidden_size")?,
    };
    let n_heads = match keys.few_opt("num_attention_heads")? {
        Some(n_heads) => n_heads,
        None => keys.few("n_head")?,
    };
    let d_vocab = keys.size("vocab_size")?;
    let d_head = shared_width(keys, d_model, n_heads, "n_head")?;
    keys.only("apply_residual_connection_post_layernorm", false)?;
    keys.only("n_inner", 4 * d_model)?;
    keys.only("hidden_size", d_model)?;
    keys.only("slow_but_exact", false)?; // with biases left out, where weights were split
    // ways of computing the same sum, and keys that nothing reads
    keys.ignore(&["bias_dropout_fusion", "masked_softmax_fusion", "offset_alibi", "seq_length"]);
    keys.ignore(&["skip_bias_add", "skip_bias_add_qkv", "unk_token_id"]);
    Ok(Config {
        d_model,
        n_layers: keys.few("n_layer")?,
        n_heads,
        n_kv_heads: n_heads,
        d_head,
        d_mlp: 4 * d_model,
        d_vocab,
        d_vocab_out: d_vocab,
        n_ctx: 1 << 20, // no table and no rotation bounds it
        norm_eps: keys.positive_or("layer_norm_epsilon", 1e-5)?,
        positions: PositionKind::None,
        layers: vec![Layer { slopes: Some(Slopes::new(n_heads)), ..Layer::plain(d_head) }],
        ..Config::default()
    })
}

fn build(config: Config, keys: &mut Keys, tensors: &mut Tensors) -> Result<Transformer> {
    let mut model = decoder(config, keys, tensors, &NAMES, None, |part, layer| {
        let names = ["self_attention.query_key_value", "self_attention.dense"];
        let attention = part.fused_attention(layer, names, [true, true], Split::ByGroup)?;
        let (ln1, ln2) = (part.norm("input_layernorm")?, part.norm("post_attention_layernorm")?);
        let mlp = part.plain_mlp(["mlp.dense_h_to_4h", "mlp.dense_4h_to_h"], true)?;
        Block::new(part.c.wiring, ln1, attention, ln2, mlp)
    })?;
    let norm = table_norm(&model.config, tensors, &NAMES, "word_embeddings_layernorm")?;
    model.embed = norm.apply(&model.embed)?;
    Ok(model)
}
