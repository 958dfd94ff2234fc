//! Whether the jobs of a lane keep its lock: then a seeker that stands in line only disturbs them (README.md).
//!
//! All of it is a guess, and none of it is needed for any job to be run.

use super::sync::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// How long a lane counts as smooth after a hand-over, in nanoseconds.
const SMOOTH: u64 = 200_000_000;
/// So many hand-overs in a row make a lane smooth; twice as many each time that it turns out not to be, up to the most.
const LEAST_CLEAN: usize = 4;
const MOST_CLEAN: usize = 1024;
/// A lane whose jobs have not ended for so long is stuck, in nanoseconds.
const STUCK: u64 = 2_000_000;

/// What is known of one lane. Times are the pool's clock's.
pub(super) struct Smoothness {
    /// The number of the thread in whose turn the lock is, as far as the pool knows; 0: nobody's.
    active: AtomicUsize,
    /// That thread has ended its turn for the seeker in line, and the seeker has yet to find out.
    handed: AtomicBool,
    smooth_until: AtomicU64,
    /// Hand-overs since a job has last let the lock go with a seeker in line, and how many are wanted.
    clean: AtomicUsize,
    wanted: AtomicUsize,
    /// Changes whenever a job has ended.
    ended: AtomicU64,
    /// What it was when `submit` last looked, and since when.
    seen: AtomicU64,
    seen_since: AtomicU64,
}

impl Smoothness {
    pub(super) fn new() -> Self {
        Self {
            active: AtomicUsize::new(0),
            handed: AtomicBool::new(false),
            smooth_until: AtomicU64::new(0),
            clean: AtomicUsize::new(0),
            wanted: AtomicUsize::new(LEAST_CLEAN),
            ended: AtomicU64::new(0),
            seen: AtomicU64::new(0),
            seen_since: AtomicU64::new(0),
        }
    }

    /// Whether the lock is in somebody's turn, and of late no job has let it go while a seeker stood in line.
    pub(super) fn is_smooth(&self, now: u64) -> bool {
        now < self.smooth_until.load(Ordering::Relaxed) && self.active.load(Ordering::Relaxed) != 0
    }

    /// Changes whenever a job has ended.
    pub(super) fn ended(&self) -> u64 {
        self.ended.load(Ordering::Relaxed)
    }

    /// A job has ended.
    #[inline]
    pub(super) fn note_end(&self) {
        // Of two at once one may be lost; it changes all the same.
        self.ended.store(self.ended().wrapping_add(1), Ordering::Relaxed);
    }

    /// Whether no job has ended for a while. Asked by `submit`, again and again.
    pub(super) fn is_stuck(&self, now: u64) -> bool {
        let ended = self.ended();
        if self.seen.swap(ended, Ordering::Relaxed) != ended {
            self.seen_since.store(now, Ordering::Relaxed);
            return false;
        }
        now.saturating_sub(self.seen_since.load(Ordering::Relaxed)) >= STUCK
    }

    /// A thread has the lock, and a job. If it was not handed over, and another's turn is not over, that one's job has
    /// let it go, unless it may have been `forced` to.
    pub(super) fn take_over(&self, thread: usize, now: u64, forced: bool) {
        let before = self.active.swap(thread, Ordering::Relaxed);
        let (clean, wanted) = (self.clean.load(Ordering::Relaxed), self.wanted.load(Ordering::Relaxed));
        if self.handed.swap(false, Ordering::Relaxed) {
            self.clean.store(clean + 1, Ordering::Relaxed);
            if clean + 1 >= wanted {
                self.smooth_until.store(now + SMOOTH, Ordering::Relaxed);
            }
            if clean + 1 >= 2 * wanted {
                self.wanted.store((wanted / 2).max(LEAST_CLEAN), Ordering::Relaxed);
            }
        } else if before != 0 && !forced {
            if now < self.smooth_until.swap(0, Ordering::Relaxed) {
                self.wanted.store((2 * wanted).min(MOST_CLEAN), Ordering::Relaxed);
            }
            self.clean.store(0, Ordering::Relaxed);
        }
    }

    /// A thread's turn is over, and it is about to let the lock go; `handed`: for the seeker in line.
    pub(super) fn let_go(&self, thread: usize, handed: bool) {
        self.handed.store(handed, Ordering::Relaxed);
        // Not if another thread has taken over meanwhile.
        let _ = self.active.compare_exchange(thread, 0, Ordering::Relaxed, Ordering::Relaxed);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// A clean hand-over to a thread; the time then.
    fn hand_over(lane: &Smoothness, thread: usize, now: u64) {
        lane.let_go(3 - thread, true);
        lane.take_over(thread, now, false);
    }

    #[test]
    fn hand_overs_in_a_row_make_a_lane_smooth_for_a_while() {
        let lane = Smoothness::new();
        lane.take_over(1, 0, false);
        for count in 1..LEAST_CLEAN {
            hand_over(&lane, 1 + count % 2, 0);
            assert!(!lane.is_smooth(1));
        }
        hand_over(&lane, 1, 0);
        assert!(lane.is_smooth(SMOOTH - 1) && !lane.is_smooth(SMOOTH));
        lane.let_go(1, false);
        assert!(!lane.is_smooth(1), "nobody's turn");
    }

    #[test]
    fn a_job_that_lets_the_lock_go_makes_it_rough_and_harder_to_convince() {
        let lane = Smoothness::new();
        lane.take_over(2, 0, false);
        (0..LEAST_CLEAN).for_each(|_| hand_over(&lane, 1, 0));
        lane.take_over(2, 1, true);
        assert!(lane.is_smooth(2), "by the interpreter's force: that says nothing");
        lane.take_over(1, 3, false);
        assert!(!lane.is_smooth(4));
        (0..LEAST_CLEAN).for_each(|_| hand_over(&lane, 1, 4));
        assert!(!lane.is_smooth(5));
        (0..LEAST_CLEAN).for_each(|_| hand_over(&lane, 1, 4));
        assert!(lane.is_smooth(5));
    }

    #[test]
    fn a_lane_whose_jobs_do_not_end_is_stuck() {
        let lane = Smoothness::new();
        lane.note_end();
        assert!(!lane.is_stuck(10) && !lane.is_stuck(9 + STUCK) && lane.is_stuck(10 + STUCK));
        lane.note_end();
        assert!(!lane.is_stuck(20 + STUCK));
    }
}
