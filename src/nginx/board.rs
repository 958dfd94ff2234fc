//! What the workers of one cycle tell each other, in memory that they share: how each of them is, and what its pools have
//! done and are at.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU64, Ordering};
use std::{mem, slice};

use nginx_sys::*;

use super::ffi::OK;
use crate::exchange::tally::Tally;

/// As many as nginx can have.
pub(crate) const WORKERS: usize = NGX_MAX_PROCESSES as usize;

/// How a worker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum How {
    /// It has left, or there has never been one.
    Absent,
    Free,
    /// It has no threads yet, or all threads of a pool are in calls and none ends, or nobody can get the GIL.
    Stuck,
}

/// A worker's place on the board. All zero is one that nobody has had.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub(crate) struct Place {
    how: AtomicU8,
    pid: AtomicI64,
    started: AtomicI64,
    starts: AtomicU64,
    exits: AtomicBool,
}

impl Place {
    /// That process is the worker of this place from now on. It has no threads yet.
    pub(crate) fn start(&self, pid: i64, now: i64) {
        self.exits.store(false, Ordering::Relaxed);
        self.pid.store(pid, Ordering::Relaxed);
        self.started.store(now, Ordering::Relaxed);
        self.starts.fetch_add(1, Ordering::Relaxed);
        self.say(How::Stuck);
    }

    /// nginx ends the process: its exit code is nginx's.
    pub(crate) fn note_exit(&self) {
        self.exits.store(true, Ordering::Relaxed);
    }

    pub(crate) fn say(&self, how: How) {
        self.how.store(how as u8, Ordering::Relaxed);
    }

    pub(crate) fn how(&self) -> How {
        match self.how.load(Ordering::Relaxed) {
            how if how == How::Free as u8 => How::Free,
            how if how == How::Stuck as u8 => How::Stuck,
            _ => How::Absent,
        }
    }

    pub(crate) fn pid(&self) -> i64 {
        self.pid.load(Ordering::Relaxed)
    }

    /// When the worker began, in Unix time.
    pub(crate) fn started(&self) -> i64 {
        self.started.load(Ordering::Relaxed)
    }

    /// How many workers have had the place.
    pub(crate) fn starts(&self) -> u64 {
        self.starts.load(Ordering::Relaxed)
    }
}

/// A place for each worker that nginx can have, and behind them a tally for each of its pools. Pages that nobody has
/// written to take no memory.
pub(crate) struct Board {
    memory: ngx_shm_t,
    pools: usize,
}

impl Board {
    /// `None`: out of memory, and nginx has said so.
    pub(crate) fn new(pools: usize, log: *mut ngx_log_t) -> Option<Self> {
        // SAFETY: a struct of pointers and integers, for which zero is a start.
        let mut memory: ngx_shm_t = unsafe { mem::zeroed() };
        memory.size = WORKERS * (size_of::<Place>() + pools * size_of::<Tally>());
        memory.log = log;
        // SAFETY: asks for so many bytes, which come zeroed.
        (unsafe { ngx_shm_alloc(&mut memory) } == OK).then_some(Self { memory, pools })
    }

    /// The workers' places, by worker.
    pub(crate) fn places(&self) -> &[Place] {
        // SAFETY: the memory begins with them, at the beginning of a page, and lives as long as the board; zero is their
        // start, and all processes use them atomically.
        unsafe { slice::from_raw_parts(self.memory.addr.cast(), WORKERS) }
    }

    /// Whether that process is a worker that nginx has not ended: if it is gone, an application has.
    pub(crate) fn is_unended(&self, pid: i64) -> bool {
        self.places().iter().any(|place| place.pid() == pid && !place.exits.load(Ordering::Relaxed))
    }

    /// The tallies of a worker, by pool.
    ///
    /// Panics where there is no such place.
    pub(crate) fn tallies(&self, worker: usize) -> &[Tally] {
        const { assert!((WORKERS * size_of::<Place>()) % align_of::<Tally>() == 0) };
        assert!(worker < WORKERS, "a worker beyond the board");
        // SAFETY: as above, for what is behind the places; the assertions show that it is aligned and inside.
        unsafe {
            let first = self.memory.addr.add(WORKERS * size_of::<Place>()).cast::<Tally>();
            slice::from_raw_parts(first.add(worker * self.pools), self.pools)
        }
    }

    /// This process begins as the worker of `place`.
    pub(crate) fn start(&self, place: usize) {
        self.tallies(place).iter().for_each(Tally::start);
        // SAFETY: written by nginx before a process starts its modules.
        self.places()[place].start(unsafe { ngx_pid }.into(), ngx_time());
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        // SAFETY: it was allocated by `new`, and other processes have mappings of their own. The log of that time may be
        // gone; the present cycle has one.
        unsafe {
            self.memory.log = (*ngx_cycle).log;
            ngx_shm_free(&mut self.memory);
        }
    }
}
