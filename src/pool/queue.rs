//! The jobs that wait, in order of arrival as far as batches allow.

use std::collections::VecDeque;
use std::sync::PoisonError;

use super::Task;
use super::deque::{Deque, Injector, Thief};
use super::panics::guarded;
use super::sync::{AtomicIsize, AtomicUsize, Mutex, Ordering, RwLock, lock};

/// How many jobs a thread takes out of the injector, or out of another thread's deque, at a time, where jobs keep the lock.
///
/// A batch saves atomic operations, but what lies in it can be overtaken until another thread finds it.
pub(super) const BATCH: usize = 8;

/// How many cancelled jobs may lie in the queue for a capacity before they are swept out.
pub(super) fn most_dead(capacity: usize) -> usize {
    capacity / 2 + 16
}

/// Keeps what every `submit` writes away from its neighbours' cache lines.
#[repr(align(128))]
struct Apart<T>(T);

/// A bounded queue: an injector, a deque for each thread, and a row for what a sweep has left over.
pub(super) struct Queue<J> {
    injector: Injector<J>,
    /// All the deques, by their thread's number. They hold older jobs than the injector does.
    thieves: RwLock<Vec<(usize, Thief<J>)>>,
    /// Older than what the injector holds, as well.
    row: Mutex<VecDeque<J>>,
    /// Changes when jobs have been laid outside the injector: look for them there before the next batch.
    laid: AtomicUsize,
    /// The jobs in all of these. Counted before they are pushed, and until they have been taken.
    waiting: Apart<AtomicUsize>,
    /// Those among them that have been cancelled. Below zero while a job surfaces before its cancellation is told.
    dead: AtomicIsize,
    capacity: usize,
    numbers: AtomicUsize,
}

/// One thread's share of a [`Queue`].
pub(super) struct Share<J> {
    deque: Deque<J>,
    number: usize,
    /// The value of `laid` when the thread last found nothing outside the injector.
    seen: usize,
    /// Where it looks first.
    next: usize,
}

impl<J> Share<J> {
    /// No other thread's.
    pub(super) fn number(&self) -> usize {
        self.number
    }
}

impl<J: Task> Queue<J> {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            injector: Injector::new(),
            thieves: RwLock::new(Vec::new()),
            row: Mutex::new(VecDeque::new()),
            laid: AtomicUsize::new(0),
            waiting: Apart(AtomicUsize::new(0)),
            dead: AtomicIsize::new(0),
            capacity,
            numbers: AtomicUsize::new(0),
        }
    }

    /// The count that [`super::sleep`] goes by: cancelled jobs count, for they must be taken out as well.
    pub(super) fn waiting(&self) -> &AtomicUsize {
        &self.waiting.0
    }

    fn live_of(&self, waiting: usize) -> usize {
        waiting.saturating_sub(self.dead().max(0) as usize)
    }

    fn dead(&self) -> isize {
        self.dead.load(Ordering::Relaxed)
    }

    /// The jobs that wait and have not been cancelled.
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

    /// A new thread's share.
    pub(super) fn join(&self) -> Share<J> {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let deque = Deque::new();
        self.thieves.write().unwrap_or_else(PoisonError::into_inner).push((number, deque.thief()));
        // Not what `laid` is: the thread has yet to look.
        let seen = self.laid.load(Ordering::Acquire).wrapping_sub(1);
        Share { deque, number, seen, next: number }
    }

    /// Gives a share up; what is left in it goes to the others.
    pub(super) fn leave(&self, share: &Share<J>) {
        self.thieves.write().unwrap_or_else(PoisonError::into_inner).retain(|(number, _)| *number != share.number);
        let mut row = lock(&self.row);
        while let Some(job) = share.deque.pop() {
            row.push_back(job);
        }
        self.laid.fetch_add(1, Ordering::Release);
    }

    /// Takes the next job that is to be run; drops the cancelled ones before it. Up to `batch` jobs come into the share.
    pub(super) fn take(&self, share: &mut Share<J>, batch: usize) -> Option<J> {
        loop {
            let job = self.pop(share, batch)?;
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

    fn pop(&self, share: &mut Share<J>, batch: usize) -> Option<J> {
        if let Some(job) = share.deque.pop() {
            return Some(job);
        }
        let laid = self.laid.load(Ordering::Acquire);
        if laid != share.seen {
            if let Some(job) = self.pop_laid(share, batch) {
                return Some(job);
            }
            share.seen = laid;
        }
        if let Some(job) = self.injector.pop_batch(&share.deque, batch) {
            self.laid_batch(share);
            return Some(job);
        }
        if self.waiting().load(Ordering::Relaxed) > 0 { self.pop_laid(share, batch) } else { None }
    }

    /// Takes from outside the injector: the row, then the other threads' deques.
    #[cold]
    fn pop_laid(&self, share: &mut Share<J>, batch: usize) -> Option<J> {
        if let Some(job) = lock(&self.row).pop_front() {
            return Some(job);
        }
        let thieves = self.thieves.read().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..thieves.len() {
            let (_, thief) = &thieves[share.next % thieves.len()];
            if let Some(job) = thief.pop_batch(&share.deque, batch) {
                self.laid_batch(share);
                return Some(job);
            }
            share.next = share.next.wrapping_add(1);
        }
        None
    }

    /// Lets the others know that there may be jobs in this thread's deque.
    fn laid_batch(&self, share: &mut Share<J>) {
        if !share.deque.is_empty() && self.laid.fetch_add(1, Ordering::Release) == share.seen {
            // Its own doing, and nothing else has changed.
            share.seen = share.seen.wrapping_add(1);
        }
    }

    /// Drops the cancelled jobs; the others keep their order.
    #[cold]
    fn sweep(&self) {
        let (dead, live): (Vec<J>, VecDeque<J>);
        {
            let mut row = lock(&self.row);
            // Threads now come to the row before they go to the injector, and wait here.
            self.laid.fetch_add(1, Ordering::Release);
            let all = std::mem::take(&mut *row).into_iter().chain(self.gather());
            (dead, live) = split(all, |job| guarded(|| job.is_cancelled()).unwrap_or(false));
            *row = live;
        }
        self.dead.fetch_sub(dead.len() as isize, Ordering::Relaxed);
        self.waiting().fetch_sub(dead.len(), Ordering::Release);
        drop_all(dead);
    }

    /// Takes what is in the deques and the injector, but no more than there was at the start.
    fn gather(&self) -> impl Iterator<Item = J> {
        let thieves = self.thieves.read().unwrap_or_else(PoisonError::into_inner);
        let from_deques: Vec<J> = thieves.iter().flat_map(|(_, thief)| std::iter::from_fn(|| thief.pop())).collect();
        let most = self.waiting().load(Ordering::Relaxed);
        from_deques.into_iter().chain(std::iter::from_fn(|| self.injector.pop()).take(most))
    }

    /// Drops everything.
    pub(super) fn clear(&self) {
        let row = std::mem::take(&mut *lock(&self.row));
        let all: Vec<J> = row.into_iter().chain(self.gather()).collect();
        let dead = all.iter().filter(|job| guarded(|| job.is_cancelled()).unwrap_or(false)).count();
        self.dead.fetch_sub(dead as isize, Ordering::Relaxed);
        self.waiting().fetch_sub(all.len(), Ordering::Release);
        drop_all(all);
    }
}

/// Splits in order: those for which `test` holds, and the others.
fn split<J>(all: impl Iterator<Item = J>, test: impl Fn(&J) -> bool) -> (Vec<J>, VecDeque<J>) {
    let (mut those, mut others) = (Vec::new(), VecDeque::new());
    for job in all {
        if test(&job) { those.push(job) } else { others.push_back(job) }
    }
    (those, others)
}

fn drop_all<J>(jobs: Vec<J>) {
    for job in jobs {
        guarded(|| drop(job));
    }
}
