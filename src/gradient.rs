//! Gradients of a number with respect to activations.
//!
//! Each wanted site is watched: the first on a way becomes a variable, and what depends on one is passed on by an operation that
//! keeps the gradient coming back. One backward pass gives all of them. In a windowed pass they are exact inside the window
//! and absent to its left.

use std::collections::BTreeMap;

use candle_core::{Tensor, Var};

use crate::error::{Error, Result};
use crate::hook::Hook;
use crate::ops::{self, Arrival};
use crate::record::Activations;
use crate::site::Site;

/// A hook that measures gradients at the sites for which `wanted` says yes.
pub struct Gradients<F> {
    wanted: F,
    watched: BTreeMap<Site, Watched>,
}

/// How the gradient of a site is come by.
enum Watched {
    /// Of a variable in the activation's place, or of a zero added to it.
    Own(Var),
    /// As the backward pass comes by; and the activation, for its shape.
    Passing(Arrival, Tensor),
}

impl<F: Fn(Site) -> bool> Gradients<F> {
    /// Gradients at these sites.
    pub fn new(wanted: F) -> Gradients<F> {
        Gradients { wanted, watched: BTreeMap::new() }
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
        for (site, watched) in self.watched {
            let (grad, x) = match &watched {
                Watched::Own(var) => (grads.get(var.as_tensor()).cloned(), var.as_tensor()),
                Watched::Passing(arrival, x) => (arrival.take(), x),
            };
            found.insert(site, grad.map_or_else(|| x.zeros_like(), Ok)?.detach());
        }
        Ok(Activations(found))
    }
}

impl<F: Fn(Site) -> bool> Hook for Gradients<F> {
    fn wants(&self, site: Site) -> bool {
        (self.wanted)(site)
    }

    fn visit(&mut self, site: Site, _: usize, x: Tensor) -> Result<Tensor> {
        let (watched, y) = match ops::watch(&x)? {
            Some((y, arrival)) => (Watched::Passing(arrival, x.detach()), y),
            None if x.track_op() => {
                let zero = Var::zeros(x.shape(), x.dtype(), x.device())?;
                let y = (&x + zero.as_tensor())?;
                (Watched::Own(zero), y)
            }
            None => {
                let own = Var::from_tensor(&x)?;
                let y = own.as_tensor().clone();
                (Watched::Own(own), y)
            }
        };
        self.watched.insert(site, watched);
        Ok(y)
    }
}
