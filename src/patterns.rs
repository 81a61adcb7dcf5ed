//! Where heads look on a prompt.

use candle_core::{DType, Device, Tensor};

use crate::error::{Error, Result};
use crate::lab::Lab;
use crate::record::Recorder;
use crate::row;
use crate::row::Rows;
use crate::site::{At, Site};
use crate::task::{Example, Task};

row! {
    /// How much one position attends to another.
    pub struct Attention {
        /// The example.
        pub example: String,
        /// Layer.
        pub layer: usize,
        /// Head.
        pub head: usize,
        /// The position that attends, BOS counted.
        pub query: usize,
        /// The position attended to.
        pub key: usize,
        /// The token at `query`.
        pub query_token: String,
        /// The token at `key`.
        pub key_token: String,
        /// Attention probability: the keys of a query sum to 1, or to less where a sink takes the rest.
        pub weight: f64,
    }
}

/// The attention of every head on the clean prompt `[layer, head, query, key]`.
pub fn of(lab: &Lab, example: &Example) -> Result<Tensor> {
    let model = &lab.model;
    let tokens = model.tokens(&[&example.clean])?;
    let mut recorder = Recorder::new(|site| matches!(site, Site::Block(_, At::Pattern)));
    model.run(model.embed(&tokens, &mut ())?, None, model.config.n_layers, &mut recorder)?;
    let layers: Vec<&Tensor> = recorder.kept.0.values().collect();
    Ok(Tensor::cat(&layers, 0)?)
}

/// Table `attention`: the patterns of these heads (layer, head) on the clean prompt of example number `example`.
/// Causal models are listed without the keys that lie ahead of the query.
pub fn patterns(lab: &Lab, task: &Task, heads: &[(usize, usize)], example: usize) -> Result<Rows> {
    let Some(example) = task.examples.get(example) else {
        let (index, size) = (example, task.examples.len());
        return Err(Error::OutOfRange { what: "example", index, size, site: task.name.clone() });
    };
    let patterns = of(lab, example)?.to_device(&Device::Cpu)?.to_dtype(DType::F64)?;
    let (layers, n_heads, queries, _) = patterns.dims4()?;
    let tokens = lab.vocabulary.tokens(&example.clean);
    let mut rows = Vec::new();
    for &(layer, head) in heads {
        let site = || Site::Block(layer, At::Pattern).to_string();
        if layer >= layers {
            return Err(Error::OutOfRange { what: "layer", index: layer, size: layers, site: site() });
        }
        if head >= n_heads {
            return Err(Error::OutOfRange { what: "head", index: head, size: n_heads, site: site() });
        }
        let pattern: Vec<Vec<f64>> = patterns.get(layer)?.get(head)?.to_vec2()?;
        for (query, weights) in pattern.iter().enumerate() {
            let seen = if lab.model.config.causal { query + 1 } else { queries };
            for (key, &weight) in weights.iter().take(seen).enumerate() {
                rows.push(Attention {
                    example: example.id.clone(),
                    layer,
                    head,
                    query,
                    key,
                    query_token: tokens[query].clone(),
                    key_token: tokens[key].clone(),
                    weight,
                });
            }
        }
    }
    Ok(Rows::of("attention", &rows))
}
