//! The pool in a simulation: real code of queue, sleep and turn, on a clock and a lock of the simulation's own.
//!
//! The simulated threads are threads of the system, but one of them runs at a time, until it waits for something. Then the
//! one whose wait is over first goes on, at that time. The same workload and seed give the same run.

mod lock;
mod pool_test;
mod world;

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use world::World;

thread_local! {
    static CURRENT: RefCell<Option<Thread>> = const { RefCell::new(None) };
}

/// A simulated thread.
#[derive(Clone)]
pub(super) struct Thread {
    world: Arc<World>,
    number: usize,
}

impl Thread {
    /// The calling thread, if it is one of a simulation.
    pub(super) fn current() -> Option<Self> {
        CURRENT.with(|current| current.borrow().clone())
    }

    /// Runs `work` on a new thread of the system as the simulated thread `number`, when its time comes.
    fn spawn(
        world: &Arc<World>,
        number: usize,
        work: impl FnOnce(Self) + Send + 'static,
    ) -> std::thread::JoinHandle<()> {
        let thread = Self { world: Arc::clone(world), number };
        std::thread::spawn(move || {
            CURRENT.with(|current| *current.borrow_mut() = Some(thread.clone()));
            if thread.world.begin(number) {
                let worked = catch_unwind(AssertUnwindSafe(|| work(thread.clone())));
                thread.world.end(number, worked.is_err());
            }
        })
    }

    /// As [`super::asleep::current`].
    pub(super) fn tid(&self) -> super::asleep::Tid {
        self.number as super::asleep::Tid
    }

    /// As [`super::asleep::is_asleep`].
    pub(super) fn is_asleep(&self, tid: super::asleep::Tid) -> bool {
        self.world.is_asleep(tid as usize)
    }

    /// As [`super::parker::Parker::park`].
    pub(super) fn park(&self) {
        self.world.park(self.number);
    }

    /// As [`super::parker::Parker::unpark`].
    pub(super) fn unpark(&self) {
        self.world.unpark(self.number);
    }
}

/// The simulated time in nanoseconds, on a simulated thread.
pub(super) fn now() -> Option<u64> {
    CURRENT.with(|current| current.borrow().as_ref().map(|thread| thread.world.now() + 1))
}
