//! Everything at once: every job is run or dropped, once, whatever the threads do.

use super::*;
use std::panic::resume_unwind;

/// xorshift64*: a different mixture of jobs each run of a seed, the same ones for the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) % sides
    }
}

/// A job that computes, blocks without the lock, or panics.
fn any_call(dice: &mut Dice, ran: &Arc<AtomicUsize>) -> Call {
    let (kind, micros, ran) = (dice.roll(40), dice.roll(300), Arc::clone(ran));
    Call::new(move |gil| {
        ran.fetch_add(1, Ordering::SeqCst);
        match kind {
            // A panic without the hook's report.
            0 => resume_unwind(Box::new("on purpose")),
            1..=8 => gil.without(|| thread::sleep(Duration::from_micros(micros))),
            9..=12 => gil.without(thread::yield_now),
            13..=15 => thread::sleep(Duration::from_micros(micros)),
            _ => {}
        }
    })
}

/// Submits `bursts` bursts of jobs, with pauses in between, and cancels some; returns (submitted, cancelled).
fn storm(rig: &Rig, seed: u64, bursts: usize, dropped: &Sender<u8>, ran: &Arc<AtomicUsize>) -> (usize, usize) {
    let mut dice = Dice(seed);
    let (mut submitted, mut cancelled) = (0, 0);
    for _ in 0..bursts {
        let mut handles = Vec::new();
        for _ in 0..=dice.roll(60) {
            let call = any_call(&mut dice, ran).telling(dropped);
            let handle = call.handle();
            match rig.pool.submit(call) {
                Ok(()) => {
                    let _ = rig.pool.wake();
                    submitted += 1;
                    handles.push(handle);
                }
                Err(Full(mut call)) => call.dropped = None,
            }
        }
        // Now and then all of the burst's clients go away at once.
        let odds = if dice.roll(5) == 0 { 1 } else { 10 };
        cancelled += handles.iter().filter(|handle| dice.roll(odds) == 0 && handle.cancel(&rig.pool)).count();
        match dice.roll(4) {
            0 => eventually("the queue runs empty", || rig.pool.queued() == 0),
            1 => thread::sleep(Duration::from_micros(dice.roll(500))),
            _ => {}
        }
    }
    (submitted, cancelled)
}

fn weather(config: Config, threads: usize, producers: u64) {
    let mut rig = Rig::new(config);
    rig.start(threads);
    storms(rig, threads, producers);
}

/// Storms of several producers at once.
fn storms(rig: Rig, threads: usize, producers: u64) {
    let (dropped, states) = channel();
    let ran = Arc::new(AtomicUsize::new(0));
    let (submitted, cancelled) = thread::scope(|scope| {
        let (rig, dropped, ran) = (&rig, &dropped, &ran);
        let producers: Vec<_> =
            (1..=producers).map(|seed| scope.spawn(move || storm(rig, seed * 7919, 60, dropped, ran))).collect();
        producers.into_iter().map(|producer| producer.join().unwrap()).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1))
    });
    let states = receive(&states, submitted);
    assert_eq!(states.iter().filter(|&&state| state == TAKEN).count(), submitted - cancelled);
    assert_eq!(ran.load(Ordering::SeqCst), submitted - cancelled);
    eventually("all are parked", || rig.pool.stats().parked == threads);
    let stats = rig.pool.stats();
    assert_eq!((stats.queued, stats.seeking, stats.running), (0, 0, 0));
    rig.finish();
}

#[test]
fn one_producer() {
    weather(Config::default(), 4, 1);
}

#[test]
fn many_producers_and_a_short_queue() {
    weather(Config { capacity: 30, ..Config::default() }, 4, 3);
}

#[test]
fn a_lock_that_is_handed_over_at_once() {
    weather(Config { turn: Duration::ZERO, stall: Duration::ZERO, ..Config::default() }, 3, 2);
}

#[test]
fn more_threads_than_jobs() {
    weather(Config { capacity: 10, ..Config::default() }, 24, 1);
}

#[test]
fn without_a_lock() {
    struct Free(Arc<Gil>);
    impl Runner<Call> for Free {
        fn attach(&mut self) {}
        fn detach(&mut self) {}
        fn run(&mut self, mut call: Call) {
            // A lock of its own each time: jobs let it go, and nobody else wants it.
            let gil = Gil::default();
            gil.acquire();
            call.body.take().unwrap()(&gil);
            drop(Arc::clone(&self.0));
        }
    }
    let mut rig = Rig::new(Config { has_lock: false, ..Config::default() });
    for _ in 0..6 {
        let gil = Arc::clone(rig.gil());
        rig.start_with(Free(gil));
    }
    storms(rig, 6, 3);
}

#[test]
fn stop_in_a_storm_loses_no_job() {
    for seed in 1..=20 {
        let rig = Rig::with_threads(3);
        let (dropped, states) = channel();
        let ran = Arc::new(AtomicUsize::new(0));
        let (submitted, cancelled) = thread::scope(|scope| {
            let producer = scope.spawn(|| storm(&rig, seed * 104_729, 6, &dropped, &ran));
            thread::sleep(Duration::from_micros(seed * 100));
            rig.pool.stop();
            producer.join().unwrap()
        });
        rig.finish();
        let states: Vec<_> = states.try_iter().collect();
        assert_eq!(states.len(), submitted);
        let count = |wanted| states.iter().filter(|&&state| state == wanted).count();
        assert_eq!(count(TAKEN), ran.load(Ordering::SeqCst));
        assert_eq!(count(CANCELLED), cancelled);
        assert_eq!(count(QUEUED), submitted - count(TAKEN) - cancelled);
    }
}
