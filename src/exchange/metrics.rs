//! The metrics of a pool in one worker, which other processes may read.
//!
//! [`PoolMetrics`] consists of atomics, and all zeros is its initial state, so it may lie in shared memory. The pool's
//! threads write `Calls` by atomic addition; the event loop alone writes the rest. No lock is needed.

use std::array;
use std::ops::AddAssign;
use std::sync::atomic::{AtomicU64, Ordering};

/// Upper bounds of a histogram's buckets, in microseconds. One more bucket holds the longer times.
pub const BOUNDS: [u64; 14] = [
    1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000,
    10_000_000, 60_000_000,
];

/// What can happen to a request. Index into `Counts::outcomes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The pool was asked to run it.
    Requested,
    /// The queue was full.
    QueueFull,
    /// `wsgi_queue_timeout`.
    QueueTimeout,
    /// `wsgi_read_timeout`.
    ReadTimeout,
    /// `wsgi_request_timeout`.
    RequestTimeout,
    /// The call raised an exception or broke the protocol.
    Failed,
    /// The client left.
    Aborted,
}

/// Number of outcomes.
const OUTCOMES: usize = Outcome::Aborted as usize + 1;

/// A histogram of times: the number in each bucket, and their sum in microseconds.
#[derive(Debug, Default)]
struct Histogram {
    buckets: [AtomicU64; BOUNDS.len() + 1],
    sum: AtomicU64,
}

/// Counters that threads other than the event loop write. They have cache lines of their own.
#[derive(Debug, Default)]
#[repr(C, align(128))]
struct Calls {
    started: AtomicU64,
    finished: AtomicU64,
    threads: AtomicU64,
}

/// The metrics of one pool in one worker.
#[derive(Debug, Default)]
#[repr(C)]
pub struct PoolMetrics {
    calls: Calls,
    /// Calls that entered the queue, and those that left it without a thread.
    queued: AtomicU64,
    cancelled: AtomicU64,
    lost: AtomicU64,
    outcomes: [AtomicU64; OUTCOMES],
    /// Responses, by the first digit of their status.
    statuses: [AtomicU64; 6],
    queue_time: Histogram,
    app_time: Histogram,
}

/// Adds to a counter that has a single writer.
fn add(number: &AtomicU64, more: u64) {
    number.store(read(number) + more, Ordering::Relaxed);
}

fn read(number: &AtomicU64) -> u64 {
    number.load(Ordering::Relaxed)
}

impl Histogram {
    fn observe(&self, time: u64) {
        let bucket = BOUNDS.iter().position(|&bound| time <= bound).unwrap_or(BOUNDS.len());
        add(&self.buckets[bucket], 1);
        add(&self.sum, time);
    }

    fn read(&self) -> Times {
        Times { buckets: array::from_fn(|bucket| read(&self.buckets[bucket])), sum: read(&self.sum) }
    }
}

// The event loop calls these, except where a comment names another thread.
impl PoolMetrics {
    /// Resets the gauges for a worker that starts: threads and calls of an earlier worker in the same slot are gone.
    pub fn reset_gauges(&self) {
        let past = read(&self.queued).saturating_sub(read(&self.cancelled));
        self.calls.started.store(past, Ordering::Relaxed);
        self.calls.finished.store(past, Ordering::Relaxed);
        self.calls.threads.store(0, Ordering::Relaxed);
        self.lost.store(0, Ordering::Relaxed);
    }

    /// Adds `threads` new threads. Called by the thread that has started them.
    pub fn threads_started(&self, threads: usize) {
        self.calls.threads.fetch_add(threads as u64, Ordering::Relaxed);
    }

    /// Counts a call that starts. Called by the pool's thread.
    #[inline]
    pub fn call_started(&self) {
        self.calls.started.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a call that has finished. Called by the pool's thread.
    #[inline]
    pub fn call_finished(&self) {
        self.calls.finished.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a call that has entered the queue.
    #[inline]
    pub fn call_queued(&self) {
        add(&self.queued, 1);
    }

    /// Counts a call that has left the queue without a thread.
    pub fn call_cancelled(&self) {
        add(&self.cancelled, 1);
    }

    /// Sets the number of threads that are lost now.
    pub fn set_lost(&self, lost: usize) {
        self.lost.store(lost as u64, Ordering::Relaxed);
    }

    /// Counts a request with this outcome.
    #[inline]
    pub fn count(&self, outcome: Outcome) {
        add(&self.outcomes[outcome as usize], 1);
    }

    /// Counts a response with this status.
    #[inline]
    pub fn count_response(&self, status: usize) {
        if let Some(number) = self.statuses.get(status / 100) {
            add(number, 1);
        }
    }

    /// Records how long a call waited for its thread and how long it took, in microseconds.
    #[inline]
    pub fn observe(&self, queue_time: u64, app_time: u64) {
        self.queue_time.observe(queue_time);
        self.app_time.observe(app_time);
    }

    /// Number of threads.
    pub fn threads(&self) -> u64 {
        read(&self.calls.threads)
    }

    /// Number of calls that wait or run.
    pub fn active(&self) -> u64 {
        read(&self.queued).saturating_sub(read(&self.cancelled) + read(&self.calls.finished))
    }

    /// A number that grows whenever a call starts or finishes.
    pub fn progress(&self) -> u64 {
        read(&self.calls.started) + read(&self.calls.finished)
    }

    /// Reads all numbers. Each is exact, but they are not read at the same moment.
    pub fn read(&self) -> Counts {
        // The later event is read first, so that no difference is negative.
        let finished = read(&self.calls.finished);
        let (started, cancelled) = (read(&self.calls.started), read(&self.cancelled));
        Counts {
            threads: read(&self.calls.threads),
            busy: started.saturating_sub(finished),
            lost: read(&self.lost),
            queued: read(&self.queued).saturating_sub(started + cancelled),
            outcomes: array::from_fn(|outcome| read(&self.outcomes[outcome])),
            statuses: array::from_fn(|class| read(&self.statuses[class])),
            queue_time: self.queue_time.read(),
            app_time: self.app_time.read(),
        }
    }
}

/// The values of a [`PoolMetrics`] at one moment, or the sums of several.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Number of threads.
    pub threads: u64,
    /// Threads in a call.
    pub busy: u64,
    /// Threads in a call that was given up and does not end.
    pub lost: u64,
    /// Calls that wait for a thread.
    pub queued: u64,
    outcomes: [u64; OUTCOMES],
    /// Responses, by the first digit of their status.
    pub statuses: [u64; 6],
    /// How long calls waited for a thread.
    pub queue_time: Times,
    /// How long calls took.
    pub app_time: Times,
}

impl Counts {
    /// Returns the counters alone, for a worker that has left: nothing is in progress any more.
    pub fn without_gauges(self) -> Self {
        Self { threads: 0, busy: 0, lost: 0, queued: 0, ..self }
    }

    /// Number of requests with this outcome.
    pub fn of(&self, outcome: Outcome) -> u64 {
        self.outcomes[outcome as usize]
    }
}

/// The values of a histogram at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Times {
    buckets: [u64; BOUNDS.len() + 1],
    /// Sum of the times, in microseconds.
    pub sum: u64,
}

impl Times {
    /// Returns each bound in microseconds with the number of times up to it.
    pub fn cumulated(&self) -> impl Iterator<Item = (u64, u64)> {
        let mut count = 0;
        BOUNDS.iter().zip(&self.buckets).map(move |(&bound, more)| {
            count += more;
            (bound, count)
        })
    }

    /// Number of times.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

impl AddAssign<&Counts> for Counts {
    fn add_assign(&mut self, other: &Counts) {
        fn all(sums: &mut [u64], more: &[u64]) {
            sums.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
        }
        self.threads += other.threads;
        self.busy += other.busy;
        self.lost += other.lost;
        self.queued += other.queued;
        all(&mut self.outcomes, &other.outcomes);
        all(&mut self.statuses, &other.statuses);
        for (mine, theirs) in [(&mut self.queue_time, &other.queue_time), (&mut self.app_time, &other.app_time)] {
            all(&mut mine.buckets, &theirs.buckets);
            mine.sum += theirs.sum;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Metrics after three calls were queued: one waits, one runs, one was cancelled.
    fn three() -> PoolMetrics {
        let metrics = PoolMetrics::default();
        metrics.reset_gauges();
        metrics.threads_started(8);
        (0..3).for_each(|_| metrics.call_queued());
        metrics.call_started();
        metrics.call_cancelled();
        metrics
    }

    #[test]
    fn what_waits_and_what_runs() {
        let metrics = three();
        let counts = metrics.read();
        assert_eq!((counts.threads, counts.busy, counts.queued), (8, 1, 1));
        metrics.call_finished();
        metrics.call_started();
        metrics.call_finished();
        let counts = metrics.read();
        assert_eq!((counts.busy, counts.queued), (0, 0));
        metrics.threads_started(1);
        metrics.set_lost(1);
        let counts = metrics.read();
        assert_eq!((counts.threads, counts.lost), (9, 1));
    }

    #[test]
    fn a_worker_in_the_place_of_one_that_has_died_has_no_calls_and_its_numbers() {
        let metrics = three();
        metrics.count(Outcome::Requested);
        metrics.set_lost(1);
        metrics.reset_gauges();
        let counts = metrics.read();
        assert_eq!((counts.threads, counts.busy, counts.lost, counts.queued), (0, 0, 0, 0));
        assert_eq!(counts.of(Outcome::Requested), 1);
        metrics.call_queued();
        assert_eq!(metrics.read().queued, 1);
    }

    #[test]
    fn active_are_those_that_wait_or_run() {
        let metrics = three();
        assert_eq!((metrics.active(), metrics.progress(), metrics.threads()), (2, 1, 8));
        metrics.call_finished();
        assert_eq!((metrics.active(), metrics.progress()), (1, 2));
        metrics.call_started();
        assert_eq!((metrics.active(), metrics.progress()), (1, 3));
        metrics.call_finished();
        assert_eq!((metrics.active(), metrics.progress()), (0, 4));
        metrics.reset_gauges();
        assert_eq!(metrics.active(), 0);
    }

    #[test]
    fn times_are_in_the_bucket_of_the_next_bound() {
        let metrics = PoolMetrics::default();
        for (queue_time, app_time) in [(0, 1_000), (1_001, 60_000_000), (2_500, 60_000_001)] {
            metrics.observe(queue_time, app_time);
        }
        let Counts { queue_time, app_time, .. } = metrics.read();
        let at = |times: &Times, bound| times.cumulated().find(|&(other, _)| other == bound).map(|(_, count)| count);
        assert_eq!((at(&queue_time, 1_000), at(&queue_time, 2_500), queue_time.count()), (Some(1), Some(3), 3));
        assert_eq!((at(&app_time, 1_000), at(&app_time, 60_000_000), app_time.count()), (Some(1), Some(2), 3));
        assert_eq!((queue_time.sum, app_time.sum), (3_501, 120_001_001));
        assert!(BOUNDS.is_sorted());
    }

    #[test]
    fn counts_are_added() {
        let (one, two) = (three(), three());
        one.count(Outcome::Failed);
        one.count_response(404);
        two.count_response(499);
        two.count_response(200);
        one.count_response(999); // no status that anybody may send
        two.observe(1, 2);
        let mut both = one.read();
        both += &two.read();
        assert_eq!((both.threads, both.busy, both.queued), (16, 2, 2));
        assert_eq!((both.of(Outcome::Failed), both.statuses), (1, [0, 0, 1, 0, 2, 0]));
        assert_eq!((both.queue_time.sum, both.app_time.sum, both.app_time.count()), (1, 2, 1));
    }
}
