//! The scoreboard: memory that the workers of a cycle share. It holds the state of each worker and the metrics of its
//! pools.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU64, Ordering};
use std::{mem, slice};

use nginx_sys::*;

use super::ffi::OK;
use crate::exchange::metrics::PoolMetrics;

/// Largest number of worker processes that nginx supports.
pub(crate) const WORKERS: usize = NGX_MAX_PROCESSES as usize;

/// Whether a worker can serve new connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum WorkerState {
    /// There is no worker: it has left, or never existed.
    Absent,
    Free,
    /// It has no threads yet, or all threads of a pool are in calls and none ends, or nobody can get the GIL.
    Stuck,
}

/// A worker's slot on the scoreboard. A slot that no worker has used is all zeros.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub(crate) struct WorkerSlot {
    state: AtomicU8,
    pid: AtomicI64,
    started: AtomicI64,
    starts: AtomicU64,
    exits: AtomicBool,
}

impl WorkerSlot {
    /// Assigns the slot to the process `pid`, which has no threads yet.
    pub(crate) fn start(&self, pid: i64, now: i64) {
        self.exits.store(false, Ordering::Relaxed);
        self.pid.store(pid, Ordering::Relaxed);
        self.started.store(now, Ordering::Relaxed);
        self.starts.fetch_add(1, Ordering::Relaxed);
        self.set_state(WorkerState::Stuck);
    }

    /// Records that nginx itself ends the process, so the exit code is nginx's.
    pub(crate) fn note_exit(&self) {
        self.exits.store(true, Ordering::Relaxed);
    }

    pub(crate) fn set_state(&self, state: WorkerState) {
        self.state.store(state as u8, Ordering::Relaxed);
    }

    pub(crate) fn state(&self) -> WorkerState {
        match self.state.load(Ordering::Relaxed) {
            state if state == WorkerState::Free as u8 => WorkerState::Free,
            state if state == WorkerState::Stuck as u8 => WorkerState::Stuck,
            _ => WorkerState::Absent,
        }
    }

    pub(crate) fn pid(&self) -> i64 {
        self.pid.load(Ordering::Relaxed)
    }

    /// Time when the worker started, in Unix time.
    pub(crate) fn started(&self) -> i64 {
        self.started.load(Ordering::Relaxed)
    }

    /// Number of workers that have used the slot.
    pub(crate) fn starts(&self) -> u64 {
        self.starts.load(Ordering::Relaxed)
    }
}

/// A slot for each possible worker, followed by the metrics of each of its pools. Pages that are never written take no
/// memory.
pub(crate) struct Scoreboard {
    memory: ngx_shm_t,
    pools: usize,
}

impl Scoreboard {
    /// Allocates the shared memory. Returns `None`, after nginx has logged it, when there is not enough.
    pub(crate) fn new(pools: usize, log: *mut ngx_log_t) -> Option<Self> {
        // SAFETY: a struct of pointers and integers, for which zero is a start.
        let mut memory: ngx_shm_t = unsafe { mem::zeroed() };
        memory.size = WORKERS * (size_of::<WorkerSlot>() + pools * size_of::<PoolMetrics>());
        memory.log = log;
        // SAFETY: allocates `memory.size` bytes, all zero.
        (unsafe { ngx_shm_alloc(&mut memory) } == OK).then_some(Self { memory, pools })
    }

    /// Returns the slots, indexed by worker.
    pub(crate) fn slots(&self) -> &[WorkerSlot] {
        // SAFETY: the slots are at the start of the memory, which begins a page and lives as long as the scoreboard.
        // Zero is a valid slot, and all fields are atomic.
        unsafe { slice::from_raw_parts(self.memory.addr.cast(), WORKERS) }
    }

    /// Whether `pid` is a worker that nginx has not ended. If it is gone all the same, an application has ended it.
    pub(crate) fn is_unended(&self, pid: i64) -> bool {
        self.slots().iter().any(|slot| slot.pid() == pid && !slot.exits.load(Ordering::Relaxed))
    }

    /// Returns the metrics of a worker, indexed by pool. Panics if there is no such worker.
    pub(crate) fn pool_metrics(&self, worker: usize) -> &[PoolMetrics] {
        const { assert!((WORKERS * size_of::<WorkerSlot>()) % align_of::<PoolMetrics>() == 0) };
        assert!(worker < WORKERS, "a worker beyond the scoreboard");
        // SAFETY: as above, for the metrics that follow the slots. The assertions check alignment and bounds.
        unsafe {
            let first = self.memory.addr.add(WORKERS * size_of::<WorkerSlot>()).cast::<PoolMetrics>();
            slice::from_raw_parts(first.add(worker * self.pools), self.pools)
        }
    }

    /// Registers this process as the worker of `slot`.
    pub(crate) fn start(&self, slot: usize) {
        self.pool_metrics(slot).iter().for_each(PoolMetrics::reset_gauges);
        // SAFETY: written by nginx before a process starts its modules.
        self.slots()[slot].start(unsafe { ngx_pid }.into(), ngx_time());
    }
}

impl Drop for Scoreboard {
    fn drop(&mut self) {
        // SAFETY: it was allocated by `new`, and other processes have mappings of their own. The log of that time may
        // be gone; the present cycle has one.
        unsafe {
            self.memory.log = (*ngx_cycle).log;
            ngx_shm_free(&mut self.memory);
        }
    }
}
