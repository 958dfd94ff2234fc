//! Calls that have run out of time and have not ended: their threads are replaced, up to a limit.
//!
//! An interrupted call ends at its next step in Python. One that sits in C, or that catches what interrupts it, goes
//! on; nobody waits for it, but its thread is lost to the pool until it comes back.

use std::cell::{Cell, RefCell, UnsafeCell};
use std::sync::Arc;

use nginx_sys::*;

use super::ffi::guard;
use super::log;
use super::worker::worker;
use crate::exchange::{Exchange, now, spec};

/// How long a call may go on after it was interrupted, or was given up, before its thread counts as lost.
const PATIENCE: u64 = 5_000_000;
/// How often the list is looked at while there is something in it, in milliseconds.
const INTERVAL: ngx_msec_t = 1000;

/// A call that was given up.
struct Call {
    exchange: Arc<Exchange>,
    /// When it was given up, in [`now`]'s microseconds.
    since: u64,
}

/// The calls of this worker that were given up and still run.
pub(crate) struct Overdue {
    calls: RefCell<Vec<Call>>,
    /// Threads that were added for lost ones, by pool.
    replaced: RefCell<Vec<usize>>,
    /// Fires while there are calls; it keeps no worker from quitting.
    timer: UnsafeCell<ngx_event_t>,
    recycling: Cell<bool>,
}

impl Overdue {
    /// An empty list for so many pools.
    pub(crate) fn new(pools: usize, log: *mut ngx_log_t) -> Self {
        // SAFETY: an event is a struct of pointers, integers and flags, for which zero is nginx's own start.
        let mut timer = unsafe { std::mem::zeroed::<ngx_event_t>() };
        timer.handler = Some(look);
        timer.log = log;
        timer.set_cancelable(1);
        Self {
            calls: RefCell::default(),
            replaced: RefCell::new(vec![0; pools]),
            timer: UnsafeCell::new(timer),
            recycling: Cell::new(false),
        }
    }

    /// A call has been given up.
    pub(crate) fn add(&self, exchange: &Arc<Exchange>) {
        self.calls.borrow_mut().push(Call { exchange: Arc::clone(exchange), since: now() });
        self.arm();
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
        calls.iter().filter(|call| call.exchange.pool() == pool && now - call.since >= PATIENCE).count()
    }

    /// Forgets the calls that have ended, and sees to the others: a pool may have as many threads more as it was given.
    /// `note_lost` is told how many of each are lost.
    fn look(&self, pools: &[spec::Pool], note_lost: impl Fn(usize, usize), add_thread: impl Fn(usize)) {
        self.calls.borrow_mut().retain(|call| call.exchange.is_running());
        for (pool, limit) in pools.iter().map(|pool| pool.threads).enumerate() {
            let lost = self.lost(pool);
            note_lost(pool, lost);
            let replaced = self.replaced.borrow()[pool];
            if lost > limit {
                self.recycle(lost);
            } else if lost > replaced {
                let line = format!("{lost} calls of one pool do not end: a thread is added in the place of a lost one");
                log::write(NGX_LOG_ERR, &line);
                self.replaced.borrow_mut()[pool] += 1;
                add_thread(pool);
            }
        }
        if !self.calls.borrow().is_empty() {
            self.arm();
        }
    }

    /// Has the worker leave as if it had been told to quit; the master starts another.
    fn recycle(&self, lost: usize) {
        if !self.recycling.replace(true) {
            log::write(
                NGX_LOG_ALERT,
                &format!("{lost} threads are lost to calls that do not end: the worker is recycled"),
            );
            if let Some(worker) = worker() {
                worker.accept.leave();
            }
            // SAFETY: what nginx's own signal handler does; without a master nobody would start another worker.
            unsafe { ngx_quit = (ngx_process == NGX_PROCESS_WORKER as ngx_uint_t).into() };
        }
    }
}

unsafe extern "C" fn look(_event: *mut ngx_event_t) {
    guard((), || {
        if let Some(worker) = worker() {
            let note_lost = |pool, lost| worker.tally(pool).set_lost(lost);
            worker.overdue.look(&worker.pools, note_lost, |pool| worker.add_thread(pool));
        }
    });
}
