//! What a pool's threads share, and the loop that each of them runs.

use std::time::Duration;

use super::panics::guarded;
use super::queue::{BATCH, Queue, Share};
use super::seat::{Place, Seat};
use super::sleep::{Sleep, TICK};
use super::sync::{Arc, AtomicBool, Ordering, fence, thread};
use super::{Config, Stats, Task, Worker};

/// Nanoseconds since the pool was made; never 0.
struct Clock {
    #[cfg(not(loom))]
    start: std::time::Instant,
}

impl Clock {
    #[cfg(not(loom))]
    fn new() -> Self {
        Self { start: std::time::Instant::now() }
    }

    #[cfg(not(loom))]
    fn now(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64 + 1
    }

    #[cfg(loom)]
    fn new() -> Self {
        Self {}
    }

    /// Time stands still in a model: a turn of zero is over at once, any other never.
    #[cfg(loom)]
    fn now(&self) -> u64 {
        1
    }
}

pub(super) struct Registry<J> {
    queue: Queue<J>,
    sleep: Sleep,
    stopped: AtomicBool,
    clock: Clock,
    /// [`Config::turn`] and [`Config::forced`] in nanoseconds.
    turn: u64,
    forced: u64,
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl<J: Task> Registry<J> {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            queue: Queue::new(config.capacity),
            sleep: Sleep::new(config.lanes.max(1), config.exclusive),
            stopped: AtomicBool::new(false),
            clock: Clock::new(),
            turn: nanoseconds(config.turn),
            forced: nanoseconds(config.forced),
        }
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    #[inline]
    pub(super) fn submit(&self, job: J) -> Result<(), J> {
        let pushed = self.push(job);
        self.wake();
        pushed
    }

    /// Adds a job without a look at the threads: [`Self::wake`] is owed.
    #[inline]
    pub(super) fn push(&self, job: J) -> Result<(), J> {
        if self.is_stopped() { Err(job) } else { self.queue.push(job) }
    }

    /// Has a thread come for the jobs that have been pushed.
    #[inline]
    pub(super) fn wake(&self) {
        // Its fence orders the pushes before the look at `stopped`, too.
        self.sleep.arrived(self.queue.waiting());
        self.sleep.look_for_stuck(|| self.clock.now());
        if self.is_stopped() {
            // `stop` may have cleared the queue before the jobs were in it.
            self.queue.clear();
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
        self.queue.live() >= self.sleep.free()
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

    pub(super) fn summon(&self, lane: usize, seat: &Arc<Seat>) {
        self.sleep.summon(lane, seat);
    }

    pub(super) fn run_thread(this: &Arc<Self>, lane: usize, worker: &mut impl Worker<J>) {
        assert!(lane < this.sleep.lanes(), "the pool has no lane {lane}");
        let share = this.queue.join();
        let place = Place::new(lane, share.number() + 1);
        let mut member = Member { registry: this, share, place };
        let (registry, seat) = (Arc::clone(this), member.place.seat());
        worker.joined(Box::new(move || registry.summon(lane, &seat)));
        loop {
            this.sleep.rest(&mut member.place, this.queue.waiting(), &this.stopped);
            if this.is_stopped() {
                break;
            }
            member.seek(worker);
        }
    }
}

/// A thread in the pool. However it leaves, what it held goes to the others.
struct Member<'a, J: Task> {
    registry: &'a Registry<J>,
    share: Share<J>,
    place: Place,
}

impl<J: Task> Member<'_, J> {
    /// Seeks a job and, if there is one, has a turn.
    fn seek(&mut self, worker: &mut impl Worker<J>) {
        let Registry { queue, sleep, .. } = self.registry;
        // If all that wait are cancelled, the lock is not needed to drop them.
        let mut job = if queue.live() == 0 { queue.take(&mut self.share, 1) } else { None };
        let is_idle = || queue.waiting().load(Ordering::Relaxed) == 0;
        if job.is_none() {
            let park = self.watch() || !sleep.is_lane_busy(&self.place);
            if is_idle() && !self.place.is_summoned() && park {
                return;
            }
        }
        // Even if nothing waits now: the seeker of a busy lane saves the next `submit` a wake-up.
        let (smooth, clock) = (sleep.smooth(&self.place), &self.registry.clock);
        let line = smooth.get_in_line(clock.now());
        sleep.set_in_line(&self.place, line.since);
        worker.attach();
        sleep.set_in_line(&self.place, 0);
        let now = clock.now();
        smooth.learn(&line, now, now.saturating_sub(line.since) >= self.registry.forced);
        self.answer_summons(worker);
        if job.is_none() && !self.registry.is_stopped() {
            job = self.take(now);
        }
        match job {
            Some(job) => self.turn(job, now, worker),
            None => {
                worker.detach();
                if !is_idle() {
                    // Counted and not pushed yet, or pushed and about to be taken: let that go on.
                    thread::yield_now();
                }
            }
        }
    }

    /// Stays beside a lane that is smooth, as long as its jobs end. True: nothing waits, and none has ended of late.
    fn watch(&self) -> bool {
        let Registry { queue, sleep, clock, stopped, .. } = self.registry;
        let (smooth, waiting) = (sleep.smooth(&self.place), queue.waiting());
        let mut ended = smooth.ended();
        while sleep.should_watch(&self.place, waiting, clock.now()) && sleep.watch(&self.place, TICK, waiting, stopped)
        {
            let before = std::mem::replace(&mut ended, smooth.ended());
            if ended == before || self.place.is_summoned() {
                return waiting.load(Ordering::Relaxed) == 0;
            }
        }
        false
    }

    /// Runs jobs, attached, until none is left or the turn is over; detaches.
    fn turn(&mut self, first: J, began: u64, worker: &mut impl Worker<J>) {
        let Registry { queue, sleep, .. } = self.registry;
        sleep.smooth(&self.place).begin(self.place.number());
        sleep.begin_turn(&mut self.place, queue.waiting());
        let (mut jobs, mut now) = (0, began);
        let mut next = Some(first);
        while let Some(job) = next {
            guarded(|| worker.run(job));
            jobs += 1;
            let before = std::mem::replace(&mut now, self.registry.clock.now());
            let took = now - before;
            sleep.note_job(&self.place, took, now);
            sleep.smooth(&self.place).note_end();
            self.answer_summons(worker);
            next = if self.is_turn_over(now) { None } else { self.take(now) };
            guarded(|| worker.ended(next.is_some().then(|| queue.live()), Duration::from_nanos(took)));
        }
        sleep.smooth(&self.place).note_turn(jobs, now - began, now);
        sleep.smooth(&self.place).let_go(self.place.number());
        worker.detach();
    }

    /// Takes the next job; alone where jobs let the lock go, for those taken along would wait with this thread while others
    /// run younger ones.
    #[inline]
    fn take(&mut self, now: u64) -> Option<J> {
        // Time stands still in a model: there are batches in all of them.
        let is_smooth = cfg!(loom) || self.registry.sleep.is_smooth(&self.place, now);
        self.registry.queue.take(&mut self.share, if is_smooth { BATCH } else { 1 })
    }

    /// Attached, between two jobs.
    #[inline]
    fn answer_summons(&self, worker: &mut impl Worker<J>) {
        if self.place.answer_summons() {
            guarded(|| worker.summoned());
        }
    }

    /// After a stop, or when the lane's seeker has stood in line for a whole turn.
    #[inline]
    fn is_turn_over(&self, now: u64) -> bool {
        let Registry { sleep, turn, .. } = self.registry;
        let in_line = sleep.in_line_since(&self.place);
        self.registry.is_stopped() || in_line.is_some_and(|since| now.saturating_sub(since) >= *turn)
    }
}

impl<J: Task> Drop for Member<'_, J> {
    fn drop(&mut self) {
        let Registry { queue, sleep, .. } = self.registry;
        queue.leave(&self.share);
        sleep.leave(&mut self.place, queue.waiting());
        if self.registry.is_stopped() {
            queue.clear();
        }
    }
}
