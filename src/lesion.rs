//! Taking parts of a model out: which part, and what it writes instead.
//!
//! A lesion is ordinary edits. Zeros are a place the model has never been; a mean keeps what is the same in all prompts;
//! another prompt's value keeps the activation a possible one. Which of them is right depends on the question, so that
//! callers say it (Chan et al. 2022; Zhang & Nanda 2024).

mod means;
mod random;

use std::fmt;
use std::str::FromStr;

use candle_core::{DType, Device, Tensor};
use serde::Deserialize;

pub use means::Sums;
pub use random::{check_count, random_prompts};

use crate::component::Component;
use crate::edit::{Edit, Op};
use crate::error::{Error, Result};
use crate::model::{Base, Dense, Mlp, Transformer};
use crate::record::Activations;
use crate::site::{At, Positions, Site, Slice};

/// A part that can be taken out by itself. The order is by kind, then by layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// A writer of the stream: a head at its z (so that the shared bias stays), an MLP with its bias, the embeddings.
    Writer(Component),
    /// All that a layer's attention adds to the stream, the shared bias included: `a9`.
    Attention(usize),
    /// One neuron of a layer's MLP, behind its activation function: `m9.n12`.
    Neuron(usize, usize),
}

/// A reference prompt: one of those over which a part's activations are averaged, or from which they are taken.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sample {
    /// Its token ids, BOS included where one is used.
    pub tokens: Vec<u32>,
    /// Its template: positions correspond only within one.
    #[serde(default)]
    pub group: String,
}

impl From<Vec<u32>> for Sample {
    /// A prompt of no template.
    fn from(tokens: Vec<u32>) -> Sample {
        Sample { tokens, group: String::new() }
    }
}

impl AsRef<[u32]> for Sample {
    fn as_ref(&self) -> &[u32] {
        &self.tokens
    }
}

/// What a part writes instead.
#[derive(Debug, Clone, Copy)]
pub enum Instead<'a> {
    /// Nothing: zeros.
    Zero,
    /// These values, by site: `[batch, pos, …]`, or with one row `[1, pos, …]` for all rows, or `[1, 1, …]` for all rows
    /// and positions.
    Values(&'a Activations),
}

impl Part {
    /// Where it is: all of it, at every position. A bias is no activation, and refused.
    pub fn slice(self) -> Result<Slice> {
        let block = |layer, at| Slice::whole(Site::Block(layer, at));
        Ok(match self {
            Part::Writer(Component::Embed) => Slice::whole(Site::Embed),
            Part::Writer(Component::PosEmbed) => Slice::whole(Site::PosEmbed),
            Part::Writer(Component::Head(layer, head)) => block(layer, At::Z).head(head),
            Part::Writer(Component::Mlp(layer)) => block(layer, At::MlpOut),
            Part::Writer(Component::Bias(layer)) => {
                return Err(Error::usage(
                    format!("{self} is a weight that is the same in every run, and cannot be taken out"),
                    format!("take out `a{layer}`, all that this layer's attention writes"),
                ));
            }
            Part::Attention(layer) => block(layer, At::AttnOut),
            Part::Neuron(layer, neuron) => Slice { index: Some(vec![neuron]), ..block(layer, At::MlpPost) },
        })
    }

    /// Checks that this model has such a part.
    pub fn check(self, model: &Transformer) -> Result<()> {
        let Slice { site, head, index, .. } = self.slice()?;
        let mlp = site.layer().and_then(|layer| model.blocks.get(layer)).map(|block| &block.mlp);
        match (self, mlp) {
            (Part::Neuron(layer, _), Some(Mlp::Experts(_))) => {
                return Err(Error::usage(
                    format!("{self} is no part: layer {layer} has experts, which have neurons of their own"),
                    format!("take out all that they write, with `m{layer}`"),
                ));
            }
            (Part::Neuron(layer, _) | Part::Writer(Component::Mlp(layer)), Some(Mlp::Absent)) => {
                return Err(Error::usage(
                    format!("{self} is no part of this model: layer {layer} has attention and no MLP"),
                    "name a head, as `9.6`, or a layer's attention, as `a9`",
                ));
            }
            _ => model.check_site(site)?,
        }
        let neurons = mlp.and_then(Mlp::dense).map(Dense::width).transpose()?.unwrap_or(0);
        let entry = index.and_then(|index| index.first().copied());
        for (what, index, size) in [("head", head, model.config.n_heads), ("neuron", entry, neurons)] {
            if let Some(index) = index.filter(|&index| index >= size) {
                return Err(Error::OutOfRange { what, index, size, site: site.to_string() });
            }
        }
        Ok(())
    }

    /// The edit that takes the part out at these positions of every row.
    pub fn edit(self, instead: Instead, positions: Positions) -> Result<Edit> {
        let at = self.slice()?.pos(positions);
        let values = match instead {
            Instead::Zero => Tensor::zeros(1, DType::F64, &Device::Cpu)?,
            Instead::Values(values) => dealt(&at, values.get(at.site)?)?,
        };
        Ok(Edit { at, op: Op::Set(values) })
    }

    /// The same for a pass that starts inside the blocks, as sweeps do: there the embeddings are changed in the stream that
    /// enters layer 0, which is their sum, by the difference from their own value in the unchanged run `base`. Positions
    /// that only queries and keys read are no part of that sum, and are changed where they are read.
    pub fn edit_inside(self, base: &Base, instead: Instead, positions: Positions) -> Result<Edit> {
        let at = self.slice()?.pos(positions);
        if at.site.layer().is_some() || at.site == Site::PosEmbed && base.shortformer {
            return self.edit(instead, at.pos);
        }
        let mine = at.take(base.kept.get(at.site)?)?.to_device(&Device::Cpu)?;
        let difference = match instead {
            Instead::Zero => mine.neg()?,
            Instead::Values(values) => {
                let theirs = dealt(&at, values.get(at.site)?)?.to_device(&Device::Cpu)?;
                (theirs.repeat((mine.dim(0)? / theirs.dim(0)?.max(1), 1))? - mine)?
            }
        };
        let stream = Slice::whole(Site::Block(0, At::ResidPre)).pos(at.pos);
        Ok(Edit { at: stream, op: Op::Add(difference) })
    }
}

/// The values of a slice, in the order in which an edit deals them out, from an activation that may have one row or one
/// position for all.
fn dealt(at: &Slice, x: &Tensor) -> Result<Tensor> {
    let (rows, pos) = (x.dim(0)?, x.dim(1)?);
    match (rows, pos, &at.pos) {
        (1, 1, _) => at.clone().pos(Positions::All).take(x),
        // one position for each row of the pass, all from the one row there is
        (1, _, Positions::PerRow(list)) => at.clone().pos(Positions::At(list.clone())).take(x),
        (2.., 1, Positions::All) => Err(Error::Shape {
            what: format!("what takes the place of {}", at.site),
            got: x.dims().to_vec(),
            expected: "values for every position, or one row for all".to_owned(),
        }),
        _ => at.take(x),
    }
}

impl From<Component> for Part {
    fn from(component: Component) -> Part {
        Part::Writer(component)
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Part::Writer(component) => component.fmt(f),
            Part::Attention(layer) => write!(f, "a{layer}"),
            Part::Neuron(layer, neuron) => write!(f, "m{layer}.n{neuron}"),
        }
    }
}

impl FromStr for Part {
    type Err = Error;

    /// A component's name, `a9` for all of a layer's attention, or `m9.n12` for a neuron.
    fn from_str(name: &str) -> Result<Part> {
        let attention = || name.strip_prefix('a')?.parse().ok().map(Part::Attention);
        let neuron = || {
            let (layer, neuron) = name.strip_prefix('m')?.split_once(".n")?;
            Some(Part::Neuron(layer.parse().ok()?, neuron.parse().ok()?))
        };
        if let Some(part) = attention().or_else(neuron) {
            return Ok(part);
        }
        name.parse().map(Part::Writer).map_err(|_: Error| {
            Error::usage(
                format!("`{name}` does not name a part of a model"),
                "write a head as `9.6`, `L9H6` or `a9.h6`, a layer's attention as `a9`, its MLP as `m9`, a neuron as \
                 `m9.n12`, the embeddings as `embed` and `pos_embed`",
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        let all = [
            Part::Writer(Component::Embed),
            Part::Writer(Component::Head(0, 3)),
            Part::Writer(Component::Mlp(10)),
            Part::Attention(2),
            Part::Neuron(1, 511),
        ];
        for part in all {
            assert_eq!(part.to_string().parse::<Part>().unwrap(), part);
        }
        assert_eq!("9.6".parse::<Part>().unwrap(), Part::Writer(Component::Head(9, 6)));
        for wrong in ["", "a", "m1.n", "m1.h2", "a1.n2", "n3"] {
            assert!(wrong.parse::<Part>().is_err(), "{wrong}");
        }
        assert!(Part::Writer(Component::Bias(0)).slice().is_err());
    }

    #[test]
    fn one_row_or_one_position_serves_all() {
        let values = |dims: &[usize]| {
            let n = dims.iter().product::<usize>() as f64;
            Tensor::arange(0.0, n, &Device::Cpu).unwrap().reshape(dims).unwrap()
        };
        let numbers = |dims: &[usize], positions: Positions| -> Vec<f64> {
            let at = Part::Writer(Component::Mlp(0)).slice().unwrap().pos(positions);
            dealt(&at, &values(dims)).unwrap().flatten_all().unwrap().to_vec1().unwrap()
        };
        assert_eq!(numbers(&[1, 1, 2], Positions::At(vec![4, 7])), [0., 1.]);
        assert_eq!(numbers(&[1, 3, 2], Positions::At(vec![0, 2])), [0., 1., 4., 5.]);
        assert_eq!(numbers(&[1, 3, 2], Positions::PerRow(vec![2, 0])), [4., 5., 0., 1.]);
        assert_eq!(numbers(&[2, 3, 2], Positions::PerRow(vec![2, 0])), [4., 5., 6., 7.]);
        let at = Part::Writer(Component::Mlp(0)).slice().unwrap();
        assert!(dealt(&at, &values(&[2, 1, 2])).is_err());
    }
}
