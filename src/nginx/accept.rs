//! Which worker accepts a connection: a stuck worker leaves it to its siblings while one of them is free.
//!
//! A worker is stuck when all threads of a pool are in calls and none has ended for a while, when it still imports its
//! applications, or when a call holds the GIL (gil.rs). Its event loop is idle, and would accept connections that a
//! sibling could serve at once. So each worker writes its state to the scoreboard. A stuck worker takes its listening
//! sockets out of its event loop. It puts them back when a thread is free, or when every sibling is stuck as well, so
//! no connection is refused. This needs shared listening sockets, without `accept_mutex` and `reuseport` (nginx's
//! default).

use std::cell::{Cell, RefCell, UnsafeCell};
use std::mem;

use nginx_sys::*;

use super::ffi::{guard, wsgi_set_accepting};
use super::scoreboard::{WorkerSlot, WorkerState};
use super::worker::{Worker, worker};

/// Interval of a worker's checks while a pool is full or calls come and go, in milliseconds. The worker is stuck when
/// no call has ended between two checks.
const INTERVAL: ngx_msec_t = 10;
/// Interval of the checks while there are only long calls, in milliseconds.
const QUIET_INTERVAL: ngx_msec_t = 50;

/// Decides whether this worker accepts connections.
pub(crate) struct Accept {
    slots: &'static [WorkerSlot],
    /// This worker's slot.
    slot: usize,
    /// Calls that have ended, by pool, and how many there were at the last look.
    ended: Vec<Cell<u64>>,
    seen: RefCell<Vec<u64>>,
    /// The listening sockets are out of the event loop.
    paused: Cell<bool>,
    /// Runs while there are calls; it keeps no worker from quitting.
    timer: UnsafeCell<ngx_event_t>,
}

impl Accept {
    /// For the worker in `slot`, which has started.
    pub(crate) fn new(slots: &'static [WorkerSlot], slot: usize, pools: usize, log: *mut ngx_log_t) -> Self {
        // SAFETY: an event is a struct of pointers, integers and flags, for which zero is nginx's own start.
        let mut timer = unsafe { mem::zeroed::<ngx_event_t>() };
        timer.handler = Some(look);
        timer.log = log;
        timer.set_cancelable(1);
        Self {
            slots,
            slot,
            ended: vec![Cell::new(0); pools],
            seen: RefCell::new(vec![0; pools]),
            paused: Cell::new(false),
            timer: UnsafeCell::new(timer),
        }
    }

    /// Returns the slots of all workers of the cycle.
    pub(crate) fn slots(&self) -> &'static [WorkerSlot] {
        self.slots
    }

    /// Records that nginx ends the process.
    pub(crate) fn note_exit(&self) {
        self.slots[self.slot].note_exit();
    }

    /// Looks for the first time as soon as the event loop turns.
    pub(crate) fn start(&self) {
        self.arm(0);
    }

    fn set_state(&self, state: WorkerState) {
        self.slots[self.slot].set_state(state);
    }

    /// Records that the worker accepts no more connections.
    pub(crate) fn leave(&self) {
        self.set_state(WorkerState::Absent);
    }

    /// Counts a call of `pool` that has ended.
    #[inline]
    pub(crate) fn ended(&self, pool: usize) {
        self.ended[pool].set(self.ended[pool].get() + 1);
    }

    /// Starts the checks after a call was submitted.
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

    /// Publishes the worker's state, and leaves new connections to a free sibling if this worker is stuck.
    fn pause(&self, stuck: bool, for_long: bool) {
        self.set_state(if stuck { WorkerState::Stuck } else { WorkerState::Free });
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

    /// Whether another worker is free to serve new connections.
    pub(crate) fn has_free_sibling(&self) -> bool {
        let mut others = self.slots.iter().enumerate().filter(|&(slot, _)| slot != self.slot);
        others.any(|(_, other)| other.state() == WorkerState::Free)
    }
}

unsafe extern "C" fn look(_event: *mut ngx_event_t) {
    guard((), || {
        if let Some(worker) = worker() {
            worker.accept.look(worker);
        }
    });
}
