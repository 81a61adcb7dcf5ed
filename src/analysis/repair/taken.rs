//! What is taken out.

use crate::component::Component;
use crate::error::{Error, Result};
use crate::lesion::Part;
use crate::model::{Transformer, Wiring};

/// A component is taken out by default from this share of the largest lost direct effect on.
const NOTABLE: f64 = 0.1;

/// Components taken out together.
#[derive(Debug, Clone)]
pub(super) struct Taken {
    pub(super) name: String,
    pub(super) components: Vec<Component>,
}

impl Taken {
    /// What a name means: `9.6`, `m3`, `a9` for all heads of a layer, several with `+` between them.
    pub(super) fn named(name: &str, model: &Transformer) -> Result<Taken> {
        let mut components = Vec::new();
        for part in name.split('+').map(str::trim) {
            let part: Part = part.parse()?;
            part.check(model)?;
            match part {
                Part::Writer(component @ (Component::Head(..) | Component::Mlp(_))) => {
                    components.push(component)
                }
                Part::Attention(layer) => {
                    let heads = model.block(layer)?.attention.n_heads;
                    components.extend((0..heads).map(|head| Component::Head(layer, head)));
                }
                _ => {
                    return Err(Error::usage(
                        format!("{part} is neither head nor MLP: nothing is asked about its repair"),
                        "name heads as `9.6`, all heads of a layer as `a9`, an MLP as `m9`",
                    ));
                }
            }
        }
        components.sort_unstable();
        components.dedup();
        let name = match components[..] {
            [only] => only.to_string(),
            _ => name.to_owned(),
        };
        Ok(Taken { name, components })
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

/// Every head and MLP whose lost direct effect is notable, in order of execution.
pub(super) fn notable(components: &[Component], lost: &[Vec<f64>]) -> Vec<Taken> {
    let size = |values: &Vec<f64>| (values.iter().sum::<f64>() / values.len().max(1) as f64).abs();
    let parts = || {
        let both = components.iter().zip(lost);
        both.filter(|(component, _)| matches!(component, Component::Head(..) | Component::Mlp(_)))
    };
    let largest = parts().map(|(_, values)| size(values)).fold(0.0, f64::max);
    let kept = parts().filter(|(_, values)| size(values) >= NOTABLE * largest);
    kept.map(|(&component, _)| Taken { name: component.to_string(), components: vec![component] }).collect()
}
