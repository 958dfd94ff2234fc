//! Finished work on its way back to the event loop.

use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_deque::{Injector, Steal};

/// A list that any thread adds to and one thread empties, with a bell that rings only when it must.
///
/// No wake-up is lost: the consumer lowers the flag before it looks, a producer pushes before it raises
/// it; so either the consumer's look sees the item, or the producer found the flag down and rings.
pub struct Completions<T> {
    list: Injector<T>,
    rung: AtomicBool,
    bell: Box<dyn Fn() + Send + Sync>,
}

impl<T> std::fmt::Debug for Completions<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Completions").field("rung", &self.rung).finish_non_exhaustive()
    }
}

impl<T> Completions<T> {
    /// `bell` wakes the consumer; it is called from any thread.
    pub fn new(bell: Box<dyn Fn() + Send + Sync>) -> Self {
        Self { list: Injector::new(), rung: AtomicBool::new(false), bell }
    }

    /// Adds an item; rings unless the consumer has been told already.
    pub fn push(&self, item: T) {
        self.list.push(item);
        if !self.rung.swap(true, Ordering::SeqCst) {
            (self.bell)();
        }
    }

    /// Hands every item to `take`, those included that arrive meanwhile. Called by the consumer alone.
    pub fn drain(&self, mut take: impl FnMut(T)) {
        self.rung.swap(false, Ordering::SeqCst);
        loop {
            match self.list.steal() {
                Steal::Success(item) => take(item),
                Steal::Retry => continue,
                Steal::Empty => return,
            }
        }
    }
}
