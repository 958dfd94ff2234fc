//! Where a thread sleeps.

use std::sync::PoisonError;

use super::sync::{Arc, AtomicBool, Condvar, Mutex, Ordering, lock};

/// Puts one thread to sleep. (Not `thread::park`: loom's forgets an `unpark` now and then.)
pub(super) struct Parker {
    unparked: Mutex<bool>,
    changed: Condvar,
    /// The thread has been notified: it has something to do between two jobs.
    notified: AtomicBool,
    /// The simulated thread that sleeps here.
    #[cfg(all(test, not(loom)))]
    simulated: Option<super::simulation::Thread>,
}

impl Parker {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            unparked: Mutex::new(false),
            changed: Condvar::new(),
            notified: AtomicBool::new(false),
            #[cfg(all(test, not(loom)))]
            simulated: super::simulation::Thread::current(),
        })
    }

    /// Sleeps until [`Self::unpark`] is called. Returns at once if it has been called already.
    pub(super) fn park(&self) {
        #[cfg(all(test, not(loom)))]
        if let Some(thread) = &self.simulated {
            return thread.park();
        }
        let mut unparked = lock(&self.unparked);
        while !*unparked {
            unparked = self.changed.wait(unparked).unwrap_or_else(PoisonError::into_inner);
        }
        *unparked = false;
    }

    pub(super) fn unpark(&self) {
        #[cfg(all(test, not(loom)))]
        if let Some(thread) = &self.simulated {
            return thread.unpark();
        }
        *lock(&self.unparked) = true;
        self.changed.notify_one();
    }

    pub(super) fn set_notified(&self) {
        // Release: what the thread is notified of is ready.
        self.notified.store(true, Ordering::Release);
    }

    #[inline]
    pub(super) fn is_notified(&self) -> bool {
        self.notified.load(Ordering::Relaxed)
    }

    /// Returns true once for any number of notifications before it.
    #[inline]
    pub(super) fn take_notification(&self) -> bool {
        self.is_notified() && self.notified.swap(false, Ordering::Acquire)
    }
}
