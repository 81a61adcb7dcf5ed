//! Keeping freed memory.

use std::sync::Once;

/// The largest block that glibc can be brought to keep.
const KEPT: usize = 32 << 20;

/// Lets the allocator keep what is freed, once in a process.
///
/// glibc gives a large block back to the system as soon as it is freed, and the next activation of that size is mapped anew,
/// page by page, which costs more than computing it. It stops doing so for blocks up to the largest it has seen freed, 32
/// MiB at most: so one is freed. No page of it is ever touched; to other allocators this says nothing.
pub(super) fn keep_freed() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| drop(std::hint::black_box(Vec::<u8>::with_capacity(KEPT - (1 << 16)))));
}
