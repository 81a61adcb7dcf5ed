//! What may watch or change a pass.
//!
//! A hook says which sites it wants and is handed each of those activations as an owned tensor; what it returns takes
//! the activation's place. Recording, editing and measuring gradients are all hooks, and compose as tuples.

use candle_core::Tensor;

use crate::error::Result;
use crate::site::Site;

/// A watcher or changer of activations.
pub trait Hook {
    /// Whether [`Hook::visit`] is to be called at this site. Costly sites are computed only when wanted.
    fn wants(&self, site: Site) -> bool;

    /// Receives the activation at a wanted site and returns what takes its place: a tensor of the same shape.
    ///
    /// `first_pos` is the prompt position of the tensor's first position: 0, except in a windowed pass.
    fn visit(&mut self, site: Site, first_pos: usize, x: Tensor) -> Result<Tensor>;
}

/// Watches nothing.
impl Hook for () {
    fn wants(&self, _: Site) -> bool {
        false
    }

    fn visit(&mut self, _: Site, _: usize, x: Tensor) -> Result<Tensor> {
        Ok(x)
    }
}

impl<H: Hook + ?Sized> Hook for &mut H {
    fn wants(&self, site: Site) -> bool {
        (**self).wants(site)
    }

    fn visit(&mut self, site: Site, first_pos: usize, x: Tensor) -> Result<Tensor> {
        (**self).visit(site, first_pos, x)
    }
}

impl<A: Hook, B: Hook> Hook for (A, B) {
    fn wants(&self, site: Site) -> bool {
        self.0.wants(site) || self.1.wants(site)
    }

    /// The second hook sees what the first returned: `(edits, recorder)` records edited values.
    fn visit(&mut self, site: Site, first_pos: usize, x: Tensor) -> Result<Tensor> {
        let x = if self.0.wants(site) { self.0.visit(site, first_pos, x)? } else { x };
        if self.1.wants(site) { self.1.visit(site, first_pos, x) } else { Ok(x) }
    }
}

/// A closure over every activation (except the costly copies that exist only by name), for exploring; analyses use
/// [`crate::edit::Edits`], which can be printed and batched.
pub struct Each<F>(pub F);

impl<F: FnMut(Site, Tensor) -> Result<Tensor>> Hook for Each<F> {
    fn wants(&self, site: Site) -> bool {
        !matches!(site, Site::Block(_, at) if at.is_split_input())
    }

    fn visit(&mut self, site: Site, _: usize, x: Tensor) -> Result<Tensor> {
        (self.0)(site, x)
    }
}
