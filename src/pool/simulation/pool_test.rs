//! Random workloads.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::super::{Config, Pool, Runner, Task};
use super::world::World;
use super::{CURRENT, Thread};

const MICROSECOND: u64 = 1_000;
const MILLISECOND: u64 = 1_000_000;
/// What a workload may come to, so that a case takes less than a second.
const MOST_JOBS: usize = 1_500;

/// A part of a job, in nanoseconds.
#[derive(Clone, Copy, Debug)]
enum Step {
    Compute(u64),
    /// Lets the lock go for that long.
    Block(u64),
}

/// Clients that each submit a job, and the next one `think` nanoseconds after the last has ended.
#[derive(Clone, Debug)]
struct Clients {
    count: usize,
    steps: Vec<Step>,
    think: u64,
    /// How long a client waits before it leaves, in nanoseconds.
    patience: Option<u64>,
}

#[derive(Clone, Debug)]
struct Workload {
    threads: usize,
    groups: Vec<Clients>,
    /// Threads of the application's own: what each computes, and how long it then waits.
    others: Vec<(u64, u64)>,
    /// When some thread of the pool is notified.
    notifications: Vec<(u64, usize)>,
    interval: u64,
    length: u64,
    seed: u64,
}

const QUEUED: u8 = 0;
const TAKEN: u8 = 1;
const CANCELLED: u8 = 2;

struct Job {
    number: usize,
    client: usize,
    steps: Arc<[Step]>,
    state: Arc<AtomicU8>,
}

impl Task for Job {
    fn is_cancelled(&self) -> bool {
        self.state.load(Ordering::SeqCst) == CANCELLED
    }

    fn claim(&self) -> bool {
        self.state.compare_exchange(QUEUED, TAKEN, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }
}

type Notify = Box<dyn Fn() + Send + Sync>;

struct Hand {
    thread: Thread,
    interval: u64,
    notify: Arc<Mutex<Vec<Notify>>>,
}

impl Runner<Job> for Hand {
    fn joined(&mut self, notify: Notify) {
        self.thread.world.join_pool(self.thread.number);
        self.notify.lock().unwrap().push(notify);
    }

    fn attach(&mut self) {
        self.thread.world.take_lock(self.thread.number);
    }

    fn was_forced(&mut self, waited: Duration) -> bool {
        waited.as_nanos() as u64 >= self.interval * 9 / 10
    }

    fn detach(&mut self) {
        self.thread.world.release_lock(self.thread.number);
    }

    fn run(&mut self, job: Job) {
        let Thread { world, number } = &self.thread;
        world.begin_job(*number, job.number);
        for step in job.steps.iter() {
            match *step {
                Step::Compute(time) => world.compute(*number, time),
                Step::Block(time) => world.block(*number, time),
            }
        }
        world.end_job(*number, job.client);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Submit(usize),
    /// The client of that job leaves.
    Leave(usize),
    Notify(usize),
    End,
}

/// The event loop: submits what clients ask for, and looks at the pool when it must.
struct EventLoop<'a> {
    world: &'a World,
    pool: &'a Pool<Job>,
    clients: Vec<&'a Clients>,
    steps: Vec<Arc<[Step]>>,
    agenda: BinaryHeap<Reverse<(u64, Event)>>,
    /// By the number of the job.
    states: Vec<Arc<AtomicU8>>,
    notify: Arc<Mutex<Vec<Notify>>>,
    ending: bool,
    running: usize,
}

impl EventLoop<'_> {
    fn run(&mut self) {
        loop {
            let next = self.agenda.peek().map(|Reverse((at, _))| *at);
            let until = next.into_iter().chain(self.world.state().alarm).min();
            if until.is_none() && self.running == 0 {
                return;
            }
            self.world.sleep_until(0, until);
            self.turn();
        }
    }

    fn turn(&mut self) {
        let now = self.world.now();
        let ended = std::mem::take(&mut self.world.state().jobs.ended);
        self.running -= ended.len();
        for client in ended {
            self.agenda.push(Reverse((now + self.clients[client].think, Event::Submit(client))));
        }
        let mut wake = false; // as the worker does it: once for all that a turn brings
        while self.agenda.peek().is_some_and(|Reverse((at, _))| *at <= now) {
            let Some(Reverse((_, event))) = self.agenda.pop() else { break };
            wake |= matches!(event, Event::Submit(_));
            self.handle(event, now);
        }
        if wake | self.world.hear_alarm() {
            if let Some(after) = self.pool.wake() {
                self.world.set_alarm(after.as_nanos() as u64);
            }
        }
    }

    fn handle(&mut self, event: Event, now: u64) {
        match event {
            Event::Submit(client) if !self.ending && self.states.len() < MOST_JOBS => self.submit(client, now),
            Event::Submit(_) => {}
            Event::Leave(job) => {
                let state = &self.states[job];
                if state.compare_exchange(QUEUED, CANCELLED, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
                    self.pool.forget();
                    self.world.state().jobs.waiting -= 1;
                    self.running -= 1;
                }
            }
            Event::Notify(thread) => {
                let all = self.notify.lock().unwrap();
                all[thread % all.len()]();
            }
            Event::End => self.ending = true,
        }
    }

    fn submit(&mut self, client: usize, now: u64) {
        let (number, state) = (self.states.len(), Arc::new(AtomicU8::new(QUEUED)));
        self.states.push(Arc::clone(&state));
        self.world.state().jobs.waiting += 1;
        self.running += 1;
        if let Some(patience) = self.clients[client].patience {
            self.agenda.push(Reverse((now + patience, Event::Leave(number))));
        }
        let steps = Arc::clone(&self.steps[client]);
        assert!(self.pool.submit(Job { number, client, steps, state }).is_ok(), "the queue is full");
    }
}

/// The thread of an application that computes now and then.
fn compute_at_times(thread: &Thread, busy: u64, idle: u64, length: u64) {
    let Thread { world, number } = thread;
    while world.now() < length {
        world.take_lock(*number);
        world.compute(*number, busy);
        world.block(*number, idle);
        world.release_lock(*number);
    }
}

/// Plays a workload; says what went wrong.
fn play(workload: &Workload) -> Result<(), String> {
    let Workload { threads, groups, others, notifications, interval, length, seed } = workload;
    let config = Config::default();
    let bound = config.stall.as_nanos() as u64;
    let world = Arc::new(World::new(1 + threads + others.len(), *interval, bound, *seed));
    CURRENT.with(|current| *current.borrow_mut() = Some(Thread { world: Arc::clone(&world), number: 0 }));
    let for_pool = Arc::clone(&world);
    let pool = Pool::new(config, move |after| for_pool.set_alarm(after.as_nanos() as u64));
    let notify = Arc::new(Mutex::new(Vec::new()));
    let mut handles = Vec::new();
    for number in 1..=*threads {
        let (pool, notify, interval) = (pool.clone(), Arc::clone(&notify), *interval);
        handles.push(Thread::spawn(&world, number, move |thread| {
            pool.run_thread(&mut Hand { thread, interval, notify });
        }));
    }
    for (&(busy, idle), number) in others.iter().zip(1 + threads..) {
        let length = *length;
        let work = move |thread: Thread| compute_at_times(&thread, busy, idle, length);
        handles.push(Thread::spawn(&world, number, work));
    }
    let clients: Vec<&Clients> = groups.iter().flat_map(|group| std::iter::repeat_n(group, group.count)).collect();
    let mut agenda: BinaryHeap<_> =
        (0..clients.len()).map(|client| Reverse((MILLISECOND + client as u64, Event::Submit(client)))).collect();
    agenda.extend(notifications.iter().map(|&(at, thread)| Reverse((at, Event::Notify(thread)))));
    agenda.push(Reverse((*length, Event::End)));
    let steps = clients.iter().map(|group| group.steps.clone().into()).collect();
    let (world_of_loop, pool_of_loop) = (&world, &pool);
    let mut event_loop = EventLoop {
        world: world_of_loop,
        pool: pool_of_loop,
        clients,
        steps,
        agenda,
        states: Vec::new(),
        notify,
        ending: false,
        running: 0,
    };
    let played = catch_unwind(AssertUnwindSafe(|| event_loop.run()));
    pool.stop();
    world.end(0, played.is_err());
    CURRENT.with(|current| *current.borrow_mut() = None);
    handles.into_iter().for_each(|handle| drop(handle.join()));
    match world.failure() {
        Some(failure) => Err(failure),
        None if pool.queued() > 0 => Err("jobs are left".into()),
        None => Ok(()),
    }
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (MICROSECOND..200 * MICROSECOND).prop_map(Step::Compute),
        1 => (MILLISECOND..60 * MILLISECOND).prop_map(Step::Compute),
        2 => (10 * MICROSECOND..2 * MILLISECOND).prop_map(Step::Block),
        1 => (MILLISECOND..300 * MILLISECOND).prop_map(Step::Block),
    ]
}

fn clients() -> impl Strategy<Value = Clients> {
    let think = prop_oneof![Just(0), 0..5 * MILLISECOND, 0..100 * MILLISECOND];
    let patience = prop::option::weighted(0.2, 0..20 * MILLISECOND);
    let steps = prop_oneof![
        2 => (2 * MICROSECOND..30 * MICROSECOND).prop_map(|time| vec![Step::Compute(time)]),
        3 => prop::collection::vec(step(), 1..4),
    ];
    (1..16_usize, steps, think, patience).prop_map(|(count, steps, think, patience)| Clients {
        count,
        steps,
        think,
        patience,
    })
}

fn workload() -> impl Strategy<Value = Workload> {
    let threads = prop_oneof![3 => 1..9_usize, 1 => 1..65_usize];
    let other = (10 * MICROSECOND..20 * MILLISECOND, 100 * MICROSECOND..20 * MILLISECOND);
    let length = 5 * MILLISECOND..200 * MILLISECOND;
    (
        threads,
        prop::collection::vec(clients(), 1..4),
        prop::collection::vec(other, 0..2),
        prop::collection::vec((MILLISECOND..200 * MILLISECOND, any::<usize>()), 0..4),
        prop_oneof![Just(5 * MILLISECOND), Just(500 * MICROSECOND)],
        length,
        any::<u64>(),
    )
        .prop_map(|(threads, groups, others, notifications, interval, length, seed)| Workload {
            threads,
            groups,
            others,
            notifications,
            interval,
            length,
            seed,
        })
}

/// `PROPTEST_CASES` asks for another number of cases, `PROPTEST_RNG_SEED` for others.
fn config() -> ProptestConfig {
    let default = ProptestConfig::default();
    let is_set = |name| std::env::var_os(name).is_some();
    ProptestConfig {
        cases: if is_set("PROPTEST_CASES") { default.cases } else { 100 },
        rng_seed: if is_set("PROPTEST_RNG_SEED") { default.rng_seed } else { RngSeed::Fixed(1) },
        failure_persistence: None,
        max_shrink_iters: 100,
        ..default
    }
}

proptest! {
    #![proptest_config(config())]

    /// Every job is run, or cancelled, in order; and it waits for nothing but the lock, or for a free thread.
    #[test]
    fn a_call_that_could_run_does_not_wait(workload in workload()) {
        play(&workload).map_err(TestCaseError::fail)?;
    }
}

/// Four clients of a short job on eight threads, beside `count` that block for a second.
fn beside_sleepers(count: usize, connections: usize) -> Workload {
    let group = |count, steps, think| Clients { count, steps, think, patience: None };
    Workload {
        threads: 8,
        groups: vec![
            group(count, vec![Step::Block(1_000 * MILLISECOND)], 0),
            group(connections, vec![Step::Compute(10 * MICROSECOND)], 20 * MICROSECOND),
        ],
        others: Vec::new(),
        notifications: Vec::new(),
        interval: 5 * MILLISECOND,
        length: 40 * MILLISECOND,
        seed: 1,
    }
}

#[test]
fn short_calls_beside_one_that_sleeps() {
    for (sleepers, connections) in [(1, 1), (1, 4), (4, 4), (7, 32)] {
        assert_eq!(play(&beside_sleepers(sleepers, connections)), Ok(()));
    }
}
