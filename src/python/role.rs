//! Which threads may enter Python, and whether those that left it for a moment may come back.

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

/// How many threads have let the interpreter go in the middle of a call and will want it back.
static AWAY: AtomicUsize = AtomicUsize::new(0);
/// Nobody may leave any more: who came back during finalisation would be ended by CPython in our frames.
static CLOSED: AtomicBool = AtomicBool::new(false);

/// A thread that has let the interpreter go: made while it is attached, dropped when it is attached again.
pub(super) struct Away(());

impl Away {
    /// `None` once the interpreter is about to be finalised: stay attached then.
    pub(super) fn new() -> Option<Self> {
        AWAY.fetch_add(1, Ordering::SeqCst);
        let away = Self(());
        (!CLOSED.load(Ordering::SeqCst)).then_some(away)
    }
}

impl Drop for Away {
    fn drop(&mut self) {
        AWAY.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Lets nobody leave any more, and waits for those who are away. False: they did not come back in time.
///
/// Called detached, so that they can.
pub(super) fn close(within: Duration) -> bool {
    CLOSED.store(true, Ordering::SeqCst);
    let deadline = Instant::now() + within;
    while AWAY.load(Ordering::SeqCst) != 0 {
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(Duration::from_millis(1));
    }
    true
}
