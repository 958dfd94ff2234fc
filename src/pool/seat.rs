//! Where a thread sleeps, and its place in its lane.

use std::sync::PoisonError;
use std::time::Duration;

use super::sync::{Arc, AtomicBool, Condvar, Mutex, Ordering, lock};

/// What a thread is, to its lane. Parked is no phase: a parked thread is in the lane's stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Not counted: about to join, parked, or gone.
    Away,
    Seeking,
    Running,
}

/// Where one thread sleeps. (Not `thread::park`: loom's forgets an `unpark` now and then.)
pub(super) struct Seat {
    woken: Mutex<bool>,
    bell: Condvar,
    /// This thread, and no other, has something to see to.
    pub(super) summoned: AtomicBool,
}

impl Seat {
    pub(super) fn sleep(&self) {
        let mut woken = lock(&self.woken);
        while !*woken {
            woken = self.bell.wait(woken).unwrap_or_else(PoisonError::into_inner);
        }
        *woken = false;
    }

    /// As [`Self::sleep`], but no longer than that; false: it was not woken.
    #[cfg(not(loom))]
    pub(super) fn sleep_for(&self, most: Duration) -> bool {
        let woken = lock(&self.woken);
        let asleep = |woken: &mut bool| !*woken;
        let (mut woken, _) = self.bell.wait_timeout_while(woken, most, asleep).unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut woken)
    }

    /// There is no time in a model: it is always over, or never.
    #[cfg(loom)]
    pub(super) fn sleep_for(&self, most: Duration) -> bool {
        if most == Duration::MAX {
            self.sleep();
            return true;
        }
        super::sync::thread::yield_now();
        std::mem::take(&mut *lock(&self.woken))
    }

    pub(super) fn wake(&self) {
        *lock(&self.woken) = true;
        self.bell.notify_one();
    }
}

/// A thread's place in its lane.
pub(super) struct Place {
    pub(super) lane: usize,
    /// Not 0, and no other thread's.
    number: usize,
    pub(super) phase: Phase,
    pub(super) seat: Arc<Seat>,
}

impl Place {
    /// A place in `lane` for one thread, with a number of its own above 0.
    pub(super) fn new(lane: usize, number: usize) -> Self {
        let seat = Seat { woken: Mutex::new(false), bell: Condvar::new(), summoned: AtomicBool::new(false) };
        Self { lane, number, phase: Phase::Away, seat: Arc::new(seat) }
    }

    /// The seat, for [`super::sleep::Sleep::summon`].
    pub(super) fn seat(&self) -> Arc<Seat> {
        Arc::clone(&self.seat)
    }

    /// Not 0, and no other thread's.
    pub(super) fn number(&self) -> usize {
        self.number
    }

    /// Whether the thread has been summoned and has not come yet.
    #[inline]
    pub(super) fn is_summoned(&self) -> bool {
        self.seat.summoned.load(Ordering::Relaxed)
    }

    /// The thread comes now: true once for any number of summonses before.
    #[inline]
    pub(super) fn answer_summons(&self) -> bool {
        // Acquire: what it was summoned for has been laid ready.
        self.is_summoned() && self.seat.summoned.swap(false, Ordering::Acquire)
    }
}
