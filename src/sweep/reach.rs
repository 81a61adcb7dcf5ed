//! What a swap between two runs can change at all: everything outside is exactly zero and needs no run.
//!
//! A causal model's runs agree left of the first token in which their prompts differ, nothing right of the position
//! that is read reaches it, and after the last layer's attention positions do not mix.

use crate::model::Transformer;
use crate::site::{At, Positions, Site};

/// Where, in each row of a batch, a swap can matter: from the first differing token to the position that is read.
#[derive(Debug, Clone)]
pub(crate) struct Reach {
    first: Vec<usize>,
    /// Where the tokens themselves are the same, for each row; nothing is known of runs that differ in more than their tokens.
    alike: Option<Vec<Vec<bool>>>,
    read: Vec<usize>,
    length: usize,
    layers: usize,
    causal: bool,
}

impl Reach {
    /// The reach between the prompts of each row, all of one length, when logits are read at `read`.
    pub(crate) fn new(model: &Transformer, a: &[&[u32]], b: &[&[u32]], read: &[usize]) -> Reach {
        let causal = model.config.causal;
        let first = |(a, b): (&&[u32], &&[u32])| match a.iter().zip(b.iter()).position(|(a, b)| a != b) {
            None => a.len(),
            Some(first) => first * usize::from(causal),
        };
        let alike = |(a, b): (&&[u32], &&[u32])| a.iter().zip(b.iter()).map(|(a, b)| a == b).collect();
        Reach {
            alike: Some(a.iter().zip(b).map(alike).collect()),
            first: a.iter().zip(b).map(first).collect(),
            read: read.to_vec(),
            length: a.first().map_or(0, |prompt| prompt.len()),
            layers: model.config.n_layers,
            causal,
        }
    }

    /// The reach when any position may change, for prompts of one length.
    pub(crate) fn everywhere(model: &Transformer, length: usize, read: &[usize]) -> Reach {
        let (layers, causal) = (model.config.n_layers, model.config.causal);
        Reach { first: vec![0; read.len()], alike: None, read: read.to_vec(), length, layers, causal }
    }

    /// The reach of a change that begins at these positions, one for each row, of prompts of one length.
    pub(crate) fn beginning(model: &Transformer, first: &[usize], length: usize, read: &[usize]) -> Reach {
        let (layers, causal) = (model.config.n_layers, model.config.causal);
        let first = first.iter().map(|first| first * usize::from(causal)).collect();
        Reach { first, alike: None, read: read.to_vec(), length, layers, causal }
    }

    /// The first position at which any two prompts differ; their length if none do. 0 where all positions see each other.
    pub(crate) fn first(&self) -> usize {
        self.first.iter().copied().min().unwrap_or(0)
    }

    /// The positions that a swap at all positions has to set, or none when it can change nothing.
    pub(crate) fn all(&self, layer: usize, at: At) -> Option<Positions> {
        if stays_in_place(self.layers, Site::Block(layer, at)) {
            let matters = self.first.iter().zip(&self.read).any(|(first, read)| first <= read);
            return matters.then(|| per_row(&self.read));
        }
        let from = self.first.iter().copied().min().unwrap_or(self.length);
        let last = self.length.saturating_sub(1);
        let until = if self.causal { self.read.iter().copied().max().unwrap_or(0).min(last) } else { last };
        (from <= until).then(|| Positions::At((from..=until).collect()))
    }

    /// The same for a swap at one position of each row.
    pub(crate) fn place(&self, layer: usize, at: At, place: &[usize]) -> Option<Positions> {
        let rows = self.first.iter().zip(&self.read).zip(place);
        let site = Site::Block(layer, at);
        let stays = stays_in_place(self.layers, site);
        let matters = rows.enumerate().any(|(row, ((_, read), &pos))| {
            !self.same(site, row, pos) && (if stays { pos == *read } else { pos <= *read || !self.causal })
        });
        matters.then(|| per_row(place))
    }

    /// Whether both runs have the same value at a position of a row, as their tokens tell: those up to there are the same, or it is the
    /// embedding of the same token at the same position.
    pub(crate) fn same(&self, site: Site, row: usize, pos: usize) -> bool {
        let embedding = site == Site::Block(0, At::ResidPre);
        let alike =
            || self.alike.as_ref().and_then(|rows| rows.get(row)?.get(pos)).is_some_and(|&alike| alike);
        self.first.get(row).is_some_and(|&first| pos < first) || (embedding && alike())
    }
}

/// Whether what is written there reaches the logits of its own position only.
pub(super) fn stays_in_place(layers: usize, site: Site) -> bool {
    const READ_BY_OTHERS: [At; 9] =
        [At::ResidPre, At::KInput, At::VInput, At::Ln1Scale, At::Ln1, At::K, At::V, At::KNormed, At::RotK];
    matches!(site, Site::Block(layer, at) if layer + 1 == layers && !READ_BY_OTHERS.contains(&at))
}

/// The same position in every row where it is one, so that a sweep's window is as small as can be.
fn per_row(positions: &[usize]) -> Positions {
    match positions {
        [first, rest @ ..] if rest.iter().all(|p| p == first) => Positions::At(vec![*first]),
        _ => Positions::PerRow(positions.to_vec()),
    }
}
