//! What is taken out.

use crate::component::Component;
use crate::error::{Error, Result};
use crate::groups::Group;
use crate::lesion::Part;
use crate::model::{Transformer, Wiring};

/// A component is taken out by default from this share of the largest lost direct effect on.
const NOTABLE: f64 = 0.1;

/// Components taken out together.
#[derive(Debug, Clone)]
pub(super) struct Taken {
    pub(super) name: String,
    pub(super) components: Vec<Component>,
    /// Whether it is a set, to be compared with the sum of its parts.
    pub(super) is_set: bool,
}

impl From<Component> for Taken {
    fn from(component: Component) -> Taken {
        Taken { name: component.to_string(), components: vec![component], is_set: false }
    }
}

impl Taken {
    /// What a name means: `9.6`, `m3`, `a9` for all heads of a layer.
    pub(super) fn named(name: &str, model: &Transformer) -> Result<Taken> {
        let part: Part = name.parse()?;
        part.check(model)?;
        Ok(Taken { name: part.to_string(), components: components(&[part], model)?, is_set: false })
    }

    /// A set as a whole.
    pub(super) fn set(group: Group, model: &Transformer) -> Result<Taken> {
        Ok(Taken { components: components(&group.parts, model)?, name: group.name, is_set: true })
    }

    /// Whether what is taken out can change what this component writes: it is no part of it, and comes after its first part.
    pub(super) fn reaches(&self, component: Component, model: &Transformer) -> bool {
        let after = |part: &Component| match (part.layer(), component.layer()) {
            (Some(own), Some(layer)) if own == layer => {
                let sequential =
                    model.blocks.get(layer).is_some_and(|block| block.wiring == Wiring::Sequential);
                sequential && part.head().is_some() && component == Component::Mlp(layer)
            }
            (own, layer) => own < layer,
        };
        !self.components.contains(&component) && self.components.iter().any(after)
    }
}

/// The heads and MLPs that these parts are.
fn components(parts: &[Part], model: &Transformer) -> Result<Vec<Component>> {
    let mut all = Vec::new();
    for part in parts {
        match *part {
            Part::Writer(component @ (Component::Head(..) | Component::Mlp(_))) => all.push(component),
            Part::Attention(layer) => {
                let heads = model.block(layer)?.attention.n_heads;
                all.extend((0..heads).map(|head| Component::Head(layer, head)));
            }
            _ => {
                return Err(Error::usage(
                    format!("{part} is neither head nor MLP: nothing is asked about its repair"),
                    "name heads as `9.6`, all heads of a layer as `a9`, an MLP as `m9`",
                ));
            }
        }
    }
    all.sort_unstable();
    all.dedup();
    Ok(all)
}

/// Every head and MLP whose lost direct effect is notable, in order of execution.
pub(super) fn notable(components: &[Component], lost: &[Vec<f64>]) -> Vec<Taken> {
    let size = |values: &Vec<f64>| (values.iter().sum::<f64>() / values.len().max(1) as f64).abs();
    let parts = || {
        let both = components.iter().zip(lost);
        both.filter(|(component, _)| matches!(component, Component::Head(..) | Component::Mlp(_)))
    };
    let largest = parts().map(|(_, values)| size(values)).fold(0.0, f64::max);
    let kept = parts().filter(|(_, values)| size(values) >= NOTABLE * largest);
    kept.map(|(&component, _)| Taken::from(component)).collect()
}
