//! The nodes that attribution patching gives a number to.

use serde::{Deserialize, Serialize};

use super::{Atp, Grain};
use crate::error::{Error, Result};
use crate::model::Transformer;
use crate::site::At;

/// An activation whose patch is approximated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "each is the site of its name; `At` explains them")]
pub enum NodeSite {
    ResidPre,
    ResidMid,
    ResidPost,
    AttnOut,
    MlpOut,
    Z,
    /// What a head writes: linear in `z`, so that the numbers are those of `z`.
    Result,
    Q,
    K,
    V,
    Pattern,
    /// Neurons before the activation function.
    MlpPre,
    /// Neurons as W_out reads them.
    MlpPost,
}

/// What an activation is made of at one position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Units {
    /// One vector.
    Stream,
    /// So many heads, or key-value heads.
    Heads(usize),
    /// So many neurons.
    Neurons(usize),
}

impl NodeSite {
    /// Every one, in the order of the tables.
    pub const ALL: [NodeSite; 13] = [
        NodeSite::ResidPre,
        NodeSite::ResidMid,
        NodeSite::ResidPost,
        NodeSite::AttnOut,
        NodeSite::MlpOut,
        NodeSite::Z,
        NodeSite::Result,
        NodeSite::Q,
        NodeSite::K,
        NodeSite::V,
        NodeSite::Pattern,
        NodeSite::MlpPre,
        NodeSite::MlpPost,
    ];

    /// The place in a block, and the name in tables.
    pub(super) fn at(self) -> (At, &'static str) {
        match self {
            NodeSite::ResidPre => (At::ResidPre, "resid_pre"),
            NodeSite::ResidMid => (At::ResidMid, "resid_mid"),
            NodeSite::ResidPost => (At::ResidPost, "resid_post"),
            NodeSite::AttnOut => (At::AttnOut, "attn_out"),
            NodeSite::MlpOut => (At::MlpOut, "mlp_out"),
            NodeSite::Z => (At::Z, "z"),
            NodeSite::Result => (At::Z, "result"),
            NodeSite::Q => (At::Q, "q"),
            NodeSite::K => (At::K, "k"),
            NodeSite::V => (At::V, "v"),
            NodeSite::Pattern => (At::Pattern, "pattern"),
            NodeSite::MlpPre => (At::MlpPre, "mlp_pre"),
            NodeSite::MlpPost => (At::MlpPost, "mlp_post"),
        }
    }

    pub(super) fn units(self, model: &Transformer) -> Units {
        match self {
            NodeSite::Z | NodeSite::Result | NodeSite::Q | NodeSite::Pattern => {
                Units::Heads(model.config.n_heads)
            }
            NodeSite::K | NodeSite::V => Units::Heads(model.config.n_kv_heads),
            NodeSite::MlpPre | NodeSite::MlpPost => Units::Neurons(model.config.d_mlp),
            _ => Units::Stream,
        }
    }

    /// Whether attention's softmax stands right behind it.
    pub(super) fn is_asked(self) -> bool {
        matches!(self, NodeSite::Q | NodeSite::K)
    }

    /// Whether it reaches the stream only through what its own layer writes.
    pub(super) fn is_inside(self) -> bool {
        !matches!(self, NodeSite::ResidPre | NodeSite::ResidMid | NodeSite::ResidPost)
    }
}

/// One cell of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) grain: Grain,
    pub(super) site: NodeSite,
    pub(super) layer: usize,
    /// Head, key-value head or neuron; 0 in the stream.
    pub(super) unit: usize,
    /// Index into the task's places: the position, of a pattern the query. None means every position.
    pub(super) place: Option<usize>,
    /// The same for the key.
    pub(super) key: Option<usize>,
}

impl Node {
    /// How it is called in a list of its kind.
    pub(super) fn label(&self, places: &[crate::task::Place]) -> String {
        let (_, site) = self.site.at();
        let at = |place: Option<usize>| place.and_then(|p| places.get(p)).map_or("", |place| &place.label);
        let (layer, unit) = (self.layer, self.unit);
        match self.grain {
            Grain::Position => format!("{site} {layer} @ {}", at(self.place)),
            Grain::Head => format!("{site} {layer}.{unit}"),
            Grain::HeadPosition => format!("{site} {layer}.{unit} @ {}", at(self.place)),
            Grain::QueryKey => format!("{layer}.{unit} {} → {}", at(self.place), at(self.key)),
            Grain::Neuron => format!("{site} m{layer}.n{unit}"),
        }
    }
}

impl Atp {
    /// The activations asked for; by default every one that the model has but `result`, which is `z` again, and `mlp_pre`.
    pub(super) fn sites(&self, model: &Transformer) -> Result<Vec<NodeSite>> {
        let there = |site: &NodeSite| model.blocks.iter().any(|block| block.has(site.at().0));
        let Some(asked) = &self.sites else {
            let usual = |site: &NodeSite| !matches!(site, NodeSite::Result | NodeSite::MlpPre);
            return Ok(NodeSite::ALL.into_iter().filter(there).filter(usual).collect());
        };
        match asked.iter().find(|site| !there(site)) {
            None => Ok(asked.clone()),
            Some(NodeSite::ResidMid) => Err(Error::usage(
                "there is no resid_mid to attribute to: in this model no MLP reads a stream that attention has written to",
                "leave `resid_mid` out; `attn_out` is what attention writes",
            )),
            Some(site) => Err(Error::usage(
                format!(
                    "there is no {} to attribute to: no layer of this model has such an MLP",
                    site.at().1
                ),
                "leave it out; `attn_out` and `z` are what attention writes",
            )),
        }
    }

    /// Every cell of every table, table by table.
    pub(super) fn nodes(&self, model: &Transformer, sites: &[NodeSite], places: usize) -> Result<Vec<Node>> {
        let mut nodes = Vec::new();
        for grain in Grain::ALL.into_iter().filter(|grain| self.by.contains(grain)) {
            for &site in sites {
                let units = match (grain, site.units(model)) {
                    (Grain::Position, Units::Stream) => 1,
                    (Grain::Head | Grain::HeadPosition, Units::Heads(heads)) => heads,
                    (Grain::QueryKey, Units::Heads(heads)) if site == NodeSite::Pattern => heads,
                    (Grain::Neuron, Units::Neurons(neurons)) => neurons,
                    _ => continue,
                };
                let every = || (0..places).map(Some);
                let cells: Vec<(Option<usize>, Option<usize>)> = match grain {
                    Grain::Head | Grain::Neuron => vec![(None, None)],
                    Grain::Position | Grain::HeadPosition => every().map(|place| (place, None)).collect(),
                    Grain::QueryKey => every().flat_map(|q| every().map(move |k| (q, k))).collect(),
                };
                let blocks = model.blocks.iter().enumerate().filter(|(_, block)| block.has(site.at().0));
                for (layer, _) in blocks {
                    for unit in 0..units {
                        let node = |&(place, key)| Node { grain, site, layer, unit, place, key };
                        nodes.extend(cells.iter().map(node));
                    }
                }
            }
        }
        if nodes.is_empty() {
            return Err(Error::usage(
                "these sites and grains leave nothing to attribute to",
                "`position` is for resid_pre, resid_mid, resid_post, attn_out and mlp_out; `head` and `head-position` for \
                 z, result, q, k, v and pattern; `query-key` for pattern; `neuron` for mlp_pre and mlp_post",
            ));
        }
        Ok(nodes)
    }
}
