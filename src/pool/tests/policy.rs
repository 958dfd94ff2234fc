//! Who is woken, who keeps the lock, who hands it over.

use std::sync::atomic::AtomicBool;

use super::*;

/// Starts `count` threads one after the other, so that they park in this order.
fn parked_in_order(rig: &mut Rig, count: usize) {
    for already in 0..count {
        rig.start(1);
        eventually("the thread is parked", || rig.pool.stats().parked == already + 1);
    }
}

#[test]
fn the_thread_that_parked_last_is_woken_first() {
    let mut rig = Rig::new(Config::default());
    parked_in_order(&mut rig, 3);
    let last = rig.threads[2].thread().id();
    let (sender, receiver) = channel();
    for _ in 0..50 {
        let sender = sender.clone();
        rig.submit(move |_| sender.send(thread::current().id()).unwrap());
        assert_eq!(receive(&receiver, 1), [last]);
        eventually("all are parked", || rig.pool.stats().parked == 3);
    }
    assert_eq!(rig.pool.stats().wakeups, 50);
    rig.finish();
}

#[test]
fn one_thread_is_woken_to_run_and_one_to_wait_for_the_lock_and_no_more() {
    const JOBS: usize = 5000;
    let mut rig = Rig::new(Config { capacity: JOBS, turn: Duration::MAX, ..Config::default() });
    parked_in_order(&mut rig, 6);
    let (release, held) = channel::<()>();
    let (began, begun) = channel();
    rig.submit(move |_| {
        began.send(()).unwrap();
        held.recv().unwrap();
    });
    receive(&begun, 1);
    assert_eq!(rig.pool.stats().wakeups, 1);
    let (sender, receiver) = channel();
    for _ in 1..JOBS {
        let sender = sender.clone();
        rig.submit(move |_| sender.send(thread::current().id()).unwrap());
        assert!(rig.gil().in_line() <= 1);
    }
    eventually("the seeker waits for the lock", || rig.gil().in_line() == 1);
    assert_eq!(rig.pool.stats().wakeups, 2);
    release.send(()).unwrap();
    let threads = receive(&receiver, JOBS - 1);
    // It keeps the lock while more is queued: the other one's turn never comes.
    assert!(threads.iter().all(|&thread| thread == threads[0]));
    eventually("all are parked", || rig.pool.stats().parked == 6);
    assert_eq!(rig.pool.stats().wakeups, 2);
    assert_eq!(rig.gil().acquired(), 2);
    rig.finish();
}

/// Jobs each of which ends when the lane's seeker is in line; tells which threads ran them.
fn threads_that_ran(turn: Duration, jobs: usize) -> Vec<ThreadId> {
    let mut rig = Rig::new(Config { turn, stall: Duration::ZERO, ..Config::default() });
    let (sender, receiver) = channel();
    for number in 1..=jobs {
        let sender = sender.clone();
        rig.submit(move |gil| {
            if number < jobs {
                eventually("a seeker is in line", || gil.in_line() == 1);
            }
            sender.send(thread::current().id()).unwrap();
        });
    }
    rig.start(3);
    let threads = receive(&receiver, jobs);
    rig.finish();
    threads
}

#[test]
fn the_lock_is_handed_over_between_jobs_when_the_seekers_wait_is_over() {
    let threads = threads_that_ran(Duration::ZERO, 60);
    assert!(threads.windows(2).all(|pair| pair[0] != pair[1]), "{threads:?}");
}

#[test]
fn the_lock_is_kept_until_then() {
    let threads = threads_that_ran(Duration::from_secs(3600), 60);
    assert!(threads.windows(2).all(|pair| pair[0] == pair[1]), "{threads:?}");
}

#[test]
fn nobody_hands_over_before_a_turn_has_passed() {
    const TURN: Duration = Duration::from_millis(20);
    let mut rig = Rig::new(Config { turn: TURN, stall: Duration::ZERO, ..Config::default() });
    let (sender, receiver) = channel();
    let start = Instant::now();
    for number in 0..400 {
        let sender = sender.clone();
        rig.submit(move |gil| {
            match number {
                0 => eventually("a seeker is in line", || gil.in_line() == 1),
                _ => thread::sleep(Duration::from_micros(200)),
            }
            sender.send(thread::current().id()).unwrap();
        });
    }
    rig.start(2);
    let threads = receive(&receiver, 400);
    let turns = threads.chunk_by(|a, b| a == b).count();
    assert!(turns >= 2, "nobody handed over");
    // Each hand-over comes at the end of a wait of one turn, and no two seekers wait at the same time.
    let most = start.elapsed().as_nanos() / TURN.as_nanos() + 1;
    assert!(turns as u128 <= most, "{turns} turns, {most} possible");
    rig.finish();
}

#[test]
fn a_seeker_takes_over_when_a_job_lets_the_lock_go() {
    let mut rig = Rig::new(Config { turn: Duration::MAX, ..Config::default() });
    parked_in_order(&mut rig, 4);
    let (release, blocked) = channel::<()>();
    let (sender, receiver) = channel();
    rig.submit(move |gil| {
        eventually("a seeker is in line", || gil.in_line() == 1);
        gil.without(|| blocked.recv().unwrap());
    });
    for number in 0..20 {
        let sender = sender.clone();
        rig.submit(move |_| sender.send(number).unwrap());
    }
    assert_eq!(receive(&receiver, 20), (0..20).collect::<Vec<_>>());
    release.send(()).unwrap();
    rig.finish();
}

#[test]
fn without_a_lock_each_arrival_wakes_a_thread() {
    struct Held(Arc<Mutex<Receiver<()>>>);
    impl Runner<Call> for Held {
        fn attach(&mut self) {}
        fn detach(&mut self) {}
        fn run(&mut self, call: Call) {
            let _ = self.0.lock().unwrap().recv();
            drop(call);
        }
    }
    let mut rig = Rig::new(Config { has_lock: false, ..Config::default() });
    let (release, held) = channel();
    let held = Arc::new(Mutex::new(held));
    (0..4).for_each(|_| rig.start_with(Held(Arc::clone(&held))));
    eventually("all are parked", || rig.pool.stats().parked == 4);
    for running in 1..=4 {
        rig.submit(|_| ());
        eventually("a thread runs it", || rig.pool.stats().running == running);
    }
    assert_eq!(rig.pool.stats().wakeups, 4);
    (0..4).for_each(|_| release.send(()).unwrap());
    eventually("all are parked again", || rig.pool.stats().parked == 4);
    rig.finish();
}

/// A thread that tells when it has been notified.
struct Notified {
    hand: Hand,
    notify: Sender<Box<dyn Fn() + Send + Sync>>,
    came: Sender<ThreadId>,
}

impl Runner<Call> for Notified {
    fn joined(&mut self, notify: Box<dyn Fn() + Send + Sync>) {
        self.notify.send(notify).unwrap();
    }

    fn notified(&mut self) {
        self.came.send(thread::current().id()).unwrap();
    }

    fn attach(&mut self) {
        self.hand.attach();
    }

    fn detach(&mut self) {
        self.hand.detach();
    }

    fn run(&mut self, call: Call) {
        self.hand.run(call);
    }
}

#[test]
fn the_thread_that_is_notified_comes_and_no_other() {
    let mut rig = Rig::new(Config::default());
    let (came, coming) = channel();
    let mut notifiers = Vec::new();
    for _ in 0..3 {
        let (notify, given) = channel();
        let hand = Hand(Arc::clone(rig.gil()));
        rig.start_with(Notified { hand, notify, came: came.clone() });
        notifiers.push(given.recv().unwrap());
    }
    let first: Vec<_> = notifiers
        .iter()
        .map(|notify| {
            notify();
            receive(&coming, 1)[0]
        })
        .collect();
    assert!(first[0] != first[1] && first[1] != first[2] && first[0] != first[2]);
    for (notify, &thread) in notifiers.iter().zip(&first) {
        notify();
        assert_eq!(receive(&coming, 1), [thread], "always the same");
    }
    // All at once, with the lock taken: one seeker more for each of them, and every one comes.
    rig.gil().acquire();
    notifiers.iter().for_each(|notify| notify());
    rig.gil().release();
    let mut all = receive(&coming, 3);
    all.sort_by_key(|thread| first.iter().position(|other| other == thread));
    assert_eq!(all, first);
    rig.finish();
}

#[test]
fn a_thread_in_a_job_comes_after_it() {
    let mut rig = Rig::new(Config::default());
    let (came, coming) = channel();
    let (notify, given) = channel();
    let hand = Hand(Arc::clone(rig.gil()));
    rig.start_with(Notified { hand, notify, came });
    let notify = given.recv().unwrap();
    let (go, gate) = channel::<()>();
    let (sender, receiver) = channel();
    rig.submit(move |gil| {
        sender.send(()).unwrap();
        gil.without(|| gate.recv().unwrap());
    });
    receive(&receiver, 1);
    notify();
    notify();
    assert!(coming.recv_timeout(Duration::from_millis(20)).is_err());
    go.send(()).unwrap();
    receive(&coming, 1);
    assert!(coming.recv_timeout(Duration::from_millis(20)).is_err(), "two notifications before it came are one");
    rig.finish();
    notify(); // of nobody: nothing happens
}

#[test]
fn turns_of_short_jobs_wake_one_thread_each() {
    const TURNS: u64 = 100;
    let rig = Rig::with_threads(8);
    let (sender, receiver) = channel();
    let wakeups = || {
        let before = rig.pool.stats().wakeups;
        for _ in 0..TURNS {
            for _ in 0..8 {
                let sender = sender.clone();
                rig.pool.submit(Call::new(move |_| sender.send(()).unwrap())).unwrap();
            }
            let _ = rig.pool.wake();
            receive(&receiver, 8);
            eventually("the turn is over", || rig.pool.stats().running == 0);
        }
        rig.pool.stats().wakeups - before
    };
    // A machine that is busy with other things may make a short job a long one now and then.
    assert!((0..50).any(|_| wakeups() <= TURNS * 11 / 10), "a second thread is woken for nothing");
    rig.finish();
}

#[test]
fn jobs_that_wait_after_many_short_ones_are_overlapped_at_once() {
    let rig = Rig::with_threads(8);
    let (sender, receiver) = channel();
    for _ in 0..200 {
        for _ in 0..8 {
            let sender = sender.clone();
            rig.submit(move |_| sender.send(()).unwrap());
        }
        receive(&receiver, 8);
    }
    let (waiting, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    for _ in 0..40 {
        let (sender, waiting, most) = (sender.clone(), Arc::clone(&waiting), Arc::clone(&most));
        rig.submit(move |gil| {
            most.fetch_max(waiting.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            gil.without(|| thread::sleep(Duration::from_millis(5)));
            waiting.fetch_sub(1, Ordering::SeqCst);
            sender.send(()).unwrap();
        });
    }
    receive(&receiver, 40);
    assert!(most.load(Ordering::SeqCst) >= 6, "at most {} jobs waited at a time", most.load(Ordering::SeqCst));
    rig.finish();
}

#[test]
fn another_wake_is_owed_while_jobs_wait_and_a_thread_could_come() {
    let pool = Pool::new(Config::default(), |_| ());
    assert_eq!(pool.wake(), None);
    pool.submit(Call::new(|_| ())).unwrap();
    assert_eq!(pool.wake(), None, "there is no thread yet; one that joins looks by itself");
    for (threads, owed) in [(1, false), (2, true)] {
        let rig = Rig::with_threads(threads);
        eventually("all are parked", || rig.pool.stats().parked == threads);
        let (release, held) = channel::<()>();
        let (began, begun) = channel();
        rig.submit(move |gil| {
            began.send(()).unwrap();
            let _ = gil; // which it keeps
            held.recv().unwrap();
        });
        receive(&begun, 1);
        rig.submit(|_| ());
        assert_eq!(rig.pool.wake().is_some(), owed, "of {threads} threads");
        release.send(()).unwrap();
        rig.finish();
    }
}

#[test]
fn of_two_threads_in_the_middle_of_a_job_one_goes_on() {
    // The first job is made to give the lock up in its middle, as CPython makes one. The thread that then has the turn
    // goes on with the jobs that wait; the first parks when its own is done.
    let config = Config { stall: Duration::from_millis(500), turn: Duration::from_secs(5), ..Config::default() };
    let mut rig = Rig::new(config);
    let (forced, threads) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
    for _ in 0..2 {
        rig.start_with(Forced(Hand(Arc::clone(rig.gil())), Arc::clone(&forced)));
    }
    eventually("both are parked", || rig.pool.stats().parked == 2);
    let (began, begun) = channel();
    let other = Arc::clone(&threads);
    rig.submit(move |gil| {
        began.send(()).unwrap();
        gil.without(|| eventually("another job has begun", || !other.lock().unwrap().is_empty()));
    });
    receive(&begun, 1);
    forced.store(true, Ordering::SeqCst);
    let (sender, receiver) = channel();
    for number in 0..20 {
        let (sender, threads) = (sender.clone(), Arc::clone(&threads));
        rig.submit(move |gil| {
            threads.lock().unwrap().push(thread::current().id());
            if number == 0 {
                eventually("the first job's thread waits for the lock", || gil.in_line() > 0);
                gil.without(|| eventually("it has the lock", || gil.in_line() == 0));
            }
            sender.send(()).unwrap();
        });
    }
    receive(&receiver, 20);
    let threads = threads.lock().unwrap();
    assert!(threads.iter().all(|thread| *thread == threads[0]), "{threads:?}");
    drop(threads);
    rig.finish();
}

/// A thread that says that another was made to give it the lock, once that is set.
struct Forced(Hand, Arc<AtomicBool>);

impl Runner<Call> for Forced {
    fn attach(&mut self) {
        self.0.attach();
    }
    fn was_forced(&mut self, _: Duration) -> bool {
        self.1.load(Ordering::SeqCst)
    }
    fn detach(&mut self) {
        self.0.detach();
    }
    fn run(&mut self, call: Call) {
        self.0.run(call);
    }
}
