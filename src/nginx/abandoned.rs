//! Abandoned calls: nobody waits for them any more, and they have not ended. Their threads are replaced, up to a limit.
//!
//! An interrupted call ends at its next step in Python. A call goes on if it is in C code or catches the exception; its
//! thread is lost to the pool until it comes back. When a pool has lost its configured number of threads twice, its
//! requests are refused, and the worker ends as soon as no client would notice.

use std::cell::{Cell, RefCell, UnsafeCell};
use std::mem;
use std::sync::Arc;

use nginx_sys::*;

use super::ffi::guard;
use super::worker::{Worker, worker};
use super::{deadlines, log};
use crate::exchange::{Exchange, now};

/// Time after a call was interrupted or given up until its thread counts as lost, in microseconds.
const PATIENCE: u64 = 1_000_000;
/// Interval of the checks while there are abandoned calls, in milliseconds.
const INTERVAL: ngx_msec_t = 250;

/// Reason for the refusal of calls when a pool has lost all its threads.
pub(crate) const ALL_LOST: &str = "the pool has lost all its threads to calls that do not end";

/// A call that goes on without its request.
struct AbandonedCall {
    exchange: Arc<Exchange>,
    /// Time at which the call is or was given up, in [`now`]'s microseconds.
    due: u64,
    /// Interrupt the call at that time.
    interrupt: bool,
}

/// The lost threads of a pool.
#[derive(Default)]
struct LostThreads {
    /// Number of threads that were added to replace lost ones.
    replaced: Cell<usize>,
    /// The pool has no thread left.
    all: Cell<bool>,
}

/// The abandoned calls of this worker.
pub(crate) struct AbandonedCalls {
    calls: RefCell<Vec<AbandonedCall>>,
    /// Indexed by pool.
    lost_threads: Vec<LostThreads>,
    /// Runs while there are calls. It does not keep a worker from quitting.
    timer: UnsafeCell<ngx_event_t>,
}

impl AbandonedCalls {
    /// An empty list for `pools` pools.
    pub(crate) fn new(pools: usize, log: *mut ngx_log_t) -> Self {
        // SAFETY: an event is a struct of pointers, integers and flags, for which zero is nginx's own start.
        let mut timer = unsafe { mem::zeroed::<ngx_event_t>() };
        timer.handler = Some(look);
        timer.log = log;
        timer.set_cancelable(1);
        Self {
            calls: RefCell::default(),
            lost_threads: (0..pools).map(|_| LostThreads::default()).collect(),
            timer: UnsafeCell::new(timer),
        }
    }

    /// Adds a call that goes on without its request. It is given up at `due`, and interrupted then if `interrupt` is
    /// set.
    pub(crate) fn add(&self, exchange: &Arc<Exchange>, due: u64, interrupt: bool) {
        let mut calls = self.calls.borrow_mut();
        if !calls.iter().any(|call| Arc::ptr_eq(&call.exchange, exchange)) {
            calls.push(AbandonedCall { exchange: Arc::clone(exchange), due, interrupt });
        }
        drop(calls);
        self.arm();
    }

    /// Returns the abandoned calls.
    pub(crate) fn calls(&self) -> Vec<Arc<Exchange>> {
        self.calls.borrow().iter().map(|call| Arc::clone(&call.exchange)).collect()
    }

    /// Whether `pool` has no thread left.
    #[inline]
    pub(crate) fn has_lost_all(&self, pool: usize) -> bool {
        self.lost_threads[pool].all.get()
    }

    fn arm(&self) {
        // SAFETY: the list lives as long as the process; timers are this thread's.
        unsafe {
            if (*self.timer.get()).timer_set() == 0 {
                ngx_add_timer(self.timer.get(), INTERVAL);
            }
        }
    }

    /// Number of threads of `pool` that are lost now.
    fn count_lost(&self, pool: usize) -> usize {
        let now = now();
        let calls = self.calls.borrow();
        calls.iter().filter(|call| call.exchange.pool() == pool && now.saturating_sub(call.due) >= PATIENCE).count()
    }

    /// Removes the calls that have ended, interrupts those that are due, and checks the pools.
    fn look(&self, worker: &Worker) {
        self.calls.borrow_mut().retain(|call| call.exchange.is_running());
        self.interrupt(worker);
        // While the GIL is held, no call can end and no thread can start. gil.rs handles that.
        if !worker.gil.is_held() {
            (0..self.lost_threads.len()).for_each(|pool| self.check(worker, pool));
        }
        if !self.calls.borrow().is_empty() {
            self.arm();
        }
    }

    /// Interrupts the calls whose time has come.
    fn interrupt(&self, worker: &Worker) {
        let now = now();
        for call in self.calls.borrow_mut().iter_mut().filter(|call| call.interrupt && call.due <= now) {
            call.interrupt = false;
            worker.interrupt(&call.exchange);
        }
    }

    /// Publishes the number of lost threads of a pool, replaces them, and refuses calls if all are lost.
    fn check(&self, worker: &Worker, pool: usize) {
        let (name, limit) = (&worker.pools[pool].name, worker.pools[pool].threads);
        let lost = self.count_lost(pool);
        worker.metrics(pool).set_lost(lost);
        self.replace(worker, pool, lost);
        let all = limit > 0 && lost >= 2 * limit;
        if all && !self.lost_threads[pool].all.replace(all) {
            log::write(
                NGX_LOG_ALERT,
                &format!("all {lost} threads of pool \"{name}\" are lost to calls that do not end"),
            );
            deadlines::give_up(Some(pool), ALL_LOST);
        }
        self.lost_threads[pool].all.set(all);
        if lost > limit {
            worker.leaving.begin_unnoticed(worker, &format!("{lost} threads are lost to calls that do not end"));
        }
    }

    /// Adds threads in place of lost ones when calls wait for them: at most the configured number of threads.
    fn replace(&self, worker: &Worker, pool: usize, lost: usize) {
        let replaced = &self.lost_threads[pool].replaced;
        let missing = lost.min(worker.pools[pool].threads).saturating_sub(replaced.get()).min(worker.queued(pool));
        if missing > 0 {
            let line =
                format!("{lost} calls of one pool do not end: threads added to replace those that are lost: {missing}");
            log::write(NGX_LOG_ERR, &line);
            replaced.set(replaced.get() + missing);
            (0..missing).for_each(|_| worker.add_thread(pool));
        }
    }
}

unsafe extern "C" fn look(_event: *mut ngx_event_t) {
    guard((), || worker().into_iter().for_each(|worker| worker.abandoned.look(worker)));
}
