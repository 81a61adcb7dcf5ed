//! Bars on stderr, off when it is no terminal or `--quiet`.

use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::lab::Progress;

/// A bar at a time.
pub(super) struct Bars {
    shown: bool,
    bar: Mutex<Option<ProgressBar>>,
}

impl Bars {
    pub(super) fn new(quiet: bool) -> Bars {
        Bars { shown: !quiet && std::io::stderr().is_terminal(), bar: Mutex::new(None) }
    }

    fn with(&self, f: impl FnOnce(&mut Option<ProgressBar>)) {
        // A poisoned lock means that a thread panicked while drawing: the bar is not worth a second panic.
        if let Ok(mut bar) = self.bar.lock() {
            f(&mut bar);
        }
    }

    /// A bar that shows how far it is by these words of its template.
    fn draw(&self, what: &str, steps: u64, how_far: &str) {
        if !self.shown {
            return;
        }
        let style = ProgressStyle::with_template(&format!(
            "{{prefix:>14}} {{bar:32}} {how_far} {{elapsed}} left {{eta}} {{msg}}"
        ));
        let bar = ProgressBar::new(steps)
            .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
            .with_prefix(what.to_owned());
        bar.enable_steady_tick(Duration::from_millis(250));
        self.with(|slot| *slot = Some(bar));
    }
}

impl Progress for Bars {
    fn begin(&self, what: &str, steps: u64) {
        self.draw(what, steps, "{pos}/{len}");
    }

    fn begin_bytes(&self, what: &str, bytes: u64) {
        self.draw(what, bytes, "{bytes}/{total_bytes}");
    }

    fn advance(&self, steps: u64) {
        // work that turns out longer than it was thought to be does not pass its end
        let left = |bar: &ProgressBar| bar.length().map_or(steps, |all| all.saturating_sub(bar.position()));
        self.with(|bar| bar.iter().for_each(|bar| bar.inc(steps.min(left(bar)))));
    }

    fn note(&self, note: &str) {
        self.with(|bar| bar.iter().for_each(|bar| bar.set_message(note.to_owned())));
    }

    fn end(&self) {
        self.with(|slot| {
            if let Some(bar) = slot.take() {
                bar.finish_and_clear();
            }
        });
    }
}
