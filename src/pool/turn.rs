//! Which thread has the lock's turn, and whether another one should wait for the lock beside it (README.md).

use std::time::Duration;

use super::nanoseconds;
use super::sync::{AtomicU64, Ordering};

/// How long a thread waits for the lock beside the running one after a job has let the lock go, in nanoseconds.
///
/// Not to have it there costs up to [`super::Config::stall`] when the next job lets the lock go. To have it there costs a
/// tenth of the processor time of short jobs. Ten milliseconds of the one are worth one of the other.
const OVERLAP: u64 = 10_000_000;

/// How often a thread is woken to find out whether jobs let the lock go for less than a stall, in nanoseconds.
///
/// It costs two context switches each time.
const PROBE: u64 = 50_000_000;

/// The turn of one lock. Times are the pool's clock's; 0 is none.
pub(super) struct Turn {
    /// When the thread that has the turn began its present job.
    since: AtomicU64,
    /// Until when a thread waits for the lock beside it.
    overlap_until: AtomicU64,
    /// When that is next tried.
    probe_at: AtomicU64,
    /// When the thread that waits for the lock began to.
    waiter_since: AtomicU64,
    /// [`super::Config::stall`] in nanoseconds.
    stall: u64,
}

impl Turn {
    pub(super) fn new(stall: Duration) -> Self {
        let none = || AtomicU64::new(0);
        Self { since: none(), overlap_until: none(), probe_at: none(), waiter_since: none(), stall: nanoseconds(stall) }
    }

    /// The thread that has the lock begins a job: the turn is its.
    #[inline]
    pub(super) fn begin_job(&self, now: u64) {
        self.since.store(now, Ordering::Relaxed);
    }

    /// The thread whose last job began at `since` runs no more.
    #[inline]
    pub(super) fn end(&self, since: u64) {
        // Not if another thread has begun a job since.
        let _ = self.since.compare_exchange(since, 0, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Whether a thread should wait for the lock if jobs wait. If not, the answer may change after that time.
    #[inline]
    pub(super) fn wants_waiter(&self, now: u64) -> Result<(), u64> {
        let held_for = match self.since.load(Ordering::Relaxed) {
            0 => return Ok(()),
            since => now.saturating_sub(since),
        };
        if held_for >= self.stall || now < self.overlap_until.load(Ordering::Relaxed) || self.take_probe(now) {
            return Ok(());
        }
        Err(self.stall - held_for)
    }

    /// Returns true once in each [`PROBE`].
    fn take_probe(&self, now: u64) -> bool {
        let due = now >= self.probe_at.load(Ordering::Relaxed);
        if due {
            self.probe_at.store(now.saturating_add(PROBE), Ordering::Relaxed);
        }
        due
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
    use super::*;

    const STALL: u64 = 1_000_000;

    /// A turn after the first probe, in whose job since 1 nobody has seen the lock let go.
    fn begun() -> Turn {
        let turn = Turn::new(Duration::from_nanos(STALL));
        turn.begin_job(1);
        assert_eq!(turn.wants_waiter(1), Ok(()), "whether jobs let the lock go is tried at once");
        turn
    }

    #[test]
    fn a_thread_comes_when_nobody_has_the_turn_or_it_stalls() {
        let turn = begun();
        assert_eq!(turn.wants_waiter(1), Err(STALL));
        assert_eq!(turn.wants_waiter(STALL), Err(1));
        assert_eq!(turn.wants_waiter(STALL + 1), Ok(()));
        turn.begin_job(STALL);
        assert_eq!(turn.wants_waiter(STALL + 1), Err(STALL - 1));
        turn.end(1);
        assert!(turn.wants_waiter(STALL + 1).is_err(), "the turn is another thread's by now");
        turn.end(STALL);
        assert_eq!(turn.wants_waiter(STALL + 1), Ok(()));
    }

    #[test]
    fn one_waits_for_a_while_after_a_job_has_let_the_lock_go() {
        let turn = begun();
        turn.note_attached(10, true);
        assert!(turn.wants_waiter(11).is_err(), "it was made to: that says nothing");
        turn.note_attached(10, false);
        for now in [11, 9 + OVERLAP] {
            turn.begin_job(now);
            assert_eq!(turn.wants_waiter(now), Ok(()));
        }
        turn.begin_job(10 + OVERLAP);
        assert!(turn.wants_waiter(10 + OVERLAP).is_err());
        turn.end(10 + OVERLAP);
        turn.note_attached(2 * OVERLAP, false);
        turn.begin_job(2 * OVERLAP);
        assert!(turn.wants_waiter(2 * OVERLAP).is_err(), "nobody had the turn");
    }

    #[test]
    fn it_is_tried_again_and_again() {
        let turn = begun();
        for probe in 1..4 {
            turn.begin_job(probe * PROBE);
            assert!(turn.wants_waiter(probe * PROBE).is_err());
            turn.begin_job(probe * PROBE + 1);
            assert_eq!(turn.wants_waiter(probe * PROBE + 1), Ok(()));
            assert!(turn.wants_waiter(probe * PROBE + 1).is_err());
        }
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
