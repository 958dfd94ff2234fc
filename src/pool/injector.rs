//! The lock-free FIFO, reduced to what the pool needs. Under loom, which does not know crossbeam, a
//! `Mutex<VecDeque>` stands in for it.

#[cfg(not(loom))]
use crossbeam_deque::Steal;

#[cfg(loom)]
use super::sync::{Mutex, lock};

/// Any thread adds at the end, any thread takes from the front.
#[cfg(not(loom))]
pub(super) struct Injector<T>(crossbeam_deque::Injector<T>);

#[cfg(not(loom))]
impl<T> Injector<T> {
    pub(super) fn new() -> Self {
        Self(crossbeam_deque::Injector::new())
    }

    pub(super) fn push(&self, value: T) {
        self.0.push(value);
    }

    pub(super) fn pop(&self) -> Option<T> {
        loop {
            match self.0.steal() {
                Steal::Success(value) => return Some(value),
                Steal::Empty => return None,
                Steal::Retry => std::hint::spin_loop(),
            }
        }
    }
}

#[cfg(loom)]
pub(super) struct Injector<T>(Mutex<std::collections::VecDeque<T>>);

#[cfg(loom)]
impl<T> Injector<T> {
    pub(super) fn new() -> Self {
        Self(Mutex::default())
    }

    pub(super) fn push(&self, value: T) {
        lock(&self.0).push_back(value);
    }

    pub(super) fn pop(&self) -> Option<T> {
        lock(&self.0).pop_front()
    }
}
