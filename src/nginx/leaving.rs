//! A worker that ends of its own accord, so that the master starts another: Python in it is of no use any more.

use std::cell::{Cell, UnsafeCell};
use std::mem;

use nginx_sys::*;

use super::ffi::{guard, wsgi_is_idle};
use super::log;
use super::worker::Worker;

/// How long a worker that leaves goes on with what it has accepted, in milliseconds; then it ends at once.
const LONGEST: ngx_msec_t = 30_000;

/// How a worker ends, in nginx's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shutdown {
    /// It finishes what it has accepted, for a while. Its siblings accept new connections.
    Graceful,
    /// It closes all connections.
    Fast,
}

/// Whether this worker leaves.
pub(crate) struct Leaving {
    begun: Cell<bool>,
    /// Ends the worker at last; it keeps no worker from quitting.
    timer: UnsafeCell<ngx_event_t>,
}

impl Leaving {
    pub(crate) fn new(log: *mut ngx_log_t) -> Self {
        // SAFETY: an event is a struct of pointers, integers and flags, for which zero is nginx's own start.
        let mut timer = unsafe { mem::zeroed::<ngx_event_t>() };
        timer.handler = Some(terminate);
        timer.log = log;
        timer.set_cancelable(1);
        Self { begun: Cell::new(false), timer: UnsafeCell::new(timer) }
    }

    /// The worker has begun to leave.
    pub(crate) fn has_begun(&self) -> bool {
        self.begun.get()
    }

    /// Leaves, unless there is no master that would start another worker.
    pub(crate) fn begin(&self, worker: &Worker, how: Shutdown, why: &str) {
        // SAFETY: written by nginx in this thread.
        let has_master = unsafe { ngx_process } == NGX_PROCESS_WORKER as ngx_uint_t;
        if !has_master || self.begun.replace(true) {
            return;
        }
        log::write(NGX_LOG_ALERT, &format!("{why}: the worker ends, and the master starts another"));
        worker.accept.leave();
        // SAFETY: what nginx's own signal handler does; the event lives as long as the process, and timers are this
        // thread's.
        unsafe {
            match how {
                Shutdown::Graceful => {
                    ngx_quit = 1;
                    ngx_add_timer(self.timer.get(), LONGEST);
                }
                Shutdown::Fast => ngx_terminate = 1,
            }
        }
    }

    /// As [`Self::begin`], as soon as nobody notices: while siblings accept, or when no client is being served.
    pub(crate) fn begin_unnoticed(&self, worker: &Worker, why: &str) {
        if worker.accept.has_free_sibling() {
            self.begin(worker, Shutdown::Graceful, why);
        // SAFETY: reads the connection table, which is this thread's.
        } else if unsafe { wsgi_is_idle() } != 0 {
            self.begin(worker, Shutdown::Fast, why);
        }
    }
}

unsafe extern "C" fn terminate(_event: *mut ngx_event_t) {
    guard((), || {
        log::warn("the worker has been about to end for 30 s: it closes its connections");
        // SAFETY: as above.
        unsafe { ngx_terminate = 1 };
    });
}
