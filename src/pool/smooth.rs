//! Whether the jobs of a lane keep its lock: then a seeker that stands in line only disturbs them (README.md).
//!
//! All of it is a guess, and none of it is needed for any job to be run.

use super::sync::{AtomicU64, AtomicUsize, Ordering};

/// How long a lane counts as smooth after a sign of it, in nanoseconds; twice as long after each one more, up to the most.
const LEAST_SMOOTH: u64 = 200_000_000;
const MOST_SMOOTH: u64 = 1_000_000_000;
/// So many jobs that keep the lock make a lane smooth; twice as many each time that it turns out not to be, up to the most.
const LEAST_CLEAN: u64 = 256;
const MOST_CLEAN: u64 = 1 << 16;
/// A turn that is over so soon, in nanoseconds, had no job beside which it was worth waking anybody.
const SHORT: u64 = 200_000;
/// A job that has taken so long, in nanoseconds, may have let the lock go.
const LONG: u64 = 1_000_000;
/// A lane whose jobs have not ended for so long is stuck, in nanoseconds.
const STUCK: u64 = 2_000_000;

/// In the place of a time: the lane was smooth until a long job gave rise to doubt. No time on the pool's clock is earlier.
const DOUBTED: u64 = 1;

/// What is known of one lane. Times are the pool's clock's.
pub(super) struct Smoothness {
    /// The number of the thread in whose turn the lock is, as far as the pool knows; 0: nobody's.
    active: AtomicUsize,
    smooth_until: AtomicU64,
    /// How long the next sign is good for.
    span: AtomicU64,
    /// Jobs that have ended with a seeker in line, or in a short turn, since one has last let the lock go, and how many are
    /// wanted.
    clean: AtomicU64,
    wanted: AtomicU64,
    /// Counts the jobs that have ended, roughly.
    ended: AtomicU64,
    /// What it was when `submit` last looked, and since when.
    seen: AtomicU64,
    seen_since: AtomicU64,
}

/// What a seeker finds as it gets in line for the lock.
pub(super) struct Line {
    /// When that was.
    pub(super) since: u64,
    /// The lock is in another thread's turn.
    busy: bool,
    /// The jobs that have ended.
    ended: u64,
}

impl Smoothness {
    pub(super) fn new() -> Self {
        Self {
            active: AtomicUsize::new(0),
            smooth_until: AtomicU64::new(0),
            span: AtomicU64::new(LEAST_SMOOTH),
            clean: AtomicU64::new(0),
            wanted: AtomicU64::new(LEAST_CLEAN),
            ended: AtomicU64::new(0),
            seen: AtomicU64::new(0),
            seen_since: AtomicU64::new(0),
        }
    }

    /// Whether of late no job has let the lock go while a seeker stood in line.
    pub(super) fn is_smooth(&self, now: u64) -> bool {
        now < self.smooth_until.load(Ordering::Relaxed)
    }

    /// Whether the lock is in somebody's turn.
    pub(super) fn is_active(&self) -> bool {
        self.active.load(Ordering::Relaxed) != 0
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

    /// A seeker is about to get in line for the lock.
    pub(super) fn get_in_line(&self, now: u64) -> Line {
        Line { since: now, busy: self.is_active(), ended: self.ended() }
    }

    /// The seeker has the lock. If the turn that it waited for is over, its jobs have kept the lock; if not, one has let
    /// it go, unless it may have been `forced` to.
    pub(super) fn learn(&self, line: &Line, now: u64, forced: bool) {
        if !line.busy {
            return;
        }
        if !self.is_active() {
            self.note_clean(self.ended().saturating_sub(line.ended), now);
        } else if !forced {
            let wanted = self.wanted.load(Ordering::Relaxed);
            let until = self.smooth_until.swap(0, Ordering::Relaxed);
            if now < until || until == DOUBTED {
                self.wanted.store((2 * wanted).min(MOST_CLEAN), Ordering::Relaxed);
            }
            self.clean.store(0, Ordering::Relaxed);
            self.span.store(LEAST_SMOOTH, Ordering::Relaxed);
        }
    }

    /// A job has taken so long. True: that gives rise to doubt, which a seeker in line has to settle.
    #[inline]
    pub(super) fn is_doubtful(&self, took: u64, now: u64) -> bool {
        let doubtful = took >= LONG && self.is_smooth(now);
        if doubtful {
            self.smooth_until.store(DOUBTED, Ordering::Relaxed);
        }
        doubtful
    }

    /// A turn of so many jobs has taken so long.
    pub(super) fn note_turn(&self, jobs: u64, took: u64, now: u64) {
        if took < SHORT {
            self.note_clean(jobs, now);
        }
    }

    fn note_clean(&self, jobs: u64, now: u64) {
        let wanted = self.wanted.load(Ordering::Relaxed);
        let clean = self.clean.load(Ordering::Relaxed).saturating_add(jobs);
        self.clean.store(clean, Ordering::Relaxed);
        if clean >= wanted {
            let span = self.span.load(Ordering::Relaxed);
            self.smooth_until.store(now + span, Ordering::Relaxed);
            self.span.store((2 * span).min(MOST_SMOOTH), Ordering::Relaxed);
        }
        if clean >= 2 * wanted {
            let fewer = (wanted / 2).max(LEAST_CLEAN);
            self.wanted.store(fewer, Ordering::Relaxed);
            self.clean.store(fewer, Ordering::Relaxed);
        }
    }

    /// A thread's turn begins: it has the lock, and a job.
    pub(super) fn begin(&self, thread: usize) {
        self.active.store(thread, Ordering::Relaxed);
    }

    /// A thread's turn is over, and it is about to let the lock go.
    pub(super) fn let_go(&self, thread: usize) {
        // Not if another thread has had the lock, and begun, meanwhile.
        let _ = self.active.compare_exchange(thread, 0, Ordering::Relaxed, Ordering::Relaxed);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// A seeker that gets in line during a turn of so many jobs, which ends by itself.
    fn clean_turn(lane: &Smoothness, jobs: u64, now: u64) {
        lane.begin(1);
        let line = lane.get_in_line(now);
        (0..jobs).for_each(|_| lane.note_end());
        lane.let_go(1);
        lane.learn(&line, now, false);
    }

    /// One that gets the lock in the middle of a turn.
    fn broken_turn(lane: &Smoothness, now: u64, forced: bool) {
        lane.begin(1);
        lane.learn(&lane.get_in_line(now), now, forced);
        lane.begin(2);
        lane.let_go(1); // too late
    }

    #[test]
    fn jobs_that_keep_the_lock_make_a_lane_smooth_for_a_while() {
        let lane = Smoothness::new();
        clean_turn(&lane, LEAST_CLEAN - 1, 0);
        lane.begin(2);
        assert!(!lane.is_smooth(1));
        clean_turn(&lane, 1, 0);
        assert!(!lane.is_active());
        lane.begin(2);
        assert!(lane.is_smooth(LEAST_SMOOTH - 1) && !lane.is_smooth(LEAST_SMOOTH));
        for (seconds, span) in [(1, 2 * LEAST_SMOOTH), (3, 4 * LEAST_SMOOTH), (5, MOST_SMOOTH), (7, MOST_SMOOTH)] {
            let now = seconds * 1_000_000_000;
            assert!(!lane.is_smooth(now));
            clean_turn(&lane, 1, now);
            lane.begin(2);
            assert!(lane.is_smooth(now + span - 1) && !lane.is_smooth(now + span), "a longer time with each sign");
        }
        broken_turn(&lane, 8_000_000_000, false);
        clean_turn(&lane, LEAST_CLEAN, 9_000_000_000);
        lane.begin(2);
        assert!(!lane.is_smooth(9_000_000_000 + LEAST_SMOOTH), "and a short one after a sign to the contrary");
    }

    #[test]
    fn a_job_that_lets_the_lock_go_makes_it_rough_and_harder_to_convince() {
        let lane = Smoothness::new();
        clean_turn(&lane, LEAST_CLEAN, 0);
        broken_turn(&lane, 1, true);
        assert!(lane.is_smooth(2), "by the interpreter's force: that says nothing");
        broken_turn(&lane, 3, false);
        assert!(!lane.is_smooth(4));
        clean_turn(&lane, LEAST_CLEAN, 4);
        lane.begin(2);
        assert!(!lane.is_smooth(5));
        clean_turn(&lane, LEAST_CLEAN, 4);
        lane.begin(2);
        assert!(lane.is_smooth(5));
    }

    #[test]
    fn who_waits_for_nobody_learns_nothing() {
        let lane = Smoothness::new();
        let line = lane.get_in_line(0);
        (0..LEAST_CLEAN).for_each(|_| lane.note_end());
        lane.learn(&line, 0, false);
        lane.begin(1);
        assert!(!lane.is_smooth(1));
    }

    #[test]
    fn the_jobs_of_short_turns_count_as_such_that_keep_the_lock() {
        let lane = Smoothness::new();
        lane.note_turn(100 * LEAST_CLEAN, SHORT, 0);
        assert!(!lane.is_smooth(0), "one of them may have been long");
        lane.note_turn(LEAST_CLEAN - 1, SHORT - 1, 0);
        assert!(!lane.is_smooth(0));
        lane.note_turn(1, SHORT - 1, 0);
        assert!(lane.is_smooth(LEAST_SMOOTH - 1));
        broken_turn(&lane, 1, false);
        lane.note_turn(1, 0, 2);
        assert!(!lane.is_smooth(3), "one has let it go meanwhile");
    }

    #[test]
    fn a_long_job_gives_rise_to_doubt_once() {
        let lane = Smoothness::new();
        assert!(!lane.is_doubtful(LONG, 1), "it was not smooth");
        clean_turn(&lane, LEAST_CLEAN, 0);
        assert!(!lane.is_doubtful(LONG - 1, 1) && lane.is_smooth(1));
        assert!(lane.is_doubtful(LONG, 1) && !lane.is_smooth(1) && !lane.is_doubtful(LONG, 1));
        clean_turn(&lane, 1, 2);
        assert!(lane.is_smooth(3), "the next sign settles it");
    }

    #[test]
    fn a_doubt_that_was_right_makes_it_harder_to_convince() {
        let lane = Smoothness::new();
        clean_turn(&lane, LEAST_CLEAN, 0);
        assert!(lane.is_doubtful(LONG, 1));
        broken_turn(&lane, 2, false);
        clean_turn(&lane, 2 * LEAST_CLEAN - 1, 3);
        assert!(!lane.is_smooth(4));
        clean_turn(&lane, 1, 3);
        assert!(lane.is_smooth(4));
    }

    #[test]
    fn what_is_wanted_falls_step_by_step() {
        let lane = Smoothness::new();
        for times in [1, 2, 4] {
            clean_turn(&lane, times * LEAST_CLEAN, 0);
            broken_turn(&lane, 1, false);
        }
        clean_turn(&lane, 16 * LEAST_CLEAN, 2); // halves it
        clean_turn(&lane, 1, 2);
        broken_turn(&lane, 3, false); // doubles it
        clean_turn(&lane, 8 * LEAST_CLEAN - 1, 4);
        assert!(!lane.is_smooth(5));
        clean_turn(&lane, 1, 4);
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
