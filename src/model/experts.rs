//! Experts: several MLPs, of which a router chooses some for each token (Shazeer et al. 2017).

use candle_core::{D, Tensor};

use super::{Dense, Linear, Tap};
use crate::error::Result;
use crate::ops;
use crate::site::At;

/// out = Σ over the chosen experts of weight · expert(x).
#[derive(Debug, Clone)]
pub struct Experts {
    /// `[d_model, expert]`: its results are the router's logits.
    pub router: Linear,
    /// The experts, all of one width.
    pub experts: Vec<Dense>,
    /// How many are chosen for each token: those with the largest logits.
    pub per_token: usize,
    /// Whether the weights of the chosen sum to 1; else they are probabilities among all experts.
    pub renormalised: bool,
}

impl Experts {
    /// x `[batch, pos, d_model]` → same shape.
    ///
    /// Only experts with a weight are computed, each for its tokens; when their own places are wanted, or their weights'
    /// gradient could be, every expert is computed for every token.
    pub(super) fn forward(&self, x: &Tensor, tap: &mut Tap) -> Result<Tensor> {
        let logits = tap.at(At::Router, self.router.forward(x)?)?; // [batch, pos, expert]
        let weights = tap.at(At::ExpertWeights, self.weights(&logits)?)?;
        let all = [At::ExpertWeights, At::ExpertPre, At::ExpertLinear, At::ExpertPost];
        if all.iter().any(|&at| tap.wants(tap.block(at))) {
            self.everywhere(x, &weights, tap)
        } else {
            self.where_chosen(x, &weights)
        }
    }

    /// Logits `[batch, pos, expert]` → weights, 0 for experts that are not chosen. Among equal logits the earlier expert
    /// is chosen.
    fn weights(&self, logits: &Tensor) -> Result<Tensor> {
        let count = logits.dim(D::Minus1)?;
        let values: Vec<f64> = logits
            .flatten_all()?
            .to_device(&candle_core::Device::Cpu)?
            .to_dtype(candle_core::DType::F64)?
            .to_vec1()?;
        let mut chosen = vec![0u8; values.len()];
        for (values, chosen) in values.chunks(count).zip(chosen.chunks_mut(count)) {
            let mut order: Vec<usize> = (0..count).collect();
            order.sort_by(|&a, &b| values[b].total_cmp(&values[a])); // stable: the earlier first among equals
            order.into_iter().take(self.per_token).for_each(|expert| chosen[expert] = 1);
        }
        let chosen = Tensor::from_vec(chosen, logits.shape(), logits.device())?;
        Ok(if self.renormalised {
            let none = Tensor::full(f64::NEG_INFINITY, logits.shape(), logits.device())?;
            ops::softmax(&chosen.where_cond(logits, &none.to_dtype(logits.dtype())?)?)?
        } else {
            (ops::softmax(logits)? * chosen.to_dtype(logits.dtype())?)?
        })
    }

    fn where_chosen(&self, x: &Tensor, weights: &Tensor) -> Result<Tensor> {
        let (batch, pos, d_model) = x.dims3()?;
        let count = self.experts.len();
        let (x, weights) = (x.reshape(((), d_model))?, weights.reshape(((), count))?);
        let values: Vec<f64> = weights
            .flatten_all()?
            .to_device(&candle_core::Device::Cpu)?
            .to_dtype(candle_core::DType::F64)?
            .to_vec1()?;
        let mut out = x.zeros_like()?;
        for (e, expert) in self.experts.iter().enumerate() {
            let rows = values.chunks(count).enumerate().filter(|(_, weights)| weights[e] != 0.0);
            let rows: Vec<u32> = rows.map(|(row, _)| row as u32).collect();
            if rows.is_empty() {
                continue;
            }
            let rows = Tensor::new(rows, x.device())?;
            let own = x.index_select(&rows, 0)?;
            let linear = expert.linear.as_ref().map(|linear| linear.forward(&own)).transpose()?;
            let post = expert.respond(&expert.pre.forward(&own)?, linear.as_ref())?;
            let weight = weights.index_select(&rows, 0)?.narrow(1, e, 1)?; // [row, 1]
            out = out.index_add(&rows, &expert.out.forward(&post)?.broadcast_mul(&weight)?, 0)?;
        }
        Ok(out.reshape((batch, pos, d_model))?)
    }

    fn everywhere(&self, x: &Tensor, weights: &Tensor, tap: &mut Tap) -> Result<Tensor> {
        let each = |of: fn(&Dense) -> Option<&Linear>| -> Result<Option<Tensor>> {
            let linears: Option<Vec<&Linear>> = self.experts.iter().map(of).collect();
            let Some(linears) = linears else { return Ok(None) };
            let outs: Vec<Tensor> = linears.iter().map(|linear| linear.forward(x)).collect::<Result<_>>()?;
            Ok(Some(Tensor::stack(&outs, 2)?)) // [batch, pos, expert, d_expert]
        };
        let Some(pre) = each(|expert| Some(&expert.pre))? else { return Ok(x.zeros_like()?) };
        let pre = tap.at(At::ExpertPre, pre)?;
        let linear = match each(|expert| expert.linear.as_ref())? {
            Some(linear) => Some(tap.at(At::ExpertLinear, linear)?),
            None => None,
        };
        let Some(first) = self.experts.first() else { return Ok(x.zeros_like()?) };
        let post = tap.at(At::ExpertPost, first.respond(&pre, linear.as_ref())?)?;
        let mut out = x.zeros_like()?;
        for (e, expert) in self.experts.iter().enumerate() {
            let own = expert.out.forward(&post.narrow(2, e, 1)?.squeeze(2)?)?;
            out = (out + own.broadcast_mul(&weights.narrow(2, e, 1)?)?)?;
        }
        Ok(out)
    }
}
