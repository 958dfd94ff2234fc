//! Which thread has the lock's turn, and whether another one should wait for the lock beside it (README.md).

use std::time::Duration;

use super::asleep::{Tid, is_asleep};
use super::nanoseconds;
use super::sync::{AtomicU32, AtomicU64, Ordering};

/// How long a thread waits for the lock beside the running one after a job has let the lock go, in nanoseconds.
///
/// Not to have it there costs up to [`super::Config::stall`] when the next job lets the lock go. To have it there costs a
/// tenth of the processor time of short jobs. Ten milliseconds of the one are worth one of the other.
const OVERLAP: u64 = 10_000_000;

/// The turn of one lock. Times are the pool's clock's; 0 is none.
pub(super) struct Turn {
    /// When the thread that has the turn began its present job.
    since: AtomicU64,
    /// The thread.
    runs_on: AtomicU32,
    /// Until when a thread waits for the lock beside it.
    overlap_until: AtomicU64,
    /// When the thread that has the turn is next looked at.
    sample_at: AtomicU64,
    /// When the thread that waits for the lock began to.
    waiter_since: AtomicU64,
    /// [`super::Config::stall`] in nanoseconds.
    stall: u64,
}

impl Turn {
    pub(super) fn new(stall: Duration) -> Self {
        let none = || AtomicU64::new(0);
        Self {
            since: none(),
            runs_on: AtomicU32::new(0),
            overlap_until: none(),
            sample_at: none(),
            waiter_since: none(),
            stall: nanoseconds(stall),
        }
    }

    /// The thread that has the lock begins a job: the turn is its.
    #[inline]
    pub(super) fn begin_job(&self, now: u64, tid: Tid) {
        self.since.store(now, Ordering::Relaxed);
        self.runs_on.store(tid, Ordering::Relaxed);
    }

    /// The thread whose last job began at `since` runs no more.
    #[inline]
    pub(super) fn end(&self, since: u64) {
        // Not if another thread has begun a job since.
        let _ = self.since.compare_exchange(since, 0, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Whether the turn has become another thread's since one began a job at `since`, and goes on without it.
    #[inline]
    pub(super) fn is_anothers(&self, since: u64, now: u64) -> bool {
        let current = self.since.load(Ordering::Relaxed);
        let goes_on = || now.saturating_sub(current) < self.stall && !self.overlaps(now);
        current != 0 && current != since && goes_on()
    }

    /// Jobs have been seen to let the lock go.
    fn overlaps(&self, now: u64) -> bool {
        now < self.overlap_until.load(Ordering::Relaxed)
    }

    /// Whether a thread should wait for the lock if jobs wait. If not, the answer may change after that time. `look`: see
    /// whether the thread that has the turn sleeps. A pool's thread must not: one that waits for the lock behind it sleeps, too.
    #[inline]
    pub(super) fn wants_waiter(&self, now: u64, look: bool) -> Result<(), u64> {
        let held_for = match self.since.load(Ordering::Relaxed) {
            0 => return Ok(()),
            since => now.saturating_sub(since),
        };
        if held_for >= self.stall || self.overlaps(now) || look && self.sleeps(now) {
            return Ok(());
        }
        // Calls that let the lock go do so early: the younger the job, the sooner it is looked at again.
        Err(held_for.max(self.stall / 4).min(self.stall - held_for))
    }

    /// Whether the thread that has the turn has been seen to sleep just now. It is looked at once in a quarter of a
    /// stall: that costs the event loop 5 us.
    fn sleeps(&self, now: u64) -> bool {
        if now < self.sample_at.load(Ordering::Relaxed) {
            return false;
        }
        self.sample_at.store(now.saturating_add(self.stall / 4), Ordering::Relaxed);
        is_asleep(self.runs_on.load(Ordering::Relaxed))
    }

    /// A thread has got the lock, though nobody was `forced` to give it up.
    pub(super) fn note_attached(&self, now: u64, forced: bool) {
        // A turn that goes on without the lock: its job has let it go.
        if !forced && self.since.load(Ordering::Relaxed) != 0 {
            self.overlap_until.store(now.saturating_add(OVERLAP), Ordering::Relaxed);
        }
    }

    /// [`super::Config::stall`] in nanoseconds.
    pub(super) fn stall(&self) -> u64 {
        self.stall
    }

    /// Notes since when a thread has waited for the lock; 0: none does.
    pub(super) fn set_waiter(&self, since: u64) {
        self.waiter_since.store(since, Ordering::Relaxed);
    }

    /// Whether a thread has waited for the lock for that long.
    #[inline]
    pub(super) fn has_waited(&self, turn: u64, now: u64) -> bool {
        match self.waiter_since.load(Ordering::Relaxed) {
            0 => false,
            since => now.saturating_sub(since) >= turn,
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::super::asleep::current;
    use super::*;

    const STALL: u64 = 1_000_000;

    /// A turn in whose job since 1, of this very thread, nobody has seen the lock let go.
    fn begun() -> Turn {
        let turn = Turn::new(Duration::from_nanos(STALL));
        turn.begin_job(1, current());
        turn
    }

    #[test]
    fn a_thread_comes_when_nobody_has_the_turn_or_it_stalls() {
        let turn = begun();
        assert_eq!(turn.wants_waiter(STALL, true), Err(1));
        assert_eq!(turn.wants_waiter(STALL + 1, true), Ok(()));
        turn.begin_job(STALL, current());
        assert!(turn.wants_waiter(STALL + 1, true).is_err());
        turn.end(1);
        assert!(turn.wants_waiter(STALL + 1, true).is_err(), "the turn is another thread's by now");
        turn.end(STALL);
        assert_eq!(turn.wants_waiter(STALL + 1, true), Ok(()));
    }

    #[test]
    fn a_job_is_looked_at_when_it_is_a_quarter_half_and_all_of_a_stall_old() {
        let turn = begun();
        let mut now = 1;
        let mut ages = Vec::new();
        while let Err(after) = turn.wants_waiter(now, true) {
            now += after;
            ages.push(now - 1);
        }
        assert_eq!(ages, [STALL / 4, STALL / 2, STALL]);
    }

    #[test]
    fn a_turn_is_anothers_as_long_as_that_one_goes_on() {
        let turn = begun();
        assert!(!turn.is_anothers(1, 2));
        turn.begin_job(10, 0);
        assert!(turn.is_anothers(1, 10) && turn.is_anothers(1, 9 + STALL) && !turn.is_anothers(10, 11));
        assert!(!turn.is_anothers(1, 10 + STALL), "it stalls");
        turn.note_attached(11, false);
        assert!(!turn.is_anothers(1, 12), "jobs let the lock go: there is room for several threads");
        let turn = begun();
        turn.end(1);
        assert!(!turn.is_anothers(5, 6), "nobody's");
    }

    #[test]
    fn one_waits_for_a_while_after_a_job_has_let_the_lock_go() {
        let (turn, awake) = (begun(), current());
        turn.note_attached(10, true);
        assert!(turn.wants_waiter(11, true).is_err(), "it was made to: that says nothing");
        turn.note_attached(10, false);
        for now in [11, 9 + OVERLAP] {
            turn.begin_job(now, awake);
            assert_eq!(turn.wants_waiter(now, true), Ok(()));
        }
        turn.begin_job(10 + OVERLAP, awake);
        assert!(turn.wants_waiter(10 + OVERLAP, true).is_err());
        turn.end(10 + OVERLAP);
        turn.note_attached(2 * OVERLAP, false);
        turn.begin_job(2 * OVERLAP, awake);
        assert!(turn.wants_waiter(2 * OVERLAP, true).is_err(), "nobody had the turn");
    }

    #[test]
    fn a_thread_that_sleeps_is_seen_when_it_is_looked_at() {
        let turn = begun();
        for sample in 1..4 {
            let now = sample * STALL;
            turn.begin_job(now, 0); // a thread that cannot be looked at is taken for asleep
            assert_eq!(turn.wants_waiter(now, true), Ok(()));
            turn.begin_job(now + 1, 0);
            assert!(turn.wants_waiter(now + 1, true).is_err(), "not again at once");
            assert_eq!(turn.wants_waiter(now + STALL / 4, true), Ok(()));
        }
        turn.begin_job(10 * STALL, current());
        assert!(turn.wants_waiter(10 * STALL, true).is_err(), "this very thread is awake");
    }

    #[test]
    fn a_turn_is_over_when_another_thread_has_waited_for_its_length() {
        let turn = begun();
        assert!(!turn.has_waited(5, 100));
        turn.set_waiter(100);
        assert!(!turn.has_waited(5, 104) && turn.has_waited(5, 105));
        turn.set_waiter(0);
        assert!(!turn.has_waited(5, 1000));
    }
}
