//! Which worker accepts a connection: one that is stuck leaves it to its siblings while one of them is not.
//!
//! Stuck is a worker of which all threads of a pool are in calls, none of which has ended for a while; one that imports
//! its applications and has no threads yet; and one in which a call holds the GIL (gil.rs). Its event loop is
//! as idle as ever, and would go on to accept what a sibling could serve at once. So the workers of a cycle share a
//! board on which each says how it is. A stuck one takes its listening sockets out of its event loop, and puts them back
//! as soon as a thread is free, or every sibling is stuck as well: nobody is ever refused. This needs sockets that the
//! workers share, without `accept_mutex` and `reuseport` (nginx's default).

use std::cell::{Cell, RefCell, UnsafeCell};
use std::mem;

use nginx_sys::*;

use super::board::{How, Place};
use super::ffi::{guard, wsgi_set_accepting};
use super::worker::{Worker, worker};

/// How often a worker looks at itself while a pool is full or calls come and go, in milliseconds; it is stuck after one
/// such look in vain.
const INTERVAL: ngx_msec_t = 10;
/// How often while there are only calls that take long.
const QUIET_INTERVAL: ngx_msec_t = 50;

/// This worker's part in it.
pub(crate) struct Accept {
    places: &'static [Place],
    /// This worker's place.
    place: usize,
    /// Calls that have ended, by pool, and how many there were at the last look.
    ended: Vec<Cell<u64>>,
    seen: RefCell<Vec<u64>>,
    /// The listening sockets are out of the event loop.
    paused: Cell<bool>,
    /// Runs while there are calls; it keeps no worker from quitting.
    timer: UnsafeCell<ngx_event_t>,
}

impl Accept {
    /// For the worker at `place`, which has begun.
    pub(crate) fn new(places: &'static [Place], place: usize, pools: usize, log: *mut ngx_log_t) -> Self {
        // SAFETY: an event is a struct of pointers, integers and flags, for which zero is nginx's own start.
        let mut timer = unsafe { mem::zeroed::<ngx_event_t>() };
        timer.handler = Some(look);
        timer.log = log;
        timer.set_cancelable(1);
        Self {
            places,
            place,
            ended: vec![Cell::new(0); pools],
            seen: RefCell::new(vec![0; pools]),
            paused: Cell::new(false),
            timer: UnsafeCell::new(timer),
        }
    }

    /// Where all workers of the cycle say how they are.
    pub(crate) fn places(&self) -> &'static [Place] {
        self.places
    }

    /// nginx ends the process.
    pub(crate) fn note_exit(&self) {
        self.places[self.place].note_exit();
    }

    /// Looks for the first time as soon as the event loop turns.
    pub(crate) fn start(&self) {
        self.arm(0);
    }

    fn say(&self, how: How) {
        self.places[self.place].say(how);
    }

    /// The worker will accept no more, or has never begun to.
    pub(crate) fn leave(&self) {
        self.say(How::Absent);
    }

    /// A call of that pool has ended.
    #[inline]
    pub(crate) fn ended(&self, pool: usize) {
        self.ended[pool].set(self.ended[pool].get() + 1);
    }

    /// A call has been submitted: looks out from now on.
    #[inline]
    pub(crate) fn watch(&self) {
        // SAFETY: the event lives as long as the process; timers are this thread's.
        if unsafe { (*self.timer.get()).timer_set() } == 0 {
            self.note_ends();
            self.arm(INTERVAL);
        }
    }

    /// Whether new connections are left to siblings. Those that a client has already are better closed, then.
    pub(crate) fn is_paused(&self) -> bool {
        self.paused.get()
    }

    fn note_ends(&self) {
        self.seen.replace(self.ended.iter().map(Cell::get).collect());
    }

    fn arm(&self, after: ngx_msec_t) {
        // SAFETY: as above.
        unsafe { ngx_add_timer(self.timer.get(), after) };
    }

    fn look(&self, worker: &Worker) {
        // SAFETY: written by nginx in this thread.
        if unsafe { ngx_quit != 0 || ngx_exiting != 0 } {
            return self.leave();
        }
        let imports = worker.is_importing();
        let moves = !imports && worker.gil.look(worker);
        let mut full = (0..self.ended.len()).filter(|&pool| worker.is_full(pool)).peekable();
        let hurry = imports || moves || full.peek().is_some();
        let waits = full.any(|pool| self.ended[pool].get() == self.seen.borrow()[pool]);
        self.pause(imports || waits || worker.gil.is_held(), worker.gil.is_held());
        self.note_ends();
        if hurry || worker.active() > 0 {
            self.arm(if hurry { INTERVAL } else { QUIET_INTERVAL });
        }
    }

    /// Says how the worker is, and leaves new connections to a sibling that is better off.
    fn pause(&self, stuck: bool, for_long: bool) {
        self.say(if stuck { How::Stuck } else { How::Free });
        let pause = stuck && self.has_free_sibling();
        if self.paused.replace(pause) != pause {
            // SAFETY: the event loop's own thread, in a worker; closing idle connections is what nginx does when it quits.
            unsafe {
                wsgi_set_accepting((!pause).into());
                if pause && for_long {
                    ngx_close_idle_connections(ngx_cycle);
                }
            }
        }
    }

    /// Whether another worker would serve at once what this one leaves to it.
    pub(crate) fn has_free_sibling(&self) -> bool {
        let mut others = self.places.iter().enumerate().filter(|&(place, _)| place != self.place);
        others.any(|(_, other)| other.how() == How::Free)
    }
}

unsafe extern "C" fn look(_event: *mut ngx_event_t) {
    guard((), || {
        if let Some(worker) = worker() {
            worker.accept.look(worker);
        }
    });
}
