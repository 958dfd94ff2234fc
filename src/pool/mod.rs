//! A pool of threads that share a lock: see README.md beside this file.
#![forbid(unsafe_code)]

pub mod completions;
mod deque;
#[cfg(all(test, loom))]
mod loom_models;
mod panics;
mod queue;
mod registry;
mod seat;
mod sleep;
mod smooth;
mod sync;
#[cfg(all(test, not(loom)))]
mod tests;

use std::fmt;
use std::time::Duration;

use registry::Registry;
use sync::Arc;

/// Work that may have become pointless while it waited.
pub trait Task: Send + 'static {
    /// Whether it must not be run any more; it is then dropped.
    fn is_cancelled(&self) -> bool;

    /// Takes it out of the queue, once, on the thread that is about to run it; false: it has been cancelled.
    ///
    /// A task that another thread may cancel decides between the two in one atomic step, and only a
    /// canceller that was first calls [`Pool::forget`]; then the pool's count of waiting jobs is exact.
    fn claim(&self) -> bool {
        !self.is_cancelled()
    }
}

/// How a pool works.
#[derive(Clone, Debug)]
pub struct Config {
    /// How many jobs may wait.
    pub capacity: usize,
    /// How many groups of threads there are that each share a lock.
    pub lanes: usize,
    /// How long a thread of the lane may stand in line for the lock before the one that runs jobs hands over.
    pub turn: Duration,
    /// A thread that has stood in line for longer may have got the lock by the interpreter's force (CPython's switch
    /// interval), which says nothing about the job that has lost it.
    pub forced: Duration,
    /// A lane has a lock (a GIL). If not, a thread is woken for each job, and nobody hands over.
    pub exclusive: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            capacity: 1024,
            lanes: 1,
            turn: Duration::from_millis(3),
            forced: Duration::from_micros(4500),
            exclusive: true,
        }
    }
}

/// What a pool's thread does outside the pool. Lives on its thread.
///
/// A panic in [`Self::run`] or [`Self::summoned`] ends there. One in [`Self::attach`] or [`Self::detach`] leaves
/// [`Pool::run_thread`], for nobody knows then who has the lock; the pool goes on with the other threads.
pub trait Worker<J> {
    /// The thread is one of the pool's now. Whoever calls `summon`, on any thread, has [`Self::summoned`] called on
    /// this one, soon after; it does nothing once the thread has left.
    fn joined(&mut self, summon: Box<dyn Fn() + Send + Sync>) {
        let _ = summon;
    }
    /// Somebody has called what [`Self::joined`] gave, once or several times; attached, between two jobs.
    fn summoned(&mut self) {}
    /// Stands in line for the lane's lock; returns once it is held.
    fn attach(&mut self);
    /// Lets the lock go.
    fn detach(&mut self);
    /// Runs a job, attached. May let the lock go and take it again inside.
    fn run(&mut self, job: J);
    /// A job has ended, after so long. This thread goes on with another at once, attached as before, and so many wait behind
    /// that; `None`: it does not.
    fn ended(&mut self, left: Option<usize>, took: Duration) {
        let _ = (left, took);
    }
}

/// The job that a pool would not have: too many wait, or the pool has been stopped.
pub struct Full<J>(pub J);

impl<J> fmt::Debug for Full<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Full").finish_non_exhaustive()
    }
}

/// What a pool is at, at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Jobs that wait and have not been cancelled.
    pub queued: usize,
    /// Threads that have a job, or are between two.
    pub running: usize,
    /// Threads that are awake without a job: in line for the lock, as a rule.
    pub seeking: usize,
    /// Threads asleep.
    pub parked: usize,
    /// How many times a thread has been woken for work.
    pub wakeups: u64,
}

/// A queue of jobs and the threads that run them. A clone is the same pool.
pub struct Pool<J: Task>(Arc<Registry<J>>);

impl<J: Task> Clone for Pool<J> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<J: Task> fmt::Debug for Pool<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pool").field(&self.stats()).finish()
    }
}

impl<J: Task> Pool<J> {
    /// A pool without threads. Each comes with [`Self::run_thread`].
    pub fn new(config: Config) -> Self {
        Self(Arc::new(Registry::new(&config)))
    }

    /// Adds a job; never blocks. Hands it back when too many wait, or after [`Self::stop`].
    #[inline]
    pub fn submit(&self, job: J) -> Result<(), Full<J>> {
        self.0.submit(job).map_err(Full)
    }

    /// As [`Self::submit`], but wakes nobody: whoever calls it owes a [`Self::wake`], soon. Several jobs then cost
    /// one look at the threads, and one wake-up at most.
    #[inline]
    pub fn submit_quiet(&self, job: J) -> Result<(), Full<J>> {
        self.0.push(job).map_err(Full)
    }

    /// Wakes a thread if jobs wait and none is on its way to them.
    #[inline]
    pub fn wake(&self) {
        self.0.wake();
    }

    /// A job that waits has been cancelled ([`Task::is_cancelled`] holds): it no longer counts as waiting.
    ///
    /// To be called once for each such job. It is dropped when it surfaces, or when too many of its kind wait.
    pub fn forget(&self) {
        self.0.forget();
    }

    /// How many jobs wait that have not been cancelled.
    pub fn queued(&self) -> usize {
        self.0.queued()
    }

    /// Whether the next job would have to wait until another one ends. A hint: threads come and go.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.0.is_full()
    }

    /// What the pool is at.
    pub fn stats(&self) -> Stats {
        self.0.stats()
    }

    /// Makes the calling thread one of the pool's, in a lane (0 is the first), until [`Self::stop`].
    pub fn run_thread(&self, lane: usize, worker: &mut impl Worker<J>) {
        Registry::run_thread(&self.0, lane, worker);
    }

    /// Ends the pool: no job is accepted or begun any more, those that wait are dropped, and each thread
    /// returns from [`Self::run_thread`] after its current job. Waits for nothing.
    pub fn stop(&self) {
        self.0.stop();
    }
}
