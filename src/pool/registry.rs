//! What the threads of a pool share, and the loop that each of them runs.

use std::time::Duration;

use super::asleep::{self, Tid};
use super::clock::Clock;
use super::panics::guarded;
use super::queue::Queue;
use super::sleep::{Sleep, Slot};
use super::sync::{Arc, AtomicBool, Ordering, fence, thread};
use super::{Config, Runner, Stats, Task, nanoseconds};

pub(super) struct Registry<J> {
    queue: Queue<J>,
    sleep: Sleep,
    stopped: AtomicBool,
    clock: Clock,
    /// [`Config::turn`] in nanoseconds.
    turn: u64,
    /// Asks for a [`Self::wake`] within that time.
    wake_later: Box<dyn Fn(Duration) + Send + Sync>,
}

impl<J: Task> Registry<J> {
    pub(super) fn new(config: &Config, wake_later: Box<dyn Fn(Duration) + Send + Sync>) -> Self {
        Self {
            queue: Queue::new(config.capacity),
            sleep: Sleep::new(config.has_lock, config.stall),
            stopped: AtomicBool::new(false),
            clock: Clock::new(),
            turn: nanoseconds(config.turn),
            wake_later,
        }
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// Adds a job without a look at the threads: [`Self::wake`] is owed.
    #[inline]
    pub(super) fn push(&self, job: J) -> Result<(), J> {
        if self.is_stopped() { Err(job) } else { self.queue.push(job) }
    }

    #[inline]
    pub(super) fn wake(&self) -> Option<Duration> {
        // Its fence orders the pushes before the look at `stopped`, too.
        let again = self.sleep.wake(self.queue.waiting(), || self.clock.now());
        if self.is_stopped() {
            // `stop` may have cleared the queue before the jobs were in it.
            self.queue.clear();
            return None;
        }
        again.map(Duration::from_nanos)
    }

    /// Has the event loop call [`Self::wake`] after that many nanoseconds at the latest.
    #[inline]
    fn owe_wake(&self, after: Option<u64>) {
        if let Some(after) = after {
            (self.wake_later)(Duration::from_nanos(after));
        }
    }

    pub(super) fn forget(&self) {
        self.queue.forget();
    }

    pub(super) fn queued(&self) -> usize {
        self.queue.live()
    }

    #[inline]
    pub(super) fn is_full(&self) -> bool {
        let counts = self.sleep.counts();
        self.queue.live() >= counts.parked + counts.seeking
    }

    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        fence(Ordering::SeqCst);
        self.sleep.wake_all();
        // There may be no thread left, or none that ever ends its call.
        self.queue.clear();
    }

    pub(super) fn stats(&self) -> Stats {
        let (counts, wakeups) = self.sleep.totals();
        Stats {
            queued: self.queue.live(),
            running: counts.running,
            seeking: counts.seeking,
            parked: counts.parked,
            wakeups,
        }
    }

    pub(super) fn run_thread(this: &Arc<Self>, runner: &mut impl Runner<J>) {
        let mut member = Member { registry: this, slot: Slot::new(), tid: asleep::current() };
        let (registry, parker) = (Arc::clone(this), Arc::clone(&member.slot.parker));
        runner.joined(Box::new(move || registry.sleep.notify(&parker)));
        loop {
            let (now, again) = (|| this.clock.now(), |after| this.owe_wake(Some(after)));
            this.sleep.rest(&mut member.slot, this.queue.waiting(), &this.stopped, now, again);
            if this.is_stopped() {
                break;
            }
            member.seek(runner);
        }
    }
}

/// A thread in the pool.
struct Member<'a, J: Task> {
    registry: &'a Registry<J>,
    slot: Slot,
    tid: Tid,
}

impl<J: Task> Member<'_, J> {
    /// Seeks a job and, if there is one, has a turn.
    fn seek(&mut self, runner: &mut impl Runner<J>) {
        let queue = &self.registry.queue;
        // If all that wait are cancelled, the lock is not needed to drop them.
        let mut job = if queue.live() == 0 { queue.take() } else { None };
        if job.is_none() && queue.is_empty() && !self.slot.parker.is_notified() {
            return;
        }
        let now = self.attach(runner);
        if job.is_none() && !self.registry.is_stopped() {
            job = queue.take();
        }
        match job {
            Some(job) => self.turn(job, now, runner),
            None => {
                runner.detach();
                if !queue.is_empty() {
                    // Counted and not pushed yet, or pushed and about to be taken: let that go on.
                    thread::yield_now();
                }
            }
        }
    }

    /// Waits for the lock, and answers a notification with it; returns when it was got.
    fn attach(&mut self, runner: &mut impl Runner<J>) -> u64 {
        let Registry { sleep, clock, .. } = self.registry;
        let asked = clock.now();
        sleep.turn.set_waiter(asked);
        runner.attach();
        sleep.turn.set_waiter(0);
        let now = clock.now();
        sleep.turn.note_attached(now, runner.was_forced(Duration::from_nanos(now - asked)));
        self.answer_notification(runner);
        now
    }

    /// Runs jobs, attached, until none is left or the turn is over; detaches.
    fn turn(&mut self, first: J, began: u64, runner: &mut impl Runner<J>) {
        let Registry { queue, sleep, clock, .. } = self.registry;
        sleep.turn.begin_job(began, self.tid);
        self.registry.owe_wake(sleep.begin_turn(&mut self.slot, queue.waiting(), began));
        let (mut since, mut next) = (began, Some(first));
        while let Some(job) = next {
            guarded(|| runner.run(job));
            let now = clock.now();
            self.answer_notification(runner);
            next = if self.is_turn_over(since, now) { None } else { queue.take() };
            let took = Duration::from_nanos(now - since);
            if next.is_some() {
                since = now;
                sleep.turn.begin_job(now, self.tid);
            }
            guarded(|| runner.finished(next.is_some().then(|| queue.live()), took));
        }
        sleep.turn.end(since);
        runner.detach();
    }

    /// Attached, between two jobs.
    #[inline]
    fn answer_notification(&self, runner: &mut impl Runner<J>) {
        if self.slot.parker.take_notification() {
            guarded(|| runner.notified());
        }
    }

    /// After a stop, or when another thread has waited for the lock for a whole turn, or has had it since this one began
    /// its last job at `since`.
    #[inline]
    fn is_turn_over(&self, since: u64, now: u64) -> bool {
        let Registry { sleep, turn, .. } = self.registry;
        self.registry.is_stopped() || sleep.turn.has_waited(*turn, now) || sleep.has_lost_turn(since, now)
    }
}

/// However the thread leaves, the others hear of it.
impl<J: Task> Drop for Member<'_, J> {
    fn drop(&mut self) {
        let Registry { queue, sleep, clock, .. } = self.registry;
        self.registry.owe_wake(sleep.leave(&mut self.slot, queue.waiting(), clock.now()));
        if self.registry.is_stopped() {
            queue.clear();
        }
    }
}
