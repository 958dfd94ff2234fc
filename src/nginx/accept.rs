//! Which worker accepts a connection: one that is stuck leaves it to its siblings while one of them is not.
//!
//! Stuck is a worker of which all threads of a pool are in calls, none of which has ended for a while. Its event loop is
//! as idle as ever, and would go on to accept what a sibling could serve at once. So the workers of a cycle share a
//! board on which each says how it is. A stuck one takes its listening sockets out of its event loop, and puts them back
//! as soon as a thread is free, or every sibling is stuck as well: nobody is ever refused. This needs sockets that the
//! workers share, without `accept_mutex` and `reuseport` (nginx's default).

use std::cell::{Cell, RefCell, UnsafeCell};
use std::mem;

use nginx_sys::*;

use super::board::{How, Place};
use super::ffi::{guard, wsgi_set_accepting};
use super::worker::worker;

/// How often a worker looks at itself while a pool is full, in milliseconds; it is stuck after one such look in vain.
const INTERVAL: ngx_msec_t = 10;

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
    /// Runs while a pool is full; it keeps no worker from quitting.
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

    /// A call has been submitted: looks out if its pool `is_full` now.
    #[inline]
    pub(crate) fn watch(&self, is_full: impl FnOnce() -> bool) {
        // SAFETY: the event lives as long as the process; timers are this thread's.
        if self.places.len() > 1 && unsafe { (*self.timer.get()).timer_set() } == 0 && is_full() {
            self.note_ends();
            self.arm();
        }
    }

    fn note_ends(&self) {
        self.seen.replace(self.ended.iter().map(Cell::get).collect());
    }

    fn arm(&self) {
        // SAFETY: as above.
        unsafe { ngx_add_timer(self.timer.get(), INTERVAL) };
    }

    fn look(&self, is_full: impl Fn(usize) -> bool) {
        // SAFETY: written by nginx in this thread.
        if unsafe { ngx_quit != 0 || ngx_exiting != 0 } {
            return self.leave();
        }
        let full: Vec<usize> = (0..self.ended.len()).filter(|&pool| is_full(pool)).collect();
        let stuck = full.iter().any(|&pool| self.ended[pool].get() == self.seen.borrow()[pool]);
        self.say(if stuck { How::Stuck } else { How::Free });
        let pause = stuck && self.has_free_sibling();
        if self.paused.replace(pause) != pause {
            // SAFETY: the event loop's own thread, in a worker.
            unsafe { wsgi_set_accepting((!pause).into()) };
        }
        self.note_ends();
        if !full.is_empty() {
            self.arm();
        }
    }

    fn has_free_sibling(&self) -> bool {
        let mut others = self.places.iter().enumerate().filter(|&(place, _)| place != self.place);
        others.any(|(_, other)| other.how() == How::Free)
    }
}

unsafe extern "C" fn look(_event: *mut ngx_event_t) {
    guard((), || {
        if let Some(worker) = worker() {
            worker.accept.look(|pool| worker.is_full(pool));
        }
    });
}
