//! The lock-free queues, reduced to what the pool needs. Under loom, which does not know crossbeam, a
//! `Mutex<VecDeque>` stands in for each.

#[cfg(loom)]
pub(super) use stand_in::{Deque, Injector, Thief};

#[cfg(not(loom))]
pub(super) use lock_free::{Deque, Injector, Thief};

#[cfg(not(loom))]
mod lock_free {
    use crossbeam_deque::{Steal, Stealer, Worker};

    /// Any thread adds at its end, any thread takes from its front.
    pub(in super::super) struct Injector<T>(crossbeam_deque::Injector<T>);

    /// A thread's own queue, first in, first out.
    pub(in super::super) struct Deque<T>(Worker<T>);

    /// Takes from the front of another thread's [`Deque`].
    pub(in super::super) struct Thief<T>(Stealer<T>);

    /// Repeats an attempt that lost a race.
    fn persist<T>(mut attempt: impl FnMut() -> Steal<T>) -> Option<T> {
        loop {
            match attempt() {
                Steal::Success(value) => return Some(value),
                Steal::Empty => return None,
                Steal::Retry => std::hint::spin_loop(),
            }
        }
    }

    impl<T> Injector<T> {
        pub(in super::super) fn new() -> Self {
            Self(crossbeam_deque::Injector::new())
        }

        pub(in super::super) fn push(&self, value: T) {
            self.0.push(value);
        }

        pub(in super::super) fn pop(&self) -> Option<T> {
            persist(|| self.0.steal())
        }

        /// Takes the first, and moves some of the next ones, `limit` in all at most, into `deque`.
        pub(in super::super) fn pop_batch(&self, deque: &Deque<T>, limit: usize) -> Option<T> {
            persist(|| self.0.steal_batch_with_limit_and_pop(&deque.0, limit))
        }
    }

    impl<T> Deque<T> {
        pub(in super::super) fn new() -> Self {
            Self(Worker::new_fifo())
        }

        pub(in super::super) fn pop(&self) -> Option<T> {
            self.0.pop()
        }

        pub(in super::super) fn is_empty(&self) -> bool {
            self.0.is_empty()
        }

        pub(in super::super) fn thief(&self) -> Thief<T> {
            Thief(self.0.stealer())
        }
    }

    impl<T> Thief<T> {
        pub(in super::super) fn pop(&self) -> Option<T> {
            persist(|| self.0.steal())
        }

        /// As [`Injector::pop_batch`].
        pub(in super::super) fn pop_batch(&self, deque: &Deque<T>, limit: usize) -> Option<T> {
            if self.0.is_empty() {
                return None;
            }
            persist(|| self.0.steal_batch_with_limit_and_pop(&deque.0, limit))
        }
    }
}

#[cfg(loom)]
mod stand_in {
    use super::super::sync::{Arc, Mutex, lock};
    use std::collections::VecDeque;

    pub(in super::super) struct Injector<T>(Mutex<VecDeque<T>>);

    pub(in super::super) struct Deque<T>(Arc<Mutex<VecDeque<T>>>);

    pub(in super::super) struct Thief<T>(Arc<Mutex<VecDeque<T>>>);

    /// The first of `from`, and the first half of the others into `to`.
    fn pop_batch<T>(from: &Mutex<VecDeque<T>>, to: &Deque<T>, limit: usize) -> Option<T> {
        let (first, batch) = {
            let mut from = lock(from);
            let first = from.pop_front()?;
            let count = from.len().div_ceil(2).min(limit - 1);
            (first, from.drain(..count).collect::<Vec<_>>())
        };
        if !batch.is_empty() {
            lock(&to.0).extend(batch);
        }
        Some(first)
    }

    impl<T> Injector<T> {
        pub(in super::super) fn new() -> Self {
            Self(Mutex::new(VecDeque::new()))
        }

        pub(in super::super) fn push(&self, value: T) {
            lock(&self.0).push_back(value);
        }

        pub(in super::super) fn pop(&self) -> Option<T> {
            lock(&self.0).pop_front()
        }

        pub(in super::super) fn pop_batch(&self, deque: &Deque<T>, limit: usize) -> Option<T> {
            pop_batch(&self.0, deque, limit)
        }
    }

    impl<T> Deque<T> {
        pub(in super::super) fn new() -> Self {
            Self(Arc::new(Mutex::new(VecDeque::new())))
        }

        pub(in super::super) fn pop(&self) -> Option<T> {
            lock(&self.0).pop_front()
        }

        pub(in super::super) fn is_empty(&self) -> bool {
            lock(&self.0).is_empty()
        }

        pub(in super::super) fn thief(&self) -> Thief<T> {
            Thief(Arc::clone(&self.0))
        }
    }

    impl<T> Thief<T> {
        pub(in super::super) fn pop(&self) -> Option<T> {
            lock(&self.0).pop_front()
        }

        pub(in super::super) fn pop_batch(&self, deque: &Deque<T>, limit: usize) -> Option<T> {
            pop_batch(&self.0, deque, limit)
        }
    }
}
