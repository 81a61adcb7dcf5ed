//! What can be restored, and the edits that restore it.

use serde::{Deserialize, Serialize};

use super::{Runs, Trace};
use crate::analysis::knockout::around;
use crate::edit::{Edit, Op};
use crate::error::{Error, Result};
use crate::model::Transformer;
use crate::site::{At, Site, Slice};

/// A state that can be restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// The stream that enters a layer.
    ResidPre,
    /// The stream that leaves a layer: the hidden state of the paper.
    ResidPost,
    /// What the MLPs of a window of layers write.
    Mlp,
    /// What the attention of a window of layers writes.
    Attention,
}

/// What a restored stream is cut off from, at its position, in all later layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severed {
    /// MLPs.
    Mlp,
    /// Attention.
    Attention,
}

impl State {
    fn at(self) -> At {
        match self {
            State::ResidPre => At::ResidPre,
            State::ResidPost => At::ResidPost,
            State::Mlp => At::MlpOut,
            State::Attention => At::AttnOut,
        }
    }

    pub(super) fn is_stream(self) -> bool {
        matches!(self, State::ResidPre | State::ResidPost)
    }
}

impl Severed {
    fn at(self) -> At {
        match self {
            Severed::Mlp => At::MlpOut,
            Severed::Attention => At::AttnOut,
        }
    }
}

/// One map of layers and positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kind {
    pub(super) state: State,
    pub(super) severed: Option<Severed>,
}

impl Kind {
    /// The name in tables.
    pub(super) fn name(self) -> &'static str {
        match (self.state, self.severed) {
            (State::ResidPre, None) => "resid_pre",
            (State::ResidPre, Some(Severed::Mlp)) => "resid_pre, mlp severed",
            (State::ResidPre, Some(Severed::Attention)) => "resid_pre, attention severed",
            (State::ResidPost, None) => "resid_post",
            (State::ResidPost, Some(Severed::Mlp)) => "resid_post, mlp severed",
            (State::ResidPost, Some(Severed::Attention)) => "resid_post, attention severed",
            (State::Mlp, _) => "mlp",
            (State::Attention, _) => "attention",
        }
    }

    /// The layers restored together.
    pub(super) fn layers(self, layer: usize, width: usize, layers: usize) -> std::ops::Range<usize> {
        if self.state.is_stream() { layer..layer + 1 } else { around(layer, width, layers) }
    }
}

/// One cell: a state at one layer and position.
#[derive(Debug, Clone, Copy)]
pub(super) struct Restored {
    pub(super) kind: Kind,
    /// The layer, or the middle of the window.
    pub(super) layer: usize,
    /// Index into the task's places.
    pub(super) place: usize,
}

/// The maps asked for; what is named must be there.
pub(super) fn kinds(trace: &Trace, model: &Transformer) -> Result<Vec<Kind>> {
    let there = |at: At| model.blocks.iter().any(|block| block.has(at));
    let no_mlps = |what: &str| {
        Error::usage(
            format!("there are no MLPs to {what}: this model has attention alone"),
            "leave `mlp` out",
        )
    };
    let states = match &trace.states {
        None => {
            let all = [State::ResidPost, State::Mlp, State::Attention];
            all.into_iter().filter(|state| there(state.at())).collect()
        }
        Some(asked) if asked.iter().any(|state| !there(state.at())) => return Err(no_mlps("restore")),
        Some(asked) => asked.clone(),
    };
    if trace.sever.iter().any(|severed| !there(severed.at())) {
        return Err(no_mlps("sever"));
    }
    let mut kinds: Vec<Kind> = Vec::new();
    for &state in &states {
        let severed = trace.sever.iter().filter(|_| state.is_stream()).copied().map(Some);
        for severed in std::iter::once(None).chain(severed) {
            let kind = Kind { state, severed };
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
    }
    if kinds.is_empty() {
        return Err(Error::usage(
            "`states` is empty: nothing would be restored",
            "write `states = [\"resid_post\", \"mlp\", \"attention\"]`, or some of them",
        ));
    }
    if !trace.sever.is_empty() && kinds.iter().all(|kind| kind.severed.is_none()) {
        return Err(Error::usage(
            "`sever` cuts a restored stream off, and no stream is restored",
            "add `resid_post` to `states`",
        ));
    }
    Ok(kinds)
}

/// Every cell, map by map.
pub(super) fn cells(kinds: &[Kind], model: &Transformer, places: usize) -> Vec<Restored> {
    let of = |&kind: &Kind| {
        let layers = 0..model.config.n_layers;
        layers.flat_map(move |layer| (0..places).map(move |place| Restored { kind, layer, place }))
    };
    kinds.iter().flat_map(of).collect()
}

/// Whether the runs must hold a site.
pub(super) fn kept(kinds: &[Kind], model: &Transformer, site: Site) -> bool {
    let Site::Block(layer, at) = site else { return false };
    kinds.iter().any(|kind| {
        let restored = match kind.state {
            State::ResidPost => {
                at == At::ResidPre || at == At::ResidPost && layer + 1 == model.config.n_layers
            }
            state => at == state.at(),
        };
        restored || kind.severed.is_some_and(|severed| at == severed.at())
    })
}

impl Restored {
    /// The edits that restore it at these positions of the rows; none where that changes nothing.
    pub(super) fn edits(
        &self,
        model: &Transformer,
        runs: &Runs,
        place: &[usize],
        width: usize,
    ) -> Result<Vec<Edit>> {
        let layers = model.config.n_layers;
        let mut edits = Vec::new();
        let mut after = layers;
        for layer in self.kind.layers(self.layer, width, layers) {
            // what leaves a block is what the next one receives: starting there saves the block
            let (layer, at) = match (layer, self.kind.state.at()) {
                (layer, At::ResidPost) if layer + 1 < layers => (layer + 1, At::ResidPre),
                place => place,
            };
            after = if at == At::ResidPre { layer } else { layer + 1 };
            if !model.block(layer)?.has(at) {
                continue;
            }
            if let Some(positions) = runs.reach.place(layer, at, place) {
                let slice = Slice::whole(Site::Block(layer, at)).pos(positions);
                let values = slice.take(runs.clean.block(layer, at)?)?;
                edits.push(Edit { at: slice, op: Op::Set(values) });
            }
        }
        let severed = self.kind.severed.filter(|_| !edits.is_empty());
        for (layer, at) in
            severed.into_iter().flat_map(|severed| (after..layers).map(move |l| (l, severed.at())))
        {
            if !model.block(layer)?.has(at) {
                continue;
            }
            if let Some(positions) = runs.reach.place(layer, at, place) {
                let slice = Slice::whole(Site::Block(layer, at)).pos(positions);
                let values = slice.take(runs.corrupt.kept.block(layer, at)?)?;
                edits.push(Edit { at: slice, op: Op::Set(values) });
            }
        }
        Ok(edits)
    }
}
