//! A pool of threads that share a lock: see README.md beside this file.
#![forbid(unsafe_code)]

mod asleep;
mod clock;
pub mod completions;
mod injector;
#[cfg(all(test, loom))]
mod loom_models;
mod panics;
mod parker;
mod queue;
mod registry;
#[cfg(all(test, not(loom)))]
mod simulation;
mod sleep;
mod sync;
#[cfg(all(test, not(loom)))]
mod tests;
mod turn;

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
    /// Largest number of jobs that may wait.
    pub capacity: usize,
    /// Jobs run one at a time, with a lock (the GIL) that a job may let go in its middle. If not, a thread is woken for
    /// each job.
    pub has_lock: bool,
    /// How long a thread may wait for the lock before the one that runs jobs hands it over, between two of them.
    pub turn: Duration,
    /// How long one job may hold up those behind it before another thread waits for the lock, to run them as soon as it can.
    pub stall: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self { capacity: 1024, has_lock: true, turn: Duration::from_millis(3), stall: Duration::from_millis(1) }
    }
}

/// Saturates after 584 years.
fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// What a pool's thread does outside the pool. Lives on its thread.
///
/// A panic in [`Self::run`] or [`Self::notified`] ends there. One in [`Self::attach`] or [`Self::detach`] leaves
/// [`Pool::run_thread`], for nobody knows then who has the lock; the pool goes on with the other threads.
pub trait Runner<J> {
    /// The thread has joined the pool. Whoever calls `notify`, on any thread, has [`Self::notified`] called on
    /// this one, soon after. Once this thread has left the pool, `notify` does nothing.
    fn joined(&mut self, notify: Box<dyn Fn() + Send + Sync>) {
        let _ = notify;
    }
    /// What [`Self::joined`] got has been called, once or several times. Called attached, between two jobs.
    fn notified(&mut self) {}
    /// Waits for the lock; returns once it is held.
    fn attach(&mut self);
    /// Whether a thread that has waited for the lock for that long, in [`Self::attach`], may have got it because its
    /// holder was made to give it up.
    fn was_forced(&mut self, waited: Duration) -> bool {
        let _ = waited;
        false
    }
    /// Lets the lock go.
    fn detach(&mut self);
    /// Runs a job, attached. May let the lock go and take it again inside.
    fn run(&mut self, job: J);
    /// A job has ended, and took that long. With `left`, this thread goes on with another at once, attached as before, and
    /// that many wait behind that one.
    fn finished(&mut self, left: Option<usize>, took: Duration) {
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
    /// Threads that are awake without a job. Most of them wait for the lock.
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
    ///
    /// Its threads call `wake_later` to ask for a [`Self::wake`] within that time. A request can be forgotten when
    /// another one is pending, or [`Self::wake`] is called sooner.
    pub fn new(config: Config, wake_later: impl Fn(Duration) + Send + Sync + 'static) -> Self {
        Self(Arc::new(Registry::new(&config, Box::new(wake_later))))
    }

    /// Adds a job; never blocks. Hands it back when too many wait, or after [`Self::stop`].
    ///
    /// The caller owes a [`Self::wake`], soon: several jobs then cost one look at the threads.
    #[inline]
    pub fn submit(&self, job: J) -> Result<(), Full<J>> {
        self.0.push(job).map_err(Full)
    }

    /// Wakes a thread if jobs wait and none is about to take them.
    ///
    /// While jobs wait, the caller owes another call: within the time that is returned, unless it comes by sooner.
    #[inline]
    #[must_use = "jobs may wait for the next call"]
    pub fn wake(&self) -> Option<Duration> {
        self.0.wake()
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

    /// Makes the calling thread one of the pool's until [`Self::stop`].
    pub fn run_thread(&self, runner: &mut impl Runner<J>) {
        Registry::run_thread(&self.0, runner);
    }

    /// Ends the pool: no job is accepted or begun any more, those that wait are dropped, and each thread
    /// returns from [`Self::run_thread`] after its current job. Waits for nothing.
    pub fn stop(&self) {
        self.0.stop();
    }
}
