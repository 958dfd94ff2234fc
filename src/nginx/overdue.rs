//! Calls that nobody waits for any more and that have not ended: their threads are replaced, up to a limit.
//!
//! An interrupted call ends at its next step in Python. One that sits in C, or that catches what interrupts it, goes
//! on; its thread is lost to the pool until it comes back. A pool that has lost as many threads as it was given, and as
//! many again, is lost itself: its requests are refused, and the worker ends as soon as nobody notices.

use std::cell::{Cell, RefCell, UnsafeCell};
use std::mem;
use std::sync::Arc;

use nginx_sys::*;

use super::ffi::guard;
use super::worker::{Worker, worker};
use super::{deadlines, log};
use crate::exchange::{Exchange, now};

/// How long a call may go on after it was interrupted, or was given up, before its thread counts as lost.
const PATIENCE: u64 = 1_000_000;
/// How often the list is looked at while there is something in it, in milliseconds.
const INTERVAL: ngx_msec_t = 250;

/// Why calls of a pool without threads are refused.
pub(crate) const ALL_LOST: &str = "the pool has lost all its threads to calls that do not end";

/// A call that goes on without its request.
struct Call {
    exchange: Arc<Exchange>,
    /// When it is to be given up, or was, in [`now`]'s microseconds.
    due: u64,
    /// Then it is interrupted.
    interrupt: bool,
}

/// What is lost of a pool.
#[derive(Default)]
struct Losses {
    /// Threads that were added for lost ones.
    replaced: Cell<usize>,
    /// There is no thread left.
    all: Cell<bool>,
}

/// The calls of this worker that go on without a request.
pub(crate) struct Overdue {
    calls: RefCell<Vec<Call>>,
    /// By pool.
    losses: Vec<Losses>,
    /// Fires while there are calls; it keeps no worker from quitting.
    timer: UnsafeCell<ngx_event_t>,
}

impl Overdue {
    /// An empty list for so many pools.
    pub(crate) fn new(pools: usize, log: *mut ngx_log_t) -> Self {
        // SAFETY: an event is a struct of pointers, integers and flags, for which zero is nginx's own start.
        let mut timer = unsafe { mem::zeroed::<ngx_event_t>() };
        timer.handler = Some(look);
        timer.log = log;
        timer.set_cancelable(1);
        Self {
            calls: RefCell::default(),
            losses: (0..pools).map(|_| Losses::default()).collect(),
            timer: UnsafeCell::new(timer),
        }
    }

    /// Adds a call that goes on without its request. It is given up at `due`; with `interrupt`, it is interrupted then.
    pub(crate) fn add(&self, exchange: &Arc<Exchange>, due: u64, interrupt: bool) {
        let mut calls = self.calls.borrow_mut();
        if !calls.iter().any(|call| Arc::ptr_eq(&call.exchange, exchange)) {
            calls.push(Call { exchange: Arc::clone(exchange), due, interrupt });
        }
        drop(calls);
        self.arm();
    }

    /// The calls.
    pub(crate) fn calls(&self) -> Vec<Arc<Exchange>> {
        self.calls.borrow().iter().map(|call| Arc::clone(&call.exchange)).collect()
    }

    /// Whether `pool` has no thread left.
    #[inline]
    pub(crate) fn is_lost(&self, pool: usize) -> bool {
        self.losses[pool].all.get()
    }

    fn arm(&self) {
        // SAFETY: the list lives as long as the process; timers are this thread's.
        unsafe {
            if (*self.timer.get()).timer_set() == 0 {
                ngx_add_timer(self.timer.get(), INTERVAL);
            }
        }
    }

    /// How many threads of `pool` are lost at the moment.
    fn lost(&self, pool: usize) -> usize {
        let now = now();
        let calls = self.calls.borrow();
        calls.iter().filter(|call| call.exchange.pool() == pool && now.saturating_sub(call.due) >= PATIENCE).count()
    }

    /// Forgets the calls that have ended, and sees to the others.
    fn look(&self, worker: &Worker) {
        self.calls.borrow_mut().retain(|call| call.exchange.is_running());
        self.interrupt(worker);
        // While the GIL is held no call can end, nor a thread begin: gil.rs sees to that.
        if !worker.gil.is_held() {
            (0..self.losses.len()).for_each(|pool| self.see_to(worker, pool));
        }
        if !self.calls.borrow().is_empty() {
            self.arm();
        }
    }

    /// Interrupts those that are due for it.
    fn interrupt(&self, worker: &Worker) {
        let now = now();
        for call in self.calls.borrow_mut().iter_mut().filter(|call| call.interrupt && call.due <= now) {
            call.interrupt = false;
            worker.interrupt(&call.exchange);
        }
    }

    /// Sees to a pool that has lost threads, or had.
    fn see_to(&self, worker: &Worker, pool: usize) {
        let (name, limit) = (&worker.pools[pool].name, worker.pools[pool].threads);
        let lost = self.lost(pool);
        worker.metrics(pool).set_lost(lost);
        self.replace(worker, pool, lost);
        let all = limit > 0 && lost >= 2 * limit;
        if all && !self.losses[pool].all.replace(all) {
            log::write(
                NGX_LOG_ALERT,
                &format!("all {lost} threads of pool \"{name}\" are lost to calls that do not end"),
            );
            deadlines::give_up(Some(pool), ALL_LOST);
        }
        self.losses[pool].all.set(all);
        if lost > limit {
            worker.leaving.begin_unnoticed(worker, &format!("{lost} threads are lost to calls that do not end"));
        }
    }

    /// A pool may have as many threads more as it was given. They are added when calls wait for them.
    fn replace(&self, worker: &Worker, pool: usize, lost: usize) {
        let replaced = &self.losses[pool].replaced;
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
    guard((), || worker().into_iter().for_each(|worker| worker.overdue.look(worker)));
}
