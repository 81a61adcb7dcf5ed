//! What distinguishes one decoder from another, as numbers and enums.

use super::{Activation, NormKind, PositionKind, Rotary, Slopes, Wiring};

/// The shape and kind of a decoder. No family is named: what makes families differ is a value here.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Width of the residual stream.
    pub d_model: usize,
    /// Blocks.
    pub n_layers: usize,
    /// Query heads per block.
    pub n_heads: usize,
    /// Key-value heads per block.
    pub n_kv_heads: usize,
    /// Width of a head.
    pub d_head: usize,
    /// Neurons per block.
    pub d_mlp: usize,
    /// Tokens that can be read.
    pub d_vocab: usize,
    /// Tokens that can be predicted.
    pub d_vocab_out: usize,
    /// Longest prompt.
    pub n_ctx: usize,
    /// Kind of every norm of the stream.
    pub norm: NormKind,
    /// The norms' ε.
    pub norm_eps: f64,
    /// Whether those norms have gains; else their gains are 1.
    pub norm_gain: bool,
    /// Whether those norms have biases.
    pub norm_bias: bool,
    /// Where in a block norms stand.
    pub norm_places: NormPlaces,
    /// Whether there is a norm before the unembedding.
    pub final_norm: bool,
    /// Whether queries and keys are normed, and over what.
    pub qk_norm: QkNorm,
    /// What the MLP reads.
    pub wiring: Wiring,
    /// What is added for positions outside of attention.
    pub positions: PositionKind,
    /// What attention is like in each layer; a shorter list repeats.
    pub layers: Vec<Layer>,
    /// Bound that attention scores are bent to stay within.
    pub score_cap: Option<f64>,
    /// Bound that queries, keys and values are cut off at.
    pub qkv_clip: Option<f64>,
    /// Whether each head has a score that attends to nothing.
    pub sinks: bool,
    /// Neurons' response.
    pub activation: Activation,
    /// Kind of the MLP.
    pub mlp: MlpKind,
    /// Whether there is a norm over the neurons.
    pub mlp_norm: bool,
    /// Bounds of a gated MLP's two branches.
    pub mlp_limit: Option<f64>,
    /// Experts, in the layers that have them.
    pub experts: Option<Routing>,
    /// Bound that logits are bent to stay within.
    pub logit_cap: Option<f64>,
    /// Whether attention looks left only. Windows are possible only then.
    pub causal: bool,
}

/// Attention in one layer.
#[derive(Debug, Clone, PartialEq)]
pub struct Layer {
    /// Scores are multiplied by this.
    pub scale: f64,
    /// How many keys a query sees, its own position the last of them; all if none.
    pub window: Option<usize>,
    /// Rotation of queries and keys.
    pub rotary: Option<Rotary>,
    /// What scores lose with distance.
    pub slopes: Option<Slopes>,
    /// Whether experts follow, in a model that has them.
    pub experts: bool,
}

impl Layer {
    /// Scores scaled by 1/√d_head, and nothing else.
    pub fn plain(d_head: usize) -> Layer {
        Layer { scale: 1.0 / (d_head as f64).sqrt(), window: None, rotary: None, slopes: None, experts: true }
    }
}

/// Where in a block norms stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormPlaces {
    /// Before attention and before the MLP.
    Before,
    /// Behind each, before it joins the stream.
    After,
    /// Both.
    Around,
}

/// What the norms of queries and keys are over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QkNorm {
    /// There are none.
    None,
    /// Each head, with one gain for all heads.
    Head,
    /// Each head, with a gain of its own.
    EachHead,
    /// All heads together.
    Whole,
}

/// Kind of the MLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MlpKind {
    /// There is none.
    Absent,
    /// act(x·W_in)·W_out.
    Plain,
    /// act(x·W_gate) ⊙ (x·W_in) · W_out.
    Gated,
}

/// How tokens are dealt out to experts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Routing {
    /// How many experts there are.
    pub experts: usize,
    /// How many are chosen for each token.
    pub per_token: usize,
    /// Whether the weights of the chosen sum to 1.
    pub renormalised: bool,
    /// Neurons of each expert.
    pub d_expert: usize,
}

impl Default for Config {
    /// A plain decoder of no size: LayerNorm with gain and bias before each part, learned positions, a plain MLP with
    /// GELU, sequential, causal.
    fn default() -> Config {
        Config {
            d_model: 0,
            n_layers: 0,
            n_heads: 0,
            n_kv_heads: 0,
            d_head: 0,
            d_mlp: 0,
            d_vocab: 0,
            d_vocab_out: 0,
            n_ctx: 0,
            norm: NormKind::Layer,
            norm_eps: 1e-5,
            norm_gain: true,
            norm_bias: true,
            norm_places: NormPlaces::Before,
            final_norm: true,
            qk_norm: QkNorm::None,
            wiring: Wiring::Sequential,
            positions: PositionKind::Learned,
            layers: Vec::new(),
            score_cap: None,
            qkv_clip: None,
            sinks: false,
            activation: Activation::GeluTanh,
            mlp: MlpKind::Plain,
            mlp_norm: false,
            mlp_limit: None,
            experts: None,
            logit_cap: None,
            causal: true,
        }
    }
}

impl Config {
    /// What attention is like in a layer.
    pub fn layer(&self, layer: usize) -> Layer {
        let pattern = self.layers.len().max(1);
        self.layers.get(layer % pattern).cloned().unwrap_or_else(|| Layer::plain(self.d_head))
    }

    /// The routing of a layer, if experts follow its attention.
    pub fn routing(&self, layer: usize) -> Option<Routing> {
        self.experts.filter(|_| self.layer(layer).experts)
    }

    /// Whether a norm stands before attention and MLP.
    pub fn norm_before(&self) -> bool {
        self.norm != NormKind::None && self.norm_places != NormPlaces::After
    }

    /// Whether a norm stands behind attention and MLP.
    pub fn norm_after(&self) -> bool {
        self.norm != NormKind::None && self.norm_places != NormPlaces::Before
    }
}
