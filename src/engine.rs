//! What a worker process runs beside its event loop: the pools, their threads, and Python.

use std::cell::RefCell;
use std::io;
use std::path::Path;
use std::sync::Arc;
#[cfg(feature = "on-event-loop")]
use std::sync::OnceLock;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::exchange::log::{self, Level, Origin};
use crate::exchange::metrics::PoolMetrics;
use crate::exchange::spec::{self, Spec, SwitchInterval};
use crate::exchange::{Completions, Exchange, Job};
use crate::pool::{Config, Pool, Runner};
use crate::python::{self, BuildInfo, Interpreter, Main, Probe, Thread};

/// The stack of a pool thread where the configuration names none: what a process's main thread has, in bytes.
const STACK_SIZE: usize = 8 << 20;

/// Time for which a thread keeps the GIL while another waits for it, before it hands it over between two calls. It is
/// shorter than CPython's switch interval, after which the thread would lose the GIL in the middle of a call.
const TURN: Duration = Duration::from_millis(3);
/// The same where the configuration sets the switch interval, as a part of that.
const TURN_OF_INTERVAL: f32 = 0.6;

/// Largest number of finished calls that may wait before the event loop is woken.
const MAX_COALESCED: usize = 16;
/// After a call of this length, the cost of waking the event loop does not matter.
const LONG: Duration = Duration::from_millis(2);

/// The pools and the interpreter of one worker process, as the event loop holds them.
pub(crate) struct Engine {
    pools: Vec<Pool<Job>>,
    specs: Vec<spec::Pool>,
    completions: Arc<Completions>,
    metrics: &'static [PoolMetrics],
    python: RefCell<Main>,
    probe: Probe,
    #[cfg(feature = "on-event-loop")]
    inline: Inline,
}

/// The application on the event loop: what this module exists to avoid, kept to measure against.
#[cfg(feature = "on-event-loop")]
struct Inline {
    /// Set when the applications have been imported.
    interpreter: Arc<OnceLock<Arc<Interpreter>>>,
    thread: RefCell<Option<Thread>>,
}

#[cfg(feature = "on-event-loop")]
impl Inline {
    /// Runs the call here and now; hands it back while Python is not ready.
    fn run(&self, job: Job) -> Option<Job> {
        let Some(interpreter) = self.interpreter.get() else { return Some(job) };
        let mut slot = self.thread.borrow_mut();
        let thread = slot.get_or_insert_with(|| Thread::new(interpreter));
        thread.attach();
        thread.run(job);
        thread.detach();
        None
    }
}

impl Engine {
    /// Starts Python, and the pools' threads once the applications have been imported. Until then, calls wait in the
    /// queues. The threads update `metrics`, which has one entry for each pool. They call `wake_later` with the time
    /// within which [`Self::wake`] must be called.
    pub(crate) fn start(
        spec: Spec,
        completions: Arc<Completions>,
        metrics: &'static [PoolMetrics],
        wake_later: impl Fn(Duration) + Clone + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let turn = match spec.switch_interval {
            SwitchInterval::Auto => TURN,
            SwitchInterval::Fixed(interval) => Duration::from_micros(interval.into()).mul_f32(TURN_OF_INTERVAL),
        };
        let config = |pool: &spec::Pool| Config { capacity: pool.queue, turn, ..Config::default() };
        let pools: Vec<Pool<Job>> = spec.pools.iter().map(|pool| Pool::new(config(pool), wake_later.clone())).collect();
        let kept_specs = spec.pools.clone();
        let (specs, queues) = (spec.pools.clone(), pools.clone());
        #[cfg(feature = "on-event-loop")]
        let (inline, ready) = {
            let interpreter = Arc::new(OnceLock::new());
            (Inline { interpreter: Arc::clone(&interpreter), thread: RefCell::new(None) }, interpreter)
        };
        let for_threads = Arc::clone(&completions);
        let (probe, prober) = python::probe();
        let spawn = move |interpreter: &Arc<Interpreter>| {
            #[cfg(feature = "on-event-loop")]
            let _ = ready.set(Arc::clone(interpreter));
            let probing = prober.start(interpreter);
            if let Err(error) = &probing {
                let record = format!("nobody watches over the GIL: {error}");
                log::write(Level::Alert, Origin::default(), record.as_bytes());
            }
            let pools = specs.iter().zip(&queues).zip(metrics);
            let threads =
                pools.flat_map(|((spec, pool), metrics)| spawn_threads(spec, pool, interpreter, &for_threads, metrics));
            probing.ok().into_iter().chain(threads).collect()
        };
        let build = BuildInfo { executable: env!("WSGI_PYTHON_EXECUTABLE").into() };
        let python = RefCell::new(Main::start(spec, build, spawn)?);
        Ok(Self {
            pools,
            specs: kept_specs,
            completions,
            metrics,
            python,
            probe,
            #[cfg(feature = "on-event-loop")]
            inline,
        })
    }

    /// Submits a call to its pool; hands the exchange back when the queue is full. [`Self::wake`] is owed.
    pub(crate) fn submit(&self, job: Job) -> Result<(), Arc<Exchange>> {
        #[cfg(feature = "on-event-loop")]
        let Some(job) = self.inline.run(job) else {
            return Ok(());
        };
        let pool = job.exchange().pool();
        self.pools[pool].submit(job).map_err(|full| full.0.refused())
    }

    /// Wakes threads for the calls that wait. Returns the time within which it must be called again, if any.
    pub(crate) fn wake(&self) -> Option<Duration> {
        self.pools.iter().filter_map(Pool::wake).min()
    }

    /// Notes that a call in the queue of `pool` has been cancelled.
    pub(crate) fn forget(&self, pool: usize) {
        self.pools[pool].forget();
    }

    /// Number of calls that wait in the queue of `pool`.
    pub(crate) fn queued(&self, pool: usize) -> usize {
        self.pools[pool].queued()
    }

    /// Whether the next call of `pool` would have to wait for a thread.
    pub(crate) fn is_full(&self, pool: usize) -> bool {
        self.specs[pool].threads > 0 && self.pools[pool].is_full()
    }

    /// Logs the Python stack of the thread that runs the call.
    pub(crate) fn log_stack(&self, exchange: Arc<Exchange>, why: String) {
        self.python.borrow().log_stack(exchange, why);
    }

    /// Raises an exception in the call, if a thread still runs it.
    pub(crate) fn interrupt(&self, exchange: Arc<Exchange>) {
        self.python.borrow().interrupt(exchange);
    }

    /// Adds a thread to a pool to replace a lost one.
    pub(crate) fn add_thread(&self, pool: usize) {
        let (spec, metrics) = (self.specs[pool].clone(), &self.metrics[pool]);
        let (pool, completions) = (self.pools[pool].clone(), Arc::clone(&self.completions));
        self.python.borrow().spawn(Box::new(move |interpreter| {
            let spec = spec::Pool { threads: 1, ..spec };
            spawn_threads(&spec, &pool, interpreter, &completions, metrics)
        }));
    }

    /// Tells whether anybody can get the GIL.
    pub(crate) fn probe(&self) -> &Probe {
        &self.probe
    }

    /// Stops the pools and finalises Python. False when a call did not end within `within`: its thread goes on.
    pub(crate) fn stop(&self, within: Duration) -> bool {
        for pool in &self.pools {
            pool.stop();
        }
        self.probe.stop();
        self.python.borrow_mut().stop(within)
    }
}

fn spawn_threads(
    spec: &spec::Pool,
    pool: &Pool<Job>,
    interpreter: &Arc<Interpreter>,
    completions: &Arc<Completions>,
    metrics: &'static PoolMetrics,
) -> Vec<JoinHandle<()>> {
    let stack_size = if spec.stack_size == 0 { STACK_SIZE } else { spec.stack_size };
    let spawn = |number| {
        let (pool, interpreter, completions) = (pool.clone(), Arc::clone(interpreter), Arc::clone(completions));
        let thread = thread::Builder::new().name(format!("{}/{number}", spec.name)).stack_size(stack_size);
        thread.spawn(move || {
            pool.run_thread(&mut Executor { thread: Thread::new(&interpreter), completions, metrics, coalesced: 0 })
        })
    };
    let mut threads = Vec::with_capacity(spec.threads);
    for number in 0..spec.threads {
        match spawn(number) {
            Ok(thread) => threads.push(thread),
            Err(error) => {
                let record = format!("pool \"{}\" has {number} threads only: {error}", spec.name);
                log::write(Level::Alert, Origin::default(), record.as_bytes());
                break;
            }
        }
    }
    metrics.threads_started(threads.len());
    threads
}

/// Whether to wake the event loop for `coalesced` finished calls, the last of which took `took`. `left` is the number
/// of calls that wait, or `None` if the thread does not go on: while as many wait as have finished, the thread has
/// work.
fn is_due(coalesced: usize, left: Option<usize>, took: Duration) -> bool {
    took >= LONG || left.is_none_or(|left| coalesced >= left.min(MAX_COALESCED))
}

/// A thread of a pool: runs calls in Python, and notifies the event loop when they finish.
struct Executor {
    thread: Thread,
    completions: Arc<Completions>,
    metrics: &'static PoolMetrics,
    /// Calls that have finished since the last flush.
    coalesced: usize,
}

impl Runner<Job> for Executor {
    fn joined(&mut self, notify: python::Notify) {
        self.thread.set_notify(notify);
    }

    fn notified(&mut self) {
        self.thread.close_sent();
    }

    fn attach(&mut self) {
        self.thread.attach();
        // A thread that has lost the GIL in the middle of a call may owe a flush.
        self.completions.flush();
    }

    fn was_forced(&mut self, waited: Duration) -> bool {
        self.thread.was_forced(waited)
    }

    fn detach(&mut self) {
        self.thread.detach();
    }

    fn run(&mut self, job: Job) {
        self.metrics.call_started();
        self.thread.run(job);
    }

    fn finished(&mut self, left: Option<usize>, took: Duration) {
        self.metrics.call_finished();
        self.thread.note_call();
        self.coalesced += 1;
        if is_due(self.coalesced, left, took) {
            self.coalesced = 0;
            self.completions.flush();
        }
    }
}

/// The version of the CPython that the module was built with.
pub(crate) fn python_version() -> &'static str {
    python::version()
}

/// Whether this Python can use the packages of a virtual environment; if not, why; if so, what to warn of.
pub(crate) fn check_virtualenv(dir: &Path) -> Result<Option<String>, String> {
    python::check_virtualenv(dir)
}

/// What this process cannot read of the files that the applications' Python needs.
pub(crate) fn unreadable_python(spec: &Spec) -> Option<String> {
    python::unreadable_python(spec)
}

/// Marks the calling thread as one that must never enter Python: the event loop's.
pub(crate) fn forbid_python_here() {
    #[cfg(not(feature = "on-event-loop"))]
    python::forbid_on_this_thread();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finished_calls_are_coalesced_while_as_many_wait() {
        // The sizes of the batches when `calls` calls wait and no further one comes.
        let batches = |calls: usize| {
            let (mut coalesced, mut batches) = (0, Vec::new());
            for left in (0..calls).rev() {
                coalesced += 1;
                if is_due(coalesced, left.checked_sub(1), Duration::ZERO) {
                    batches.push(std::mem::take(&mut coalesced));
                }
            }
            batches
        };
        assert_eq!(batches(1), [1], "the last one at once");
        assert_eq!(batches(8), [4, 2, 1, 1]);
        assert_eq!(batches(40), [16, 12, 6, 3, 1, 1, 1]);
        let (short, long) = (LONG - Duration::from_nanos(1), LONG);
        assert!(!is_due(MAX_COALESCED - 1, Some(1000), short) && is_due(MAX_COALESCED, Some(1000), short));
        assert!(is_due(1, Some(1000), long));
    }
}
