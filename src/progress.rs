//! How long work shows that it is going on: what computes and what fetches tell, `command` draws.

/// How long work shows that it is going on. Implementations must be cheap: they are called often.
pub trait Progress: Send + Sync {
    /// A piece of work of `steps` steps begins.
    fn begin(&self, what: &str, steps: u64);
    /// A piece of work begins whose steps are bytes.
    fn begin_bytes(&self, what: &str, bytes: u64) {
        self.begin(what, bytes);
    }
    /// Some steps are done.
    fn advance(&self, steps: u64);
    /// A word beside the bar: the loss, the cell.
    fn note(&self, note: &str);
    /// The piece of work is over.
    fn end(&self);
}

/// Shows nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _: &str, _: u64) {}
    fn advance(&self, _: u64) {}
    fn note(&self, _: &str) {}
    fn end(&self) {}
}
