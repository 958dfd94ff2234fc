//! The jobs that wait, first come, first served.

use std::collections::VecDeque;

use super::Task;
use super::injector::Injector;
use super::panics::guarded;
use super::sync::{AtomicBool, AtomicIsize, AtomicUsize, Mutex, Ordering, lock};

/// How many cancelled jobs may lie in a queue of this capacity before a sweep removes them.
pub(super) fn most_dead(capacity: usize) -> usize {
    capacity / 2 + 16
}

/// Keeps what every `submit` writes away from its neighbours' cache lines.
#[repr(align(128))]
struct Apart<T>(T);

/// A bounded FIFO.
pub(super) struct Queue<J> {
    injector: Injector<J>,
    /// The jobs that the last sweep has kept. They are older than those in the injector.
    swept: Mutex<VecDeque<J>>,
    /// `swept` may hold jobs, or a sweep goes on: look there first.
    has_swept: AtomicBool,
    /// Number of jobs in both. A job is counted before it is pushed and until it has been taken.
    waiting: Apart<AtomicUsize>,
    /// Number of those that have been cancelled. Negative while a job is taken before its cancellation is counted.
    dead: AtomicIsize,
    capacity: usize,
}

impl<J: Task> Queue<J> {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            injector: Injector::new(),
            swept: Mutex::new(VecDeque::new()),
            has_swept: AtomicBool::new(false),
            waiting: Apart(AtomicUsize::new(0)),
            dead: AtomicIsize::new(0),
            capacity,
        }
    }

    /// The count that [`super::sleep`] goes by. Cancelled jobs count, for a thread must take them out as well.
    pub(super) fn waiting(&self) -> &AtomicUsize {
        &self.waiting.0
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.waiting().load(Ordering::Relaxed) == 0
    }

    fn live_of(&self, waiting: usize) -> usize {
        waiting.saturating_sub(self.dead().max(0) as usize)
    }

    fn dead(&self) -> isize {
        self.dead.load(Ordering::Relaxed)
    }

    /// Number of jobs that wait and have not been cancelled.
    pub(super) fn live(&self) -> usize {
        self.live_of(self.waiting().load(Ordering::Relaxed))
    }

    /// Adds a job at the end; hands it back when the queue is full.
    pub(super) fn push(&self, job: J) -> Result<(), J> {
        if self.dead() > most_dead(self.capacity) as isize {
            self.sweep();
        }
        let admit = |waiting| (self.live_of(waiting) < self.capacity).then_some(waiting + 1);
        // Acquire: whoever counts a dead job off has lowered `dead` before.
        if self.waiting().fetch_update(Ordering::Relaxed, Ordering::Acquire, admit).is_err() {
            return Err(job);
        }
        self.injector.push(job);
        Ok(())
    }

    /// A job that waits has been cancelled.
    pub(super) fn forget(&self) {
        self.dead.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes the next job that is to be run; drops the cancelled ones before it.
    pub(super) fn take(&self) -> Option<J> {
        loop {
            let job = self.pop()?;
            let claimed = guarded(|| job.claim());
            if claimed == Some(false) {
                self.dead.fetch_sub(1, Ordering::Relaxed);
            }
            self.waiting().fetch_sub(1, Ordering::Release);
            if claimed == Some(true) {
                return Some(job);
            }
            guarded(|| drop(job));
        }
    }

    fn pop(&self) -> Option<J> {
        if self.has_swept.load(Ordering::Acquire) {
            let mut swept = lock(&self.swept);
            if let Some(job) = swept.pop_front() {
                return Some(job);
            }
            self.has_swept.store(false, Ordering::Release);
        }
        self.injector.pop()
    }

    /// Drops the cancelled jobs; the others keep their order. Threads that want a job wait until it is done.
    #[cold]
    fn sweep(&self) {
        let mut swept = lock(&self.swept);
        self.has_swept.store(true, Ordering::Release);
        let is_dead = |job: &J| guarded(|| job.is_cancelled()).unwrap_or(false);
        let (dead, live): (VecDeque<J>, VecDeque<J>) = self.drain(&mut swept).partition(is_dead);
        *swept = live;
        drop(swept);
        self.dead.fetch_sub(dead.len() as isize, Ordering::Relaxed);
        self.discard(dead);
    }

    /// Takes everything out, oldest first, but no more than there was at the start.
    fn drain(&self, swept: &mut VecDeque<J>) -> impl Iterator<Item = J> {
        let most = self.waiting().load(Ordering::Relaxed);
        std::mem::take(swept).into_iter().chain(std::iter::from_fn(|| self.injector.pop()).take(most))
    }

    /// Drops all jobs.
    pub(super) fn clear(&self) {
        let all: VecDeque<J> = self.drain(&mut lock(&self.swept)).collect();
        let dead = all.iter().filter(|job| guarded(|| job.is_cancelled()).unwrap_or(false)).count();
        self.dead.fetch_sub(dead as isize, Ordering::Relaxed);
        self.discard(all);
    }

    fn discard(&self, jobs: VecDeque<J>) {
        self.waiting().fetch_sub(jobs.len(), Ordering::Release);
        for job in jobs {
            guarded(|| drop(job));
        }
    }
}
