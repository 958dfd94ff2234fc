//! Which worker accepts a connection: one that is stuck leaves it to its siblings while one of them is not.
//!
//! Stuck is a worker of which all threads of a pool are in calls, none of which has ended for a while. Its event loop is
//! as idle as ever, and would go on to accept what a sibling could serve at once. So the workers of a cycle share a
//! board on which each says how it is. A stuck one takes its listening sockets out of its event loop, and puts them back
//! as soon as a thread is free, or every sibling is stuck as well: nobody is ever refused. This needs sockets that the
//! workers share, without `accept_mutex` and `reuseport` (nginx's default).

use std::cell::{Cell, RefCell, UnsafeCell};
use std::sync::atomic::{AtomicU8, Ordering};
use std::{mem, slice};

use nginx_sys::*;

use super::ffi::{OK, guard, wsgi_set_accepting};
use super::worker::worker;

/// How often a worker looks at itself while a pool is full, in milliseconds; it is stuck after one such look in vain.
const INTERVAL: ngx_msec_t = 10;

/// On the board: there is no such worker.
const ABSENT: u8 = 0;
const FREE: u8 = 1;
const STUCK: u8 = 2;

/// What the workers of one cycle tell each other, in memory that they share.
pub(crate) struct Board(ngx_shm_t);

impl Board {
    /// `None`: out of memory, and nginx has said so.
    pub(crate) fn new(log: *mut ngx_log_t) -> Option<Self> {
        // SAFETY: a struct of pointers and integers, for which zero is a start.
        let mut memory: ngx_shm_t = unsafe { mem::zeroed() };
        memory.size = NGX_MAX_PROCESSES as usize;
        memory.log = log;
        // SAFETY: asks for so many bytes, which come zeroed.
        (unsafe { ngx_shm_alloc(&mut memory) } == OK).then_some(Self(memory))
    }

    fn workers(&self) -> &[AtomicU8] {
        // SAFETY: the memory is as long as that, and lives as long as the board; all processes use it atomically.
        unsafe { slice::from_raw_parts(self.0.addr.cast(), self.0.size) }
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        // SAFETY: it was allocated by `new`, and other processes have mappings of their own. The log of that time may be
        // gone; the present cycle has one.
        unsafe {
            self.0.log = (*ngx_cycle).log;
            ngx_shm_free(&mut self.0);
        }
    }
}

/// This worker's part in it.
pub(crate) struct Accept {
    /// `None` where there are no siblings.
    board: Option<&'static [AtomicU8]>,
    /// This worker's place on the board.
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
    /// `board`: that of the cycle, where there are siblings.
    pub(crate) fn new(board: Option<&'static Board>, pools: usize, log: *mut ngx_log_t) -> Self {
        // SAFETY: an event is a struct of pointers, integers and flags, for which zero is nginx's own start.
        let mut timer = unsafe { mem::zeroed::<ngx_event_t>() };
        timer.handler = Some(look);
        timer.log = log;
        timer.set_cancelable(1);
        let accept = Self {
            board: board.map(Board::workers),
            // SAFETY: written by nginx before a process starts its modules.
            place: unsafe { ngx_worker },
            ended: vec![Cell::new(0); pools],
            seen: RefCell::new(vec![0; pools]),
            paused: Cell::new(false),
            timer: UnsafeCell::new(timer),
        };
        accept.say(FREE);
        accept
    }

    fn say(&self, how: u8) {
        if let Some(place) = self.board.and_then(|board| board.get(self.place)) {
            place.store(how, Ordering::Relaxed);
        }
    }

    /// The worker will accept no more, or has never begun to.
    pub(crate) fn leave(&self) {
        self.say(ABSENT);
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
        if self.board.is_some() && unsafe { (*self.timer.get()).timer_set() } == 0 && is_full() {
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
        self.say(if stuck { STUCK } else { FREE });
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
        let others = self.board.unwrap_or_default().iter().enumerate().filter(|&(place, _)| place != self.place);
        others.into_iter().any(|(_, how)| how.load(Ordering::Relaxed) == FREE)
    }
}

unsafe extern "C" fn look(_event: *mut ngx_event_t) {
    guard((), || {
        if let Some(worker) = worker() {
            worker.accept.look(|pool| worker.is_full(pool));
        }
    });
}
