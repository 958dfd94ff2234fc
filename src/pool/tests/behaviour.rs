//! Jobs are run, in order, by whichever thread can; nothing takes the pool down.

use super::*;
use crate::pool::queue::{BATCH, Queue};
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
fn order_is_kept_within_what_batches_allow() {
    const THREADS: usize = 3;
    const JOBS: usize = 600;
    let mut rig = Rig::new(Config::default());
    let (sender, receiver) = channel();
    for number in 0..JOBS {
        let sender = sender.clone();
        rig.submit(move |gil| {
            sender.send(number).unwrap();
            if number % 5 == 0 {
                gil.without(|| thread::sleep(Duration::from_micros(100)));
            }
        });
    }
    rig.start(THREADS);
    for (position, number) in receive(&receiver, JOBS).into_iter().enumerate() {
        let shift = position.abs_diff(number);
        assert!(shift <= 2 * THREADS * BATCH, "job {number} came as number {position}");
    }
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
            gil.without(|| thread::sleep(Duration::from_micros(200)));
        });
    }
    rig.start(8);
    assert_eq!(receive(&receiver, 200), (0..200).collect::<Vec<_>>());
    rig.finish();
}

#[test]
fn a_batch_comes_before_what_is_behind_it() {
    struct Numbered(usize);
    impl Task for Numbered {
        fn is_cancelled(&self) -> bool {
            false
        }
    }
    for batch in [1, BATCH] {
        let queue = Queue::new(4 * BATCH);
        (0..4 * BATCH).for_each(|number| assert!(queue.push(Numbered(number)).is_ok()));
        let (mut first, mut other) = (queue.join(), queue.join());
        assert_eq!(queue.take(&mut first, BATCH).unwrap().0, 0);
        for number in 1..4 * BATCH {
            assert_eq!(queue.take(&mut other, batch).unwrap().0, number);
        }
        assert!(queue.take(&mut first, batch).is_none());
    }
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
    impl Worker<Call> for Free {
        fn attach(&mut self) {}
        fn detach(&mut self) {}
        fn run(&mut self, mut call: Call) {
            call.body.take().unwrap()(&Gil::default());
        }
    }
    let mut rig = Rig::new(Config { exclusive: false, ..Config::default() });
    (0..THREADS).for_each(|_| rig.start_with(0, Free));
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
fn lanes_run_side_by_side_though_no_job_lets_its_lock_go() {
    let mut rig = Rig::new(Config { lanes: 2, ..Config::default() });
    for lane in [0, 1, 0, 1] {
        rig.start_in(lane);
    }
    let barrier = Arc::new(Barrier::new(2));
    let (sender, receiver) = channel();
    for _round in 0..100 {
        for _ in 0..2 {
            let (barrier, sender) = (Arc::clone(&barrier), sender.clone());
            rig.submit(move |_| {
                barrier.wait();
                sender.send(()).unwrap();
            });
        }
        receive(&receiver, 2);
    }
    rig.finish();
}

#[test]
fn what_lies_in_a_blocked_threads_deque_does_not_wait_for_the_injector_to_run_empty() {
    // A lane that need not be smooth for batches. The thread that will take over has looked for such jobs already, and
    // found none.
    let mut rig = Rig::new(Config { exclusive: false, ..Config::default() });
    rig.start(1);
    let (release, blocked) = channel::<()>();
    let (sender, receiver) = channel();
    let (began, begun) = channel();
    let warm = began.clone();
    rig.submit(move |_| warm.send(()).unwrap());
    receive(&begun, 1);
    eventually("it is parked", || rig.pool.stats().parked == 1);
    // Whichever will be blocked cannot begin before all jobs wait.
    rig.start(1);
    eventually("both are parked", || rig.pool.stats().parked == 2);
    rig.gil().acquire();
    rig.submit(move |gil| {
        began.send(()).unwrap();
        gil.without(|| blocked.recv().unwrap());
    });
    for number in 1..BATCH {
        let sender = sender.clone();
        rig.submit(move |_| sender.send(Some(number)).unwrap());
    }
    /// A job that leaves another one like it behind, so that the injector never runs empty.
    fn again(pool: Pool<Call>, sender: Sender<Option<usize>>) -> Call {
        Call::new(move |_| {
            let _ = sender.send(None);
            let _ = pool.submit(again(pool.clone(), sender));
        })
    }
    for _ in 0..4 * BATCH {
        rig.pool.submit(again(rig.pool.clone(), sender.clone())).unwrap();
    }
    rig.gil().release();
    receive(&begun, 1);
    let first = receive(&receiver, 2 * BATCH);
    let numbers: Vec<_> = first.into_iter().flatten().collect();
    assert_eq!(numbers, (1..BATCH).collect::<Vec<_>>());
    rig.pool.stop();
    release.send(()).unwrap();
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
        rig.pool.submit(call).unwrap();
    }
    let thread = thread::current().id();
    rig.submit(move |_| sender.send(thread::current().id()).unwrap());
    assert_ne!(receive(&receiver, 1), [thread]);
    assert_eq!(receive(&states, 3), [TAKEN; 3]);
    // Cancelled in the queue, with a body that panics when it is dropped.
    let bomb = Bomb;
    let call = Call::new(move |_| drop(bomb)).telling(&dropped);
    call.handle().0.store(CANCELLED, Ordering::SeqCst);
    rig.pool.submit(call).unwrap();
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

impl Worker<Call> for Clumsy {
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
        // A turn of zero hands over while jobs lie in the deque.
        let mut rig = Rig::new(Config { turn: Duration::ZERO, ..Config::default() });
        let gil = Arc::clone(rig.gil());
        rig.start_with(0, Clumsy { hand: Hand(gil), attach, detach });
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
    let mut rig = Rig::new(Config { turn: Duration::ZERO, ..Config::default() });
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
    rig.start_with(0, Clumsy { hand: Hand(gil), attach: None, detach: Some(0) });
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
        rig.pool.submit(call.telling(&dropped)).unwrap();
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
        rig.pool.submit(Call::new(|_| ()).telling(&dropped)).unwrap();
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
