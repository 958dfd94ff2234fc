//! What a pool of one worker has done and is at, in numbers that other processes may read.
//!
//! A [`Tally`] is all atomics, and zero is its start: it may lie in shared memory. The pool's threads write the part that
//! is apart, the event loop the rest, so that each number has one writer at a time and none needs a lock.

use std::array;
use std::ops::AddAssign;
use std::sync::atomic::{AtomicU64, Ordering};

/// The upper bounds of a histogram's buckets, in microseconds; times beyond the last are in one more.
pub const BOUNDS: [u64; 14] = [
    1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000,
    10_000_000, 60_000_000,
];

/// What can become of a request; an index into `Counts::outcomes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It came for the pool.
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

/// How many there are.
const OUTCOMES: usize = Outcome::Aborted as usize + 1;

/// How many times were at most so long, by bucket, and their sum in microseconds.
#[derive(Debug, Default)]
struct Histogram {
    buckets: [AtomicU64; BOUNDS.len() + 1],
    sum: AtomicU64,
}

/// The part that other threads write than the event loop.
#[derive(Debug, Default)]
#[repr(C, align(128))]
struct Calls {
    begun: AtomicU64,
    over: AtomicU64,
    threads: AtomicU64,
}

/// The numbers of one pool in one worker.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Tally {
    calls: Calls,
    /// Calls that went into the queue, and those that left it without a thread.
    queued: AtomicU64,
    cancelled: AtomicU64,
    lost: AtomicU64,
    outcomes: [AtomicU64; OUTCOMES],
    /// Responses by the hundreds of their status.
    statuses: [AtomicU64; 6],
    queue_time: Histogram,
    app_time: Histogram,
}

/// Of a number with a single writer.
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

// The event loop's side, but for the three that say otherwise.
impl Tally {
    /// A worker begins, maybe in the place of one that has died, of whose threads and calls there are none any more.
    pub fn start(&self) {
        let taken = read(&self.queued).saturating_sub(read(&self.cancelled));
        self.calls.begun.store(taken, Ordering::Relaxed);
        self.calls.over.store(taken, Ordering::Relaxed);
        self.calls.threads.store(0, Ordering::Relaxed);
        self.lost.store(0, Ordering::Relaxed);
    }

    /// On the thread that has started them: there are so many threads more.
    pub fn threads_started(&self, threads: usize) {
        self.calls.threads.fetch_add(threads as u64, Ordering::Relaxed);
    }

    /// On the pool's thread: a call begins.
    #[inline]
    pub fn begun(&self) {
        self.calls.begun.fetch_add(1, Ordering::Relaxed);
    }

    /// On the pool's thread: it is over.
    #[inline]
    pub fn over(&self) {
        self.calls.over.fetch_add(1, Ordering::Relaxed);
    }

    /// A call has gone into the queue.
    #[inline]
    pub fn queued(&self) {
        add(&self.queued, 1);
    }

    /// A call has left the queue, and no thread will have it.
    pub fn cancelled(&self) {
        add(&self.cancelled, 1);
    }

    /// So many threads are lost at the moment.
    pub fn set_lost(&self, lost: usize) {
        self.lost.store(lost as u64, Ordering::Relaxed);
    }

    /// That has become of a request.
    #[inline]
    pub fn count(&self, outcome: Outcome) {
        add(&self.outcomes[outcome as usize], 1);
    }

    /// A request is answered with this status.
    #[inline]
    pub fn answered(&self, status: usize) {
        if let Some(number) = self.statuses.get(status / 100) {
            add(number, 1);
        }
    }

    /// A call that a thread took is over for the event loop: it waited and took so many microseconds.
    #[inline]
    pub fn timed(&self, queue_time: u64, app_time: u64) {
        self.queue_time.observe(queue_time);
        self.app_time.observe(app_time);
    }

    /// How many threads there are.
    pub fn threads(&self) -> u64 {
        read(&self.calls.threads)
    }

    /// How many calls wait or run.
    pub fn active(&self) -> u64 {
        read(&self.queued).saturating_sub(read(&self.cancelled) + read(&self.calls.over))
    }

    /// A number that grows whenever a call begins or ends.
    pub fn progress(&self) -> u64 {
        read(&self.calls.begun) + read(&self.calls.over)
    }

    /// All numbers, each as it is at one moment.
    pub fn read(&self) -> Counts {
        // What came last is read first, so that none is less than what follows from it.
        let over = read(&self.calls.over);
        let (begun, cancelled) = (read(&self.calls.begun), read(&self.cancelled));
        Counts {
            threads: read(&self.calls.threads),
            busy: begun.saturating_sub(over),
            lost: read(&self.lost),
            queued: read(&self.queued).saturating_sub(begun + cancelled),
            outcomes: array::from_fn(|outcome| read(&self.outcomes[outcome])),
            statuses: array::from_fn(|class| read(&self.statuses[class])),
            queue_time: self.queue_time.read(),
            app_time: self.app_time.read(),
        }
    }
}

/// What a [`Tally`] said at one moment, or several of them together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Threads that there are.
    pub threads: u64,
    /// Those in a call.
    pub busy: u64,
    /// Those in a call that was given up.
    pub lost: u64,
    /// Calls that wait for a thread.
    pub queued: u64,
    outcomes: [u64; OUTCOMES],
    /// Responses by the hundreds of their status.
    pub statuses: [u64; 6],
    /// How long calls waited for a thread.
    pub queue_time: Times,
    /// How long they took.
    pub app_time: Times,
}

impl Counts {
    /// What is left of them when the worker has gone: what has been done, and nothing that is under way.
    pub fn of_the_past(self) -> Self {
        Self { threads: 0, busy: 0, lost: 0, queued: 0, ..self }
    }

    /// Of how many requests that has become.
    pub fn of(&self, outcome: Outcome) -> u64 {
        self.outcomes[outcome as usize]
    }
}

/// A histogram at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Times {
    buckets: [u64; BOUNDS.len() + 1],
    /// In microseconds.
    pub sum: u64,
}

impl Times {
    /// Each bound in microseconds, and how many times were at most so long.
    pub fn cumulated(&self) -> impl Iterator<Item = (u64, u64)> {
        let mut count = 0;
        BOUNDS.iter().zip(&self.buckets).map(move |(&bound, more)| {
            count += more;
            (bound, count)
        })
    }

    /// How many times there were.
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

    /// A tally at which three calls were queued: one waits, one runs, one was cancelled.
    fn three() -> Tally {
        let tally = Tally::default();
        tally.start();
        tally.threads_started(8);
        (0..3).for_each(|_| tally.queued());
        tally.begun();
        tally.cancelled();
        tally
    }

    #[test]
    fn what_waits_and_what_runs() {
        let tally = three();
        let counts = tally.read();
        assert_eq!((counts.threads, counts.busy, counts.queued), (8, 1, 1));
        tally.over();
        tally.begun();
        tally.over();
        let counts = tally.read();
        assert_eq!((counts.busy, counts.queued), (0, 0));
        tally.threads_started(1);
        tally.set_lost(1);
        let counts = tally.read();
        assert_eq!((counts.threads, counts.lost), (9, 1));
    }

    #[test]
    fn a_worker_in_the_place_of_one_that_has_died_has_no_calls_and_its_numbers() {
        let tally = three();
        tally.count(Outcome::Requested);
        tally.set_lost(1);
        tally.start();
        let counts = tally.read();
        assert_eq!((counts.threads, counts.busy, counts.lost, counts.queued), (0, 0, 0, 0));
        assert_eq!(counts.of(Outcome::Requested), 1);
        tally.queued();
        assert_eq!(tally.read().queued, 1);
    }

    #[test]
    fn active_are_those_that_wait_or_run() {
        let tally = three();
        assert_eq!((tally.active(), tally.progress(), tally.threads()), (2, 1, 8));
        tally.over();
        assert_eq!((tally.active(), tally.progress()), (1, 2));
        tally.begun();
        assert_eq!((tally.active(), tally.progress()), (1, 3));
        tally.over();
        assert_eq!((tally.active(), tally.progress()), (0, 4));
        tally.start();
        assert_eq!(tally.active(), 0);
    }

    #[test]
    fn times_are_in_the_bucket_of_the_next_bound() {
        let tally = Tally::default();
        for (queue_time, app_time) in [(0, 1_000), (1_001, 60_000_000), (2_500, 60_000_001)] {
            tally.timed(queue_time, app_time);
        }
        let Counts { queue_time, app_time, .. } = tally.read();
        let at = |times: &Times, bound| times.cumulated().find(|&(other, _)| other == bound).map(|(_, count)| count);
        assert_eq!((at(&queue_time, 1_000), at(&queue_time, 2_500), queue_time.count()), (Some(1), Some(3), 3));
        assert_eq!((at(&app_time, 1_000), at(&app_time, 60_000_000), app_time.count()), (Some(1), Some(2), 3));
        assert_eq!((queue_time.sum, app_time.sum), (3_501, 120_001_001));
        assert!(BOUNDS.is_sorted());
    }

    #[test]
    fn tallies_are_added() {
        let (one, two) = (three(), three());
        one.count(Outcome::Failed);
        one.answered(404);
        two.answered(499);
        two.answered(200);
        one.answered(999); // no status that anybody may send
        two.timed(1, 2);
        let mut both = one.read();
        both += &two.read();
        assert_eq!((both.threads, both.busy, both.queued), (16, 2, 2));
        assert_eq!((both.of(Outcome::Failed), both.statuses), (1, [0, 0, 1, 0, 2, 0]));
        assert_eq!((both.queue_time.sum, both.app_time.sum, both.app_time.count()), (1, 2, 1));
    }
}
