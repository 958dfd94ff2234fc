//! The boundary that no panic of a job crosses.

/// Calls `f`; a panic ends here, with `None`. It has been reported by the panic hook.
#[cfg(not(loom))]
pub(super) fn guarded<R>(f: impl FnOnce() -> R) -> Option<R> {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    // Unwind safety: what a job leaves behind is its own affair, and its next user's to check.
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(value) => Some(value),
        Err(payload) => {
            // The payload may panic when it is dropped, and then so may that panic's: let the second one leak.
            if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
                std::mem::forget(second);
            }
            None
        }
    }
}

/// Under loom, which reports what it finds by panics of its own, nothing is caught.
#[cfg(loom)]
pub(super) fn guarded<R>(f: impl FnOnce() -> R) -> Option<R> {
    Some(f())
}
