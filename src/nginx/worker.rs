//! A worker process: what it starts, holds and stops.

use std::cell::{Cell, OnceCell, RefCell, UnsafeCell};
use std::fs::File;
use std::io::Write;
use std::mem::MaybeUninit;
use std::os::fd::FromRawFd;
use std::ptr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nginx_sys::*;

use super::abandoned::AbandonedCalls;
use super::accept::Accept;
use super::alarm::Alarm;
use super::ffi::{guard, wsgi_close_connections};
use super::gil::Gil;
use super::handler::Context;
use super::leaving::Leaving;
use super::scoreboard::{self, Scoreboard};
use super::status::Report;
use super::thread_log::{self, Logs};
use super::{conf, descriptors, log, waker};
use crate::Engine;
use crate::exchange::metrics::{Outcome, PoolMetrics};
use crate::exchange::spec;
use crate::exchange::{Completions, Exchange, Job, Recycler, now};

/// Time that a worker's threads have to end: after a graceful quit, and when the worker must stop at once.
const GRACE: Duration = Duration::from_secs(10);
const GRACE_AT_ONCE: Duration = Duration::from_millis(700);

/// Longest time that a coalesced completion waits for the event loop when its thread is held up in the next call.
const WAKEUP_DELAY: Duration = Duration::from_millis(1);

/// The state of a worker process, which belongs to its event loop.
pub(crate) struct Worker {
    pub(crate) engine: Engine,
    pub(crate) completions: Arc<Completions>,
    pub(crate) log: Logs,
    /// Bounds how long a coalesced completion can wait.
    pub(crate) wakeup_timer: Arc<Alarm>,
    /// Wakes the event loop to look at calls that wait.
    pub(crate) look: Arc<Alarm>,
    /// Posted when calls have been submitted in this turn of the event loop.
    submitted: UnsafeCell<ngx_event_t>,
    pub(crate) accept: Accept,
    pub(crate) recycler: RefCell<Recycler>,
    /// Idle contexts, for the next requests.
    pub(crate) contexts: RefCell<Vec<Rc<Context>>>,
    pub(crate) abandoned: AbandonedCalls,
    pub(crate) gil: Gil,
    pub(crate) leaving: Leaving,
    scoreboard: &'static Scoreboard,
    /// Index of this worker's slot on the scoreboard.
    slot: usize,
    /// The pools as configured.
    pub(crate) pools: Vec<spec::Pool>,
    /// Second of the last log line about refused requests, and the number of refusals not logged since.
    refusals: Cell<(time_t, u64)>,
}

thread_local! {
    static WORKER: OnceCell<&'static Worker> = const { OnceCell::new() };
}

/// Returns the worker, on the event-loop thread of a process that serves applications.
pub(crate) fn worker() -> Option<&'static Worker> {
    WORKER.with(|worker| worker.get().copied())
}

/// Starts Python and the pools, if this process is a worker and the configuration has a `wsgi_pass`.
pub(crate) fn start(cycle: &mut ngx_cycle_t) {
    // SAFETY: set by nginx before a process starts its modules.
    let process = unsafe { ngx_process };
    if process != NGX_PROCESS_WORKER as ngx_uint_t && process != NGX_PROCESS_SINGLE as ngx_uint_t {
        return; // the cache manager and loader
    }
    // SAFETY: this is a worker, and the cycle the one that it starts with.
    let main = unsafe { conf::main_conf_of_cycle(cycle) };
    let Some(main) = main.filter(|main| !main.spec.apps.is_empty()) else { return };
    super::EVENT_LOOP.with(|flag| flag.set(true));
    crate::forbid_python_here();
    descriptors::keep_from_children(cycle);
    leave_children_to_the_application();

    let mut spec = main.spec.clone();
    let workers = (worker_processes(cycle) as usize).min(scoreboard::WORKERS);
    // SAFETY: written by nginx before a process starts its modules.
    let slot = unsafe { ngx_worker };
    spec.multiprocess = workers > 1;
    let (Some(eventfd), Some(wakeup_timer), Some(look)) = (eventfd(), Alarm::new(), Alarm::new()) else {
        return log::alert("eventfd() or timerfd_create() failed: no application will be served");
    };
    let wakers = [&eventfd, wakeup_timer.file(), look.file()];
    if let Err(message) = wakers.into_iter().try_for_each(|file| waker::register(cycle, file)) {
        return log::alert(message);
    }
    let (eventfd, wakeup_timer, look) = (Arc::new(eventfd), Arc::new(wakeup_timer), Arc::new(look));
    let (timer, for_pools) = (Arc::clone(&wakeup_timer), Arc::clone(&look));
    let completions =
        Arc::new(Completions::with_wakeup_timer(wakeup(&eventfd), Box::new(move || timer.set(WAKEUP_DELAY))));
    let log = thread_log::install(cycle, wakeup(&eventfd));
    // SAFETY: registers a function that lives for ever and that only does what is safe after fork().
    unsafe { libc::pthread_atfork(None, None, Some(forked)) };
    let (pools, gil) = (spec.pools.clone(), Gil::new(main.gil_timeout(), spec.switch_interval.longest()));
    let Some(scoreboard) = &main.scoreboard else { return };
    // Without a master process, a reload destroys the configuration, but the threads still count.
    let scoreboard: &'static Scoreboard = Box::leak(Box::new(Arc::clone(scoreboard)));
    scoreboard.start(slot);
    let unused = unused_signals();
    let metrics = scoreboard.pool_metrics(slot);
    match Engine::start(spec, Arc::clone(&completions), metrics, move |after| for_pools.set(after)) {
        Ok(engine) => {
            // SAFETY: an event is a struct of pointers, integers and flags, for which zero is nginx's own start.
            let submitted = UnsafeCell::new(unsafe { std::mem::zeroed::<ngx_event_t>() });
            let abandoned = AbandonedCalls::new(pools.len(), cycle.log);
            let accept = Accept::new(&scoreboard.slots()[..workers], slot, pools.len(), cycle.log);
            let worker = Worker {
                engine,
                completions,
                log,
                wakeup_timer,
                look,
                submitted,
                accept,
                recycler: RefCell::default(),
                contexts: RefCell::default(),
                abandoned,
                gil,
                leaving: Leaving::new(cycle.log),
                scoreboard,
                slot,
                pools,
                refusals: Cell::new((0, 0)),
            };
            // SAFETY: nobody else knows of the event yet.
            unsafe {
                (*worker.submitted.get()).handler = Some(wake_pools);
                (*worker.submitted.get()).log = cycle.log;
            }
            // SAFETY: a plain registration of a function that lives for ever, and a mask of this thread's.
            unsafe {
                libc::atexit(note_exit);
                libc::pthread_sigmask(libc::SIG_BLOCK, &unused, ptr::null_mut());
            }
            WORKER.with(|slot| slot.get_or_init(|| Box::leak(Box::new(worker))).accept.start());
        }
        Err(error) => log::alert(&format!("cannot start Python's main thread: {error}")),
    }
}

/// Resets SIGCHLD. nginx has no children in a worker, but its handler would reap the application's children, whose exit
/// status would be lost (`subprocess` then says 0).
fn leave_children_to_the_application() {
    // SAFETY: a plain system call.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
}

/// Returns the signals that nginx does not use. The application may handle them, without interrupting the event loop.
fn unused_signals() -> libc::sigset_t {
    const CRASHES: [i32; 6] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGABRT, libc::SIGTRAP];
    let (mut unused, mut action) = (MaybeUninit::uninit(), MaybeUninit::<libc::sigaction>::uninit());
    // SAFETY: fills the set; sigaction() fills `action` when it succeeds.
    unsafe {
        libc::sigemptyset(unused.as_mut_ptr());
        for signal in (1..=libc::SIGRTMAX()).filter(|signal| !CRASHES.contains(signal)) {
            if libc::sigaction(signal, ptr::null(), action.as_mut_ptr()) == 0
                && action.assume_init_ref().sa_sigaction == libc::SIG_DFL
            {
                libc::sigaddset(unused.as_mut_ptr(), signal);
            }
        }
        unused.assume_init()
    }
}

fn worker_processes(cycle: &ngx_cycle_t) -> ngx_int_t {
    // SAFETY: every cycle has the core module's configuration.
    unsafe {
        let core = (*cycle.conf_ctx.add((*std::ptr::addr_of!(ngx_core_module)).index)).cast::<ngx_core_conf_t>();
        if ngx_process == NGX_PROCESS_SINGLE as ngx_uint_t { 1 } else { (*core).worker_processes }
    }
}

fn eventfd() -> Option<File> {
    // SAFETY: a plain system call; the descriptor it gives is ours alone.
    match unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) } {
        -1 => None,
        // SAFETY: as above.
        fd => Some(unsafe { File::from_raw_fd(fd) }),
    }
}

/// Returns a function that wakes the event loop. In a child that the application forked it does nothing, since the
/// descriptor belongs to the worker.
fn wakeup(eventfd: &Arc<File>) -> Box<dyn Fn() + Send + Sync> {
    let eventfd = Arc::clone(eventfd);
    Box::new(move || {
        if !is_forked() {
            // It fails only where 2^64 wake-ups are pending.
            let _ = (&*eventfd).write(&1u64.to_ne_bytes());
        }
    })
}

unsafe extern "C" fn wake_pools(_event: *mut ngx_event_t) {
    guard((), || worker().into_iter().for_each(Worker::wake_pools));
}

/// Set in a child process that an application has forked from a worker.
static FORKED: AtomicBool = AtomicBool::new(false);

/// Whether this process is such a child.
pub(super) fn is_forked() -> bool {
    FORKED.load(Ordering::Relaxed)
}

/// Runs in such a child, before `fork()` returns in it.
unsafe extern "C" fn forked() {
    if FORKED.swap(true, Ordering::Relaxed) {
        return; // a child of a child: the descriptors are the application's own by now
    }
    // SAFETY: reads the connection table, which nobody changes in a process with one thread, and calls close().
    unsafe { wsgi_close_connections() };
}

impl Worker {
    /// Submits a call. Returns the exchange if the pool's queue is full or the pool has lost all its threads.
    ///
    /// The pools are woken once, at the end of the event loop's turn.
    pub(crate) fn submit(&self, exchange: Arc<Exchange>) -> Result<(), Arc<Exchange>> {
        // SAFETY: the worker, and with it the event, lives as long as the process.
        unsafe { waker::post(self.submitted.get()) };
        let pool = exchange.pool();
        let metrics = self.metrics(pool);
        metrics.count(Outcome::Requested);
        let job = Job::new(exchange);
        let submitted = if self.abandoned.has_lost_all(pool) { Err(job.refused()) } else { self.engine.submit(job) };
        if submitted.is_ok() {
            metrics.call_queued();
        }
        self.accept.watch();
        submitted
    }

    /// Wakes threads for the calls that wait, and looks again while some do.
    pub(crate) fn wake_pools(&self) {
        if let Some(after) = self.engine.wake() {
            self.look.move_to(after);
        }
    }

    /// Whether the next call of `pool` would have to wait for a thread.
    pub(crate) fn is_full(&self, pool: usize) -> bool {
        self.engine.is_full(pool)
    }

    /// Notes that a call in the queue of `pool` has been cancelled.
    pub(crate) fn forget(&self, pool: usize) {
        self.engine.forget(pool);
        self.metrics(pool).call_cancelled();
    }

    /// Whether the applications are still being imported, so that the pools have no threads.
    pub(crate) fn is_importing(&self) -> bool {
        self.used().any(|pool| self.metrics(pool).threads() == 0)
    }

    /// Number of calls that wait or run in this worker.
    pub(crate) fn active(&self) -> u64 {
        self.used().map(|pool| self.metrics(pool).active()).sum()
    }

    /// A number that grows whenever a call starts or finishes.
    pub(crate) fn progress(&self) -> u64 {
        self.used().map(|pool| self.metrics(pool).progress()).sum()
    }

    /// The pools that a `wsgi_pass` names.
    fn used(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.pools.len()).filter(|&pool| self.pools[pool].threads > 0)
    }

    /// The metrics of `pool` in this worker.
    pub(crate) fn metrics(&self, pool: usize) -> &'static PoolMetrics {
        &self.scoreboard.pool_metrics(self.slot)[pool]
    }

    /// Reports the state and the metrics of all workers of the cycle.
    pub(crate) fn report(&self) -> Report<'_> {
        Report::of(&self.pools, self.accept.slots(), |slot| self.scoreboard.pool_metrics(slot))
    }

    /// Number of calls that wait in the queue of `pool`.
    pub(crate) fn queued(&self, pool: usize) -> usize {
        self.engine.queued(pool)
    }

    /// Gives up a call that has run out of time: logs its Python stack, and interrupts it if `interrupt` is set.
    pub(crate) fn time_out(&self, exchange: &Arc<Exchange>, why: &str, interrupt: bool) {
        self.engine.log_stack(Arc::clone(exchange), why.to_owned());
        if interrupt {
            self.interrupt(exchange);
        }
        self.abandoned.add(exchange, now(), false);
    }

    /// Raises an exception in the call.
    pub(crate) fn interrupt(&self, exchange: &Arc<Exchange>) {
        self.engine.interrupt(Arc::clone(exchange));
    }

    /// Adds a thread to a pool.
    pub(crate) fn add_thread(&self, pool: usize) {
        self.engine.add_thread(pool);
    }

    /// Whether a refused request may be logged now, once a second. Returns the number of refusals that were not logged.
    pub(crate) fn may_tell_refusal(&self) -> Option<u64> {
        let now = ngx_time();
        let (last, untold) = self.refusals.get();
        self.refusals.set(if last == now { (now, untold + 1) } else { (now, 0) });
        (last != now).then_some(untold)
    }
}

/// Stops threads and Python when the process ends.
pub(crate) fn stop() {
    let Some(worker) = worker() else { return };
    // SAFETY: written by nginx's signal handling in this thread.
    let at_once = unsafe { ngx_terminate } != 0;
    worker.accept.leave();
    let grace = match at_once || worker.leaving.has_begun() {
        _ if worker.gil.is_held() => Duration::ZERO,
        true => GRACE_AT_ONCE,
        false => GRACE,
    };
    if !worker.engine.stop(grace) {
        log::warn("a call still runs while the worker ends: Python is not finalised");
        // Threads still run Python, so skip the exit handlers of the C library and of Python, after those of nginx.
        // SAFETY: a plain registration of a function that lives for ever.
        unsafe { libc::atexit(end_at_once) };
    }
    worker.log.close();
}

/// Records that nginx exits, if this is its thread. In other threads, an application's C code may call `exit`.
extern "C" fn note_exit() {
    guard((), || worker().into_iter().for_each(|worker| worker.accept.note_exit()));
}

extern "C" fn end_at_once() {
    // SAFETY: ends the process.
    unsafe { libc::_exit(0) };
}
