//! Guards attaching: which threads may attach, and whether a detached thread may attach again before finalisation.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

thread_local! {
    static FORBIDDEN: Cell<bool> = const { Cell::new(false) };
}

/// Marks this thread as one that must never enter Python: the event loop's. Debug builds assert it.
pub fn forbid_on_this_thread() {
    FORBIDDEN.set(true);
}

/// Asserts, in debug builds, that this thread may enter Python.
#[inline]
pub(super) fn check() {
    debug_assert!(!FORBIDDEN.get(), "the event-loop thread must never enter Python");
}

/// Number of threads that are detached in the middle of a call and will attach again.
static DETACHED: AtomicUsize = AtomicUsize::new(0);
/// No thread may detach any more. One that attached again during finalisation would be ended by CPython in our frames.
static CLOSED: AtomicBool = AtomicBool::new(false);

/// A detached thread. Created while the thread is attached, dropped when it is attached again.
pub(super) struct Detached(());

impl Detached {
    /// Returns `None` when the interpreter is about to be finalised. The thread must stay attached then.
    pub(super) fn new() -> Option<Self> {
        DETACHED.fetch_add(1, Ordering::SeqCst);
        let detached = Self(());
        (!CLOSED.load(Ordering::SeqCst)).then_some(detached)
    }
}

impl Drop for Detached {
    fn drop(&mut self) {
        DETACHED.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Lets no thread detach any more, and waits until those that have are attached again. Returns false when the time is
/// over. The caller is detached, so that they can attach.
pub(super) fn close(within: Duration) -> bool {
    CLOSED.store(true, Ordering::SeqCst);
    let deadline = Instant::now() + within;
    while DETACHED.load(Ordering::SeqCst) != 0 {
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(Duration::from_millis(1));
    }
    true
}
