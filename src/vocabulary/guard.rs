//! The tokenizers library panics on some tokenizer files. Whatever a file holds, here it comes to a value or a sentence.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

use tokenizers::Tokenizer;

thread_local! {
    /// Whether this thread is inside of the library, whose panics are errors and not shown.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// The tokenizer that a file's bytes describe, or why there is none.
pub(crate) fn parse(bytes: &[u8]) -> Result<Tokenizer, String> {
    guarded(|| Tokenizer::from_bytes(bytes))
}

/// text → ids, with the special tokens that the tokenizer adds or without.
pub(crate) fn encode(tokenizer: &Tokenizer, text: &str, special: bool) -> Result<Vec<u32>, String> {
    guarded(|| Ok(tokenizer.encode(text, special)?.get_ids().to_vec()))
}

/// ids → text.
pub(super) fn decode(tokenizer: &Tokenizer, ids: &[u32]) -> Result<String, String> {
    guarded(|| tokenizer.decode(ids, false))
}

fn guarded<T>(call: impl FnOnce() -> tokenizers::Result<T>) -> Result<T, String> {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let usual = take_hook();
        set_hook(Box::new(move |panic| match INSIDE.get() {
            true => {}
            false => usual(panic),
        }));
    });
    INSIDE.set(true);
    // A tokenizer holds nothing that a call left half-done could spoil but a cache, which it stops using.
    let outcome = catch_unwind(AssertUnwindSafe(call));
    INSIDE.set(false);
    match outcome {
        Ok(result) => result.map_err(|cause| cause.to_string()),
        Err(panic) => Err(format!("the tokenizer's rules contradict each other ({})", said(panic.as_ref()))),
    }
}

/// What a panic said.
fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no reason given")
}
