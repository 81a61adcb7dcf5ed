//! The table of places: every value of a forward pass that can be read or written.
//!
//! One macro table gives each place its variant, its classic TransformerLens name and its named axes, in execution
//! order. Display, parsing, slicing, shape checks, `glassbox list sites` and the test that every site is alive derive
//! from it. There is no "custom" site: an unknown name is an error that lists the nearest names.

mod slice;

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};
pub use slice::{Positions, Slice};

/// What an axis of an activation counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Axis {
    /// Row of the batch.
    Batch,
    /// Token position.
    Pos,
    /// Position that attends (destination).
    Query,
    /// Position attended to (source).
    Key,
    /// Attention head.
    Head,
    /// Key-value head: fewer than heads under grouped-query attention.
    KvHead,
    /// Component of a head's vector.
    DHead,
    /// Component of the residual stream.
    DModel,
    /// Expert.
    Expert,
    /// MLP neuron.
    DMlp,
    /// Neuron of an expert.
    DExpert,
    /// Token of the vocabulary.
    DVocab,
    /// A single number.
    One,
}

impl Axis {
    /// The word used in docs and tables: `batch`, `pos`, `head`, ….
    pub fn word(self) -> &'static str {
        match self {
            Axis::Batch => "batch",
            Axis::Pos => "pos",
            Axis::Query => "query",
            Axis::Key => "key",
            Axis::Head => "head",
            Axis::KvHead => "kv_head",
            Axis::DHead => "d_head",
            Axis::DModel => "d_model",
            Axis::Expert => "expert",
            Axis::DMlp => "d_mlp",
            Axis::DExpert => "d_expert",
            Axis::DVocab => "d_vocab",
            Axis::One => "1",
        }
    }
}

macro_rules! block_sites {
    ($($(#[doc = $doc:literal])* $at:ident $name:literal [$($axis:ident)*])*) => {
        /// A place inside one block, in execution order.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum At { $($(#[doc = $doc])* $at,)* }

        impl At {
            /// Every place of a block, in execution order.
            pub const ALL: &'static [At] = &[$(At::$at),*];

            /// The classic name after `blocks.{layer}.`.
            pub fn name(self) -> &'static str {
                match self { $(At::$at => $name),* }
            }

            /// The named axes of the activation there.
            pub fn axes(self) -> &'static [Axis] {
                match self { $(At::$at => &[$(Axis::$axis),*]),* }
            }

            /// One sentence on what stands there.
            pub fn about(self) -> &'static str {
                match self { $(At::$at => concat!($($doc),*)),* }
            }
        }
    };
}

block_sites! {
    /// The residual stream as the block receives it.
    ResidPre  "hook_resid_pre"        [Batch Pos DModel]
    /// What each head's query reads: a copy of the stream per head, before the norm (only when asked for by name).
    QInput    "hook_q_input"          [Batch Pos Head DModel]
    /// What each key head reads (only when asked for by name).
    KInput    "hook_k_input"          [Batch Pos KvHead DModel]
    /// What each value head reads (only when asked for by name).
    VInput    "hook_v_input"          [Batch Pos KvHead DModel]
    /// The divisor of the first norm.
    Ln1Scale  "ln1.hook_scale"        [Batch Pos One]
    /// The normalised stream, before gain and bias.
    Ln1       "ln1.hook_normalized"   [Batch Pos DModel]
    /// Queries, before any rotation.
    Q         "attn.hook_q"           [Batch Pos Head DHead]
    /// Keys, before any rotation.
    K         "attn.hook_k"           [Batch Pos KvHead DHead]
    /// Values.
    V         "attn.hook_v"           [Batch Pos KvHead DHead]
    /// Queries after their norm, before its gain (models with a norm of queries).
    QNormed   "attn.q_norm.hook_normalized" [Batch Pos Head DHead]
    /// Keys after their norm, before its gain (models with a norm of keys).
    KNormed   "attn.k_norm.hook_normalized" [Batch Pos KvHead DHead]
    /// Queries after the rotation by position (rotary models).
    RotQ      "attn.hook_rot_q"       [Batch Pos Head DHead]
    /// Keys after the rotation by position (rotary models).
    RotK      "attn.hook_rot_k"       [Batch Pos KvHead DHead]
    /// Attention scores after scale, cap, distance biases and mask; masked scores are −∞.
    Scores    "attn.hook_attn_scores" [Batch Head Query Key]
    /// Attention probabilities; what a sink takes is missing from a row's sum.
    Pattern   "attn.hook_pattern"     [Batch Head Query Key]
    /// Each head's mix of values.
    Z         "attn.hook_z"           [Batch Pos Head DHead]
    /// What each head writes, without the shared bias (costly: computed only when wanted).
    Result    "attn.hook_result"      [Batch Pos Head DModel]
    /// The divisor of the norm behind attention (models that have one).
    Ln1PostScale "ln1_post.hook_scale"   [Batch Pos One]
    /// What attention wrote, normalised, before gain and bias.
    Ln1Post   "ln1_post.hook_normalized" [Batch Pos DModel]
    /// What attention adds to the stream.
    AttnOut   "hook_attn_out"         [Batch Pos DModel]
    /// The stream between attention and MLP (not where both read the same).
    ResidMid  "hook_resid_mid"        [Batch Pos DModel]
    /// What the MLP reads, before its norm (only when asked for by name).
    MlpIn     "hook_mlp_in"           [Batch Pos DModel]
    /// The divisor of the second norm.
    Ln2Scale  "ln2.hook_scale"        [Batch Pos One]
    /// The normalised stream, before gain and bias.
    Ln2       "ln2.hook_normalized"   [Batch Pos DModel]
    /// The router's logits: which experts a token goes to (models with experts).
    Router    "mlp.hook_gate"         [Batch Pos Expert]
    /// The weight of each expert's output, 0 for those not chosen.
    ExpertWeights "mlp.hook_expert_weights" [Batch Pos Expert]
    /// Neurons of every expert before the activation function (costly: computed for all experts only when wanted).
    ExpertPre "mlp.experts.hook_pre"  [Batch Pos Expert DExpert]
    /// The linear branch of every expert (costly, likewise).
    ExpertLinear "mlp.experts.hook_pre_linear" [Batch Pos Expert DExpert]
    /// Neurons of every expert after the activation function (costly, likewise).
    ExpertPost "mlp.experts.hook_post" [Batch Pos Expert DExpert]
    /// Neurons before the activation function (of a gated MLP: the gate).
    MlpPre    "mlp.hook_pre"          [Batch Pos DMlp]
    /// The linear branch of a gated MLP.
    MlpLinear "mlp.hook_pre_linear"   [Batch Pos DMlp]
    /// Neurons after the activation function, before the norm over them (models that have one).
    MlpMid    "mlp.hook_mid"          [Batch Pos DMlp]
    /// The divisor of the norm over neurons.
    MlpScale  "mlp.ln.hook_scale"     [Batch Pos One]
    /// Neurons normalised, before gain and bias.
    MlpNormed "mlp.ln.hook_normalized" [Batch Pos DMlp]
    /// Neurons as W_out reads them.
    MlpPost   "mlp.hook_post"         [Batch Pos DMlp]
    /// The divisor of the norm behind the MLP (models that have one).
    Ln2PostScale "ln2_post.hook_scale"   [Batch Pos One]
    /// What the MLP wrote, normalised, before gain and bias.
    Ln2Post   "ln2_post.hook_normalized" [Batch Pos DModel]
    /// What the MLP adds to the stream.
    MlpOut    "hook_mlp_out"          [Batch Pos DModel]
    /// The residual stream as the block leaves it.
    ResidPost "hook_resid_post"       [Batch Pos DModel]
}

impl At {
    /// True for the per-reader copies of the stream, which exist only when asked for by their own name.
    pub fn is_split_input(self) -> bool {
        matches!(self, At::QInput | At::KInput | At::VInput | At::MlpIn)
    }
}

/// A place in the whole pass. The order is the order of execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Site {
    /// Token embeddings `[batch, pos, d_model]`.
    Embed,
    /// Position embeddings `[batch, pos, d_model]` (learned positions only), added to the stream or to what queries and keys read.
    PosEmbed,
    /// A place inside the block of this layer.
    Block(usize, At),
    /// Divisor of the final norm `[batch, pos, 1]`.
    FinalScale,
    /// Normalised final stream, before gain and bias `[batch, pos, d_model]`.
    FinalNorm,
    /// Logits `[batch, pos, d_vocab]`.
    Logits,
}

impl Site {
    /// The named axes of the activation there.
    pub fn axes(self) -> &'static [Axis] {
        match self {
            Site::Embed | Site::PosEmbed | Site::FinalNorm => &[Axis::Batch, Axis::Pos, Axis::DModel],
            Site::Block(_, at) => at.axes(),
            Site::FinalScale => &[Axis::Batch, Axis::Pos, Axis::One],
            Site::Logits => &[Axis::Batch, Axis::Pos, Axis::DVocab],
        }
    }

    /// One sentence on what stands there.
    pub fn about(self) -> &'static str {
        match self {
            Site::Embed => "Token embeddings.",
            Site::PosEmbed => "Position embeddings (models with learned positions).",
            Site::Block(_, at) => at.about().trim(),
            Site::FinalScale => "The divisor of the final norm.",
            Site::FinalNorm => "The normalised final stream, before gain and bias.",
            Site::Logits => "Unnormalised log-probabilities of the next token.",
        }
    }

    /// Where an axis of this kind stands in the activation's shape.
    pub fn axis(self, wanted: Axis) -> Option<usize> {
        self.axes().iter().position(|&axis| axis == wanted)
    }

    /// The layer of a site inside a block.
    pub fn layer(self) -> Option<usize> {
        match self {
            Site::Block(layer, _) => Some(layer),
            _ => None,
        }
    }

    /// The axis words in brackets: `[batch, pos, head, d_head]`.
    pub fn shape_words(self) -> String {
        let words: Vec<&str> = self.axes().iter().map(|axis| axis.word()).collect();
        format!("[{}]", words.join(", "))
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Site::Embed => f.write_str("hook_embed"),
            Site::PosEmbed => f.write_str("hook_pos_embed"),
            Site::Block(layer, at) => write!(f, "blocks.{layer}.{}", at.name()),
            Site::FinalScale => f.write_str("ln_final.hook_scale"),
            Site::FinalNorm => f.write_str("ln_final.hook_normalized"),
            Site::Logits => f.write_str("logits"),
        }
    }
}

impl FromStr for Site {
    type Err = Error;

    fn from_str(name: &str) -> Result<Site> {
        const OUTER: [Site; 5] =
            [Site::Embed, Site::PosEmbed, Site::FinalScale, Site::FinalNorm, Site::Logits];
        let layer_and_rest = name.strip_prefix("blocks.").and_then(|rest| rest.split_once('.'));
        let layer = layer_and_rest.and_then(|(layer, _)| layer.parse::<usize>().ok());
        let inner = layer_and_rest.and_then(|(_, rest)| At::ALL.iter().find(|at| at.name() == rest));
        if let (Some(layer), Some(&at)) = (layer, inner) {
            return Ok(Site::Block(layer, at));
        }
        if let Some(&site) = OUTER.iter().find(|site| site.to_string() == name) {
            return Ok(site);
        }
        let shown = layer.unwrap_or(0);
        let known: Vec<String> = OUTER
            .iter()
            .copied()
            .chain(At::ALL.iter().map(|&at| Site::Block(shown, at)))
            .map(|site| site.to_string())
            .collect();
        Err(Error::unknown("site", name, known.iter().map(String::as_str)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_follow_execution_order() {
        let mut sites = vec![Site::Embed, Site::PosEmbed];
        sites.extend(At::ALL.iter().map(|&at| Site::Block(3, at)));
        sites.extend([Site::FinalScale, Site::FinalNorm, Site::Logits]);
        assert!(sites.is_sorted());
        for site in sites {
            assert_eq!(site.to_string().parse::<Site>().unwrap(), site);
        }
    }

    #[test]
    fn an_unknown_name_lists_near_ones() {
        let error = "blocks.2.attn.hook_zz".parse::<Site>().unwrap_err().to_string();
        assert!(error.contains("blocks.2.attn.hook_z"), "{error}");
        assert!("hook_resid".parse::<Site>().is_err());
        assert!("blocks.x.hook_resid_pre".parse::<Site>().is_err());
    }
}
