//! Jobs are run, in order, by whichever thread can; nothing takes the pool down.

use super::*;
use std::panic::panic_any;
use std::sync::Barrier;

#[test]
fn jobs_wait_for_the_first_thread_and_run_in_order() {
    let mut rig = Rig::new(Config::default());
    let (sender, receiver) = channel();
    for number in 0..500 {
        let sender = sender.clone();
        rig.submit(move |_| sender.send(number).unwrap());
    }
    assert_eq!(rig.pool.queued(), 500);
    rig.start(1);
    assert_eq!(receive(&receiver, 500), (0..500).collect::<Vec<_>>());
    rig.finish();
}

#[test]
fn jobs_that_let_the_lock_go_begin_in_order() {
    let mut rig = Rig::new(Config::default());
    let (sender, receiver) = channel();
    for number in 0..200 {
        let sender = sender.clone();
        rig.submit(move |gil| {
            sender.send(number).unwrap();
            if number % 3 > 0 {
                gil.without(|| thread::sleep(Duration::from_micros(200)));
            }
        });
    }
    rig.start(8);
    assert_eq!(receive(&receiver, 200), (0..200).collect::<Vec<_>>());
    rig.finish();
}

#[test]
fn jobs_that_wait_for_each_other_all_run() {
    for threads in [2, 8] {
        let rig = Rig::with_threads(threads);
        let barrier = Arc::new(Barrier::new(threads));
        let (sender, receiver) = channel();
        for _round in 0..20 {
            for _ in 0..threads {
                let (barrier, sender) = (Arc::clone(&barrier), sender.clone());
                rig.submit(move |gil| {
                    gil.without(|| barrier.wait());
                    sender.send(()).unwrap();
                });
            }
            receive(&receiver, threads);
        }
        rig.finish();
    }
}

#[test]
fn without_a_lock_jobs_run_side_by_side() {
    const THREADS: usize = 4;
    struct Free;
    impl Runner<Call> for Free {
        fn attach(&mut self) {}
        fn detach(&mut self) {}
        fn run(&mut self, mut call: Call) {
            call.body.take().unwrap()(&Gil::default());
        }
    }
    let mut rig = Rig::new(Config { has_lock: false, ..Config::default() });
    (0..THREADS).for_each(|_| rig.start_with(Free));
    let barrier = Arc::new(Barrier::new(THREADS));
    let (sender, receiver) = channel();
    for _round in 0..50 {
        for _ in 0..THREADS {
            let (barrier, sender) = (Arc::clone(&barrier), sender.clone());
            rig.submit(move |_| {
                barrier.wait();
                sender.send(()).unwrap();
            });
        }
        receive(&receiver, THREADS);
    }
    rig.finish();
}

#[test]
fn a_thread_that_comes_later_takes_over_from_one_that_is_lost() {
    let mut rig = Rig::with_threads(1);
    let (release, blocked) = channel::<()>();
    let (sender, receiver) = channel();
    rig.submit(move |gil| gil.without(|| blocked.recv().unwrap()));
    for number in 0..20 {
        let sender = sender.clone();
        rig.submit(move |_| sender.send(number).unwrap());
    }
    assert!(receiver.recv_timeout(Duration::from_millis(20)).is_err());
    rig.start(1);
    assert_eq!(receive(&receiver, 20), (0..20).collect::<Vec<_>>());
    release.send(()).unwrap();
    rig.finish();
}

#[test]
fn a_job_that_panics_takes_nothing_with_it() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("on purpose: dropped");
        }
    }
    let rig = Rig::with_threads(1);
    let (sender, receiver) = channel();
    let (dropped, states) = channel();
    let panicking = [
        Call::new(|_| panic!("on purpose")).telling(&dropped),
        Call::new(|_| panic_any(Bomb)).telling(&dropped),
        Call::new(|_| drop(Bomb)).telling(&dropped),
    ];
    for call in panicking {
        rig.submit_call(call);
    }
    let thread = thread::current().id();
    rig.submit(move |_| sender.send(thread::current().id()).unwrap());
    assert_ne!(receive(&receiver, 1), [thread]);
    assert_eq!(receive(&states, 3), [TAKEN; 3]);
    // Cancelled in the queue, with a body that panics when it is dropped.
    let bomb = Bomb;
    let call = Call::new(move |_| drop(bomb)).telling(&dropped);
    call.handle().0.store(CANCELLED, Ordering::SeqCst);
    rig.submit_call(call);
    rig.pool.forget();
    assert_eq!(receive(&states, 1), [CANCELLED]);
    rig.finish();
}

/// Panics at a given attach or detach, counted from 0.
struct Clumsy {
    hand: Hand,
    attach: Option<usize>,
    detach: Option<usize>,
}

impl Clumsy {
    fn stumbles(count: &mut Option<usize>) -> bool {
        let now = *count == Some(0);
        *count = count.and_then(|count| count.checked_sub(1));
        now
    }
}

impl Runner<Call> for Clumsy {
    fn attach(&mut self) {
        assert!(!Self::stumbles(&mut self.attach), "on purpose: attach");
        self.hand.attach();
    }

    fn detach(&mut self) {
        self.hand.detach();
        assert!(!Self::stumbles(&mut self.detach), "on purpose: detach");
    }

    fn run(&mut self, call: Call) {
        self.hand.run(call);
    }
}

#[test]
fn a_thread_lost_in_attach_or_detach_is_not_waited_for() {
    for (attach, detach) in [(Some(0), None), (None, Some(0))] {
        let mut rig = Rig::new(Config { turn: Duration::ZERO, stall: Duration::ZERO, ..Config::default() });
        let gil = Arc::clone(rig.gil());
        rig.start_with(Clumsy { hand: Hand(gil), attach, detach });
        eventually("the clumsy thread is parked", || rig.pool.stats().parked == 1);
        rig.start(1);
        eventually("both are parked", || rig.pool.stats().parked == 2);
        let (sender, receiver) = channel();
        for number in 0..100 {
            let sender = sender.clone();
            rig.submit(move |gil| {
                gil.without(|| thread::sleep(Duration::from_micros(50)));
                sender.send(number).unwrap();
            });
        }
        assert_eq!(receive(&receiver, 100).len(), 100);
        assert!(rig.threads.remove(0).join().is_err());
        eventually("the other one is parked", || rig.pool.stats().parked == 1);
        let stats = rig.pool.stats();
        assert_eq!((stats.seeking, stats.running), (0, 0));
        rig.finish();
    }
}

#[test]
fn the_jobs_of_a_thread_lost_at_its_hand_over_are_run_by_the_others() {
    let mut rig = Rig::new(Config { turn: Duration::ZERO, stall: Duration::ZERO, ..Config::default() });
    let (sender, receiver) = channel();
    for number in 0..20 {
        let sender = sender.clone();
        rig.submit(move |gil| {
            if number == 0 {
                eventually("a seeker is in line", || gil.in_line() == 1);
            }
            sender.send(number).unwrap();
        });
    }
    let gil = Arc::clone(rig.gil());
    rig.start_with(Clumsy { hand: Hand(gil), attach: None, detach: Some(0) });
    eventually("it runs the first", || rig.pool.stats().running == 1);
    rig.start(1);
    let mut numbers = receive(&receiver, 20);
    numbers.sort_unstable();
    assert_eq!(numbers, (0..20).collect::<Vec<_>>());
    assert!(rig.threads.remove(0).join().is_err());
    rig.finish();
}

#[test]
fn stop_in_the_middle_runs_or_drops_every_job() {
    let mut rig = Rig::new(Config::default());
    let (dropped, states) = channel();
    for number in 0..100 {
        let pool = rig.pool.clone();
        let call = Call::new(move |_| {
            if number == 10 {
                pool.stop();
            }
        });
        rig.submit_call(call.telling(&dropped));
    }
    rig.start(1);
    let states = receive(&states, 100);
    assert_eq!(states.iter().filter(|&&state| state == TAKEN).count(), 11);
    assert_eq!(states.iter().filter(|&&state| state == QUEUED).count(), 89);
    let Full(call) = rig.pool.submit(Call::new(|_| ())).unwrap_err();
    assert_eq!(call.state.load(Ordering::SeqCst), QUEUED);
    rig.finish();
}

#[test]
fn stop_drops_what_waits_even_if_no_thread_ever_comes_back() {
    let mut rig = Rig::new(Config::default());
    let (release, blocked) = channel::<()>();
    let (began, begun) = channel();
    rig.submit(move |gil| {
        began.send(()).unwrap();
        gil.without(|| blocked.recv().unwrap());
    });
    let (dropped, states) = channel();
    for _ in 0..50 {
        rig.submit_call(Call::new(|_| ()).telling(&dropped));
    }
    rig.start(1);
    receive(&begun, 1);
    rig.pool.stop();
    assert_eq!(receive(&states, 50), [QUEUED; 50]);
    // A thread that joins now returns at once.
    rig.start(1);
    rig.threads.pop().unwrap().join().unwrap();
    release.send(()).unwrap();
    rig.finish();
}
