//! A pool of threads that share a lock: see README.md beside this file.
#![forbid(unsafe_code)]

pub mod completions;

/// Work that may have become pointless while it waited.
pub trait Task: Send + 'static {
    /// Whether it must not be run any more; it is then dropped.
    fn is_cancelled(&self) -> bool;
}
