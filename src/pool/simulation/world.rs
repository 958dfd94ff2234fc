//! Time, threads, and what is asserted of them.

use std::sync::{Condvar, Mutex, MutexGuard};

use super::lock::Lock;

/// How long a woken thread takes to run, at most, in nanoseconds.
const LATENCY: u64 = 30_000;

/// Where a pool's thread is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Parked,
    InJob,
    /// It has been woken, waits for the lock, or is between two jobs.
    Awake,
    /// It is none of the pool's.
    Outside,
}

struct Thread {
    /// When it runs next; `None`: when another one wakes it.
    wake_at: Option<u64>,
    /// Decides between threads that run at the same time.
    order: u64,
    unparked: bool,
    has_ended: bool,
    place: Place,
}

/// What the simulation knows of the pool's work.
#[derive(Default)]
pub(super) struct Jobs {
    pub(super) waiting: usize,
    /// The last that has begun: they begin in the order of their numbers.
    last: Option<usize>,
    /// When one began last, and on which thread.
    begun_at: u64,
    begun_on: usize,
    /// Clients whose jobs have ended, for the event loop.
    pub(super) ended: Vec<usize>,
}

pub(super) struct State {
    pub(super) now: u64,
    /// When the event loop is to wake the pool.
    pub(super) alarm: Option<u64>,
    running: usize,
    steps: u64,
    dice: u64,
    threads: Vec<Thread>,
    pub(super) lock: Lock,
    pub(super) jobs: Jobs,
    /// Since when jobs wait though a thread is parked and none is on its way.
    neglected_since: Option<u64>,
    failure: Option<String>,
}

impl State {
    /// xorshift64*
    fn roll(&mut self, sides: u64) -> u64 {
        self.dice ^= self.dice >> 12;
        self.dice ^= self.dice << 25;
        self.dice ^= self.dice >> 27;
        self.dice.wrapping_mul(0x2545_F491_4F6C_DD1D) % sides
    }

    pub(super) fn wake(&mut self, number: usize) {
        let at = self.now + 1_000 + self.roll(LATENCY);
        let thread = &mut self.threads[number];
        thread.wake_at = Some(thread.wake_at.map_or(at, |before| before.min(at)));
    }

    fn is_neglected(&self) -> bool {
        let any = |place| self.threads.iter().any(|thread| thread.place == place);
        self.jobs.waiting > 0 && any(Place::Parked) && !any(Place::Awake)
    }

    /// What the pool promises: while jobs wait and a thread is free, one is on its way to them; but for `bound` at most after a
    /// job has begun, as long as it goes on.
    fn check(&mut self, until: u64, bound: u64) {
        if !self.is_neglected() {
            self.neglected_since = None;
            return;
        }
        let since = *self.neglected_since.get_or_insert(self.now);
        let Jobs { begun_at, begun_on, .. } = self.jobs;
        let bound = if self.threads[begun_on].place == Place::InJob { bound } else { 0 };
        let waited = until - since.max(begun_at);
        if waited > bound + 2 * LATENCY && self.failure.is_none() {
            let places: Vec<Place> = self.threads.iter().map(|thread| thread.place).collect();
            self.failure = Some(format!(
                "at {} us: {} jobs wait, nobody has come for {} us; {places:?}",
                self.now / 1000,
                self.jobs.waiting,
                waited / 1000,
            ));
        }
    }
}

pub(super) struct World {
    state: Mutex<State>,
    turns: Vec<Condvar>,
    /// For how long jobs may be neglected, in nanoseconds.
    bound: u64,
}

impl World {
    /// A world of `threads` threads. Number 0, the caller's, runs first. `interval`: the lock's switch interval.
    pub(super) fn new(threads: usize, interval: u64, bound: u64, seed: u64) -> Self {
        let thread = |number: usize| Thread {
            wake_at: (number > 0).then_some(0),
            order: number as u64,
            unparked: false,
            has_ended: false,
            place: Place::Outside,
        };
        let state = State {
            now: 0,
            alarm: None,
            running: 0,
            steps: 0,
            dice: seed | 1,
            threads: (0..threads).map(thread).collect(),
            lock: Lock::new(interval),
            jobs: Jobs::default(),
            neglected_since: None,
            failure: None,
        };
        Self { state: Mutex::new(state), turns: (0..threads).map(|_| Condvar::new()).collect(), bound }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(super) fn now(&self) -> u64 {
        self.state().now
    }

    pub(super) fn failure(&self) -> Option<String> {
        self.state().failure.clone()
    }

    fn fail(&self, state: &mut State, failure: String) {
        state.failure.get_or_insert(failure);
        self.turns.iter().for_each(Condvar::notify_all);
    }

    /// Waits until the thread runs for the first time; false: the simulation has failed before.
    pub(super) fn begin(&self, number: usize) -> bool {
        let state = self.until_running(self.state(), number);
        state.failure.is_none()
    }

    /// The thread is no more, after a panic perhaps.
    pub(super) fn end(&self, number: usize, panicked: bool) {
        let mut state = self.state();
        if panicked {
            self.fail(&mut state, format!("thread {number} has panicked"));
        }
        let thread = &mut state.threads[number];
        (thread.has_ended, thread.place, thread.wake_at) = (true, Place::Outside, None);
        if state.running == number {
            self.pass_on(&mut state);
        }
    }

    fn until_running<'a>(&self, mut state: MutexGuard<'a, State>, number: usize) -> MutexGuard<'a, State> {
        while state.running != number && state.failure.is_none() {
            state = self.turns[number].wait(state).unwrap_or_else(std::sync::PoisonError::into_inner);
        }
        state.threads[number].wake_at = None;
        state
    }

    /// The thread whose wait is over first runs next.
    fn pass_on(&self, state: &mut State) {
        let ready = state.threads.iter().enumerate();
        let next = ready.filter_map(|(number, thread)| Some((thread.wake_at?, thread.order, number))).min();
        let Some((at, _, next)) = next else {
            if state.threads.iter().all(|thread| thread.has_ended) {
                return;
            }
            return self.fail(state, "every thread waits for another".into());
        };
        let at = at.max(state.now);
        state.check(at, self.bound);
        if let Some(failure) = state.failure.clone() {
            return self.fail(state, failure);
        }
        state.now = at;
        state.steps += 1;
        state.threads[next].order = state.steps + 1_000;
        state.running = next;
        self.turns[next].notify_all();
    }

    /// The thread waits, until then or until it is woken. Once the simulation has failed, its threads end by panics.
    pub(super) fn wait<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        number: usize,
        until: Option<u64>,
    ) -> MutexGuard<'a, State> {
        state.threads[number].wake_at = until;
        self.pass_on(&mut state);
        let state = self.until_running(state, number);
        if state.failure.is_some() {
            drop(state);
            std::panic::resume_unwind(Box::new("the simulation has failed"));
        }
        state
    }

    pub(super) fn sleep_until(&self, number: usize, until: Option<u64>) {
        drop(self.wait(self.state(), number, until));
    }

    pub(super) fn park(&self, number: usize) {
        let mut state = self.state();
        state.threads[number].place = Place::Parked;
        while !state.threads[number].unparked {
            state = self.wait(state, number, None);
        }
        state.threads[number].unparked = false;
        state.threads[number].place = Place::Awake;
    }

    pub(super) fn unpark(&self, number: usize) {
        let mut state = self.state();
        state.threads[number].unparked = true;
        state.threads[number].place = Place::Awake;
        state.wake(number);
    }

    /// The event loop, number 0, is to wake the pool after that time. An alarm that is set stays as it is.
    pub(super) fn set_alarm(&self, after: u64) {
        let mut state = self.state();
        let at = state.now + after.max(1);
        let at = *state.alarm.get_or_insert(at);
        if state.running != 0 {
            let event_loop = &mut state.threads[0];
            event_loop.wake_at = Some(event_loop.wake_at.map_or(at, |before| before.min(at)));
        }
    }

    /// Whether the alarm has come; it can then be set again.
    pub(super) fn hear_alarm(&self) -> bool {
        let mut state = self.state();
        let now = state.now;
        state.alarm.take_if(|at| *at <= now).is_some()
    }

    /// The thread joins the pool.
    pub(super) fn join_pool(&self, number: usize) {
        self.state().threads[number].place = Place::Awake;
    }

    /// A thread begins the job with this number.
    pub(super) fn begin_job(&self, number: usize, job: usize) {
        let mut state = self.state();
        state.threads[number].place = Place::InJob;
        let now = state.now;
        let jobs = &mut state.jobs;
        jobs.waiting -= 1;
        (jobs.begun_at, jobs.begun_on) = (now, number);
        if jobs.last.replace(job).is_some_and(|last| last > job) {
            self.fail(&mut state, format!("job {job} has been overtaken"));
        }
    }

    /// The job of a client ends; the event loop, number 0, hears of it.
    pub(super) fn end_job(&self, number: usize, client: usize) {
        let mut state = self.state();
        state.threads[number].place = Place::Awake;
        state.jobs.ended.push(client);
        state.wake(0);
    }
}
