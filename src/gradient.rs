//! Gradients of a number with respect to activations.
//!
//! A zero variable is added at each wanted site; its gradient is the gradient of the activation there, and one backward
//! pass gives all of them. In a windowed pass they are exact inside the window and absent to its left.

use std::collections::BTreeMap;

use candle_core::{Tensor, Var};

use crate::error::{Error, Result};
use crate::hook::Hook;
use crate::record::Activations;
use crate::site::Site;

/// A hook that measures gradients at the sites for which `wanted` says yes.
pub struct Gradients<F> {
    wanted: F,
    zeros: BTreeMap<Site, Var>,
}

impl<F: Fn(Site) -> bool> Gradients<F> {
    /// Gradients at these sites.
    pub fn new(wanted: F) -> Gradients<F> {
        Gradients { wanted, zeros: BTreeMap::new() }
    }

    /// The gradients of `score` (summed over its elements, so that rows of a batch stay independent) at every wanted
    /// site that fired. A site on which the score does not depend gets zeros.
    pub fn of(self, score: &Tensor) -> Result<Activations> {
        if !score.track_op() {
            return Err(Error::Tensor(
                "the score does not depend on any site gradients were asked for".into(),
            ));
        }
        let grads = score.sum_all()?.backward()?;
        let mut found = BTreeMap::new();
        for (site, zero) in self.zeros {
            let grad = match grads.get(zero.as_tensor()) {
                Some(grad) => grad.detach(),
                None => zero.as_tensor().zeros_like()?.detach(),
            };
            found.insert(site, grad);
        }
        Ok(Activations(found))
    }
}

impl<F: Fn(Site) -> bool> Hook for Gradients<F> {
    fn wants(&self, site: Site) -> bool {
        (self.wanted)(site)
    }

    fn visit(&mut self, site: Site, _: usize, x: Tensor) -> Result<Tensor> {
        let zero = Var::zeros(x.shape(), x.dtype(), x.device())?;
        let y = (&x + zero.as_tensor())?;
        self.zeros.insert(site, zero);
        Ok(y)
    }
}
