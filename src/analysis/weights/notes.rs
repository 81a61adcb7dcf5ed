//! What a reader of weights must know: what was folded, and what no product of weights can say.

use super::circuit::is_centred;
use crate::lab::Lab;
use crate::model::PositionKind;

pub(super) fn notes(lab: &Lab, mlps: bool, draws: usize) -> Vec<String> {
    let (model, c) = (&lab.model, &lab.model.config);
    let any = |has: fn(&crate::model::Block) -> bool| model.blocks.iter().any(has);
    let mut notes = vec![format!(
        "From the weights alone, in f64. Gains of norms are folded into what reads behind them{}; biases and position vectors \
         are left out, and so is what a norm divides by, which depends on the prompt: between readers of one stream only \
         directions compare.",
        if is_centred(model) {
            ", and the mean over d_model is taken out of writers and readers, because LayerNorm lets none through"
        } else {
            ""
        }
    )];
    if c.d_vocab != c.d_vocab_out {
        notes.push(format!(
            "The model reads {} tokens and says {}: what it would be to copy one is not defined, and `copying` is empty.",
            c.d_vocab, c.d_vocab_out
        ));
    } else if c.logit_cap.is_none() {
        notes.push(
            "For copying scores the unembedding's mean over tokens is taken out: softmax does not see it."
                .to_owned(),
        );
    }
    if any(|block| block.attention.q_norm.is_some() || block.attention.k_norm.is_some()) {
        notes.push(
            "Queries and keys are normed in this model: their product is not bilinear in what they read, and all that is said \
             of W_QK (matching, its norm, composition with queries and keys) is left out."
                .to_owned(),
        );
    } else if any(|block| block.attention.rotary.is_some()) {
        notes.push(
            "Queries and keys rotate with position, so that W_QK depends on the distance: it is taken at distance 0, where \
             rotations cancel."
                .to_owned(),
        );
    }
    if c.n_kv_heads != c.n_heads {
        notes.push(format!(
            "Heads share keys and values in groups of {}: W_V of a group's heads is one, and so is W_K.",
            c.n_heads / c.n_kv_heads.max(1)
        ));
    }
    if any(|block| block.ln1_post.is_some()) {
        notes.push(
            "A norm stands behind attention: its gain is in W_OV, but how much a head adds to the stream depends on what the \
             other heads write, so that norms of W_OV compare heads of one layer alone."
                .to_owned(),
        );
    }
    if any(|block| block.attention.clip.is_some()) {
        notes.push(
            "Queries, keys and values are cut off at a bound: products of weights hold within it.".to_owned(),
        );
    }
    if c.positions == PositionKind::Shortformer {
        notes.push(
            "Position vectors reach queries and keys beside the norm: W_QK here is that of tokens."
                .to_owned(),
        );
    }
    if mlps && any(|block| block.mlp.experts().is_some()) {
        notes.push(
            "Experts write only for the tokens they are chosen for: composition with them is left out."
                .to_owned(),
        );
    }
    if c.n_layers > 1 {
        notes.push(format!(
            "Composition: the baseline is {draws} draws of Gaussian matrices of the same shapes (about 1/√d_model). A score \
             says how well two maps are aligned, not that the model uses them together; a perfect copy spread over k \
             directions scores 1/√k."
        ));
    }
    notes
}
