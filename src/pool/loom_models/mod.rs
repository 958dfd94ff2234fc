//! The protocols under loom, which tries every order of the threads' steps (up to a number of forced switches).
//!
//! A wake-up that is lost leaves a thread asleep for ever; loom reports that as a deadlock.

mod completions;

use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;
use std::time::Duration;

use super::sleep::{Sleep, Slot};
use super::sync::{AtomicBool, lock};
use super::{Config, Pool, Runner, Task};

fn explore(switches: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(switches);
    builder.check(model);
}

/// A lock that its holder can let go in the middle of a job.
struct Gil {
    held: Mutex<bool>,
    freed: Condvar,
}

impl Gil {
    fn new() -> Arc<Self> {
        Arc::new(Self { held: Mutex::new(false), freed: Condvar::new() })
    }

    fn acquire(&self) {
        let mut held = lock(&self.held);
        while *held {
            held = self.freed.wait(held).unwrap();
        }
        *held = true;
    }

    fn release(&self) {
        *lock(&self.held) = false;
        self.freed.notify_all();
    }
}

#[derive(Clone, Copy)]
enum Call {
    /// Ends at once.
    Short,
    /// Lets the lock go, and waits until all of its kind have come so far.
    Meet,
}

impl Task for Call {
    fn is_cancelled(&self) -> bool {
        false
    }
}

/// What the jobs of one model share: the one that ends last stops the pool.
struct Scene {
    pool: Pool<Call>,
    gil: Arc<Gil>,
    left: AtomicUsize,
    met: Mutex<usize>,
    all: Condvar,
}

impl Scene {
    fn new(config: Config, left: usize, meeting: usize) -> Arc<Self> {
        Arc::new(Self {
            pool: Pool::new(config, |_| ()),
            gil: Gil::new(),
            left: AtomicUsize::new(left),
            met: Mutex::new(meeting),
            all: Condvar::new(),
        })
    }

    fn one_less(&self) {
        if self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.pool.stop();
        }
    }
}

struct Hand(Arc<Scene>);

impl Runner<Call> for Hand {
    fn attach(&mut self) {
        self.0.gil.acquire();
    }

    fn detach(&mut self) {
        self.0.gil.release();
    }

    fn run(&mut self, call: Call) {
        let scene = &*self.0;
        if let Call::Meet = call {
            scene.gil.release();
            let mut left = lock(&scene.met);
            *left -= 1;
            scene.all.notify_all();
            while *left > 0 {
                left = scene.all.wait(left).unwrap();
            }
            drop(left);
            scene.gil.acquire();
        }
        scene.one_less();
    }
}

/// `threads` threads and a submitter, which is `early` or races them; each job must be run, and all threads return.
fn play(threads: usize, config: Config, calls: &[Call], early: bool) {
    let meeting = calls.iter().filter(|call| matches!(call, Call::Meet)).count();
    let scene = Scene::new(config, calls.len(), meeting);
    let submit = || {
        for &call in calls {
            assert!(scene.pool.submit(call).is_ok());
            let _ = scene.pool.wake();
        }
    };
    if early {
        submit();
    }
    let threads: Vec<_> = (0..threads)
        .map(|_| {
            let scene = Arc::clone(&scene);
            thread::spawn(move || scene.pool.run_thread(&mut Hand(Arc::clone(&scene))))
        })
        .collect();
    if !early {
        submit();
    }
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!(scene.left.load(Ordering::Relaxed), 0);
    assert_eq!(scene.pool.queued(), 0);
}

/// Time stands still: a turn or a stall of zero is over at once, any other never.
fn config(turn: Duration, stall: Duration) -> Config {
    Config { turn, stall, ..Config::default() }
}

#[test]
fn a_thread_about_to_park_sees_the_jobs_or_is_woken() {
    for stall in [Duration::ZERO, Duration::MAX] {
        explore(3, move || play(1, config(Duration::MAX, stall), &[Call::Short, Call::Short], false));
    }
}

#[test]
fn two_threads_one_job() {
    for stall in [Duration::ZERO, Duration::MAX] {
        explore(2, move || play(2, config(Duration::MAX, stall), &[Call::Short], false));
    }
}

#[test]
fn what_is_left_to_a_turn_is_run_by_it_or_by_who_comes_after() {
    explore(1, || play(2, config(Duration::MAX, Duration::MAX), &[Call::Short, Call::Short], false));
}

#[test]
fn a_job_that_waits_for_another_gets_a_second_thread() {
    explore(2, || play(2, config(Duration::MAX, Duration::ZERO), &[Call::Meet, Call::Meet], false));
}

#[test]
fn handing_over_forgets_no_job() {
    explore(2, || play(2, config(Duration::ZERO, Duration::ZERO), &[Call::Short, Call::Short], true));
}

/// A thread that is notified once it has joined, perhaps with a job at the same time, comes: else the pool never stops.
fn notify(threads: usize, calls: usize, switches: usize) {
    struct Notified(Arc<Scene>, Arc<Mutex<Option<Box<dyn Fn() + Send + Sync>>>>);
    impl Runner<Call> for Notified {
        fn joined(&mut self, notify: Box<dyn Fn() + Send + Sync>) {
            *lock(&self.1) = Some(notify);
        }
        fn notified(&mut self) {
            self.0.one_less();
        }
        fn attach(&mut self) {
            self.0.gil.acquire();
        }
        fn detach(&mut self) {
            self.0.gil.release();
        }
        fn run(&mut self, _: Call) {
            self.0.one_less();
        }
    }
    explore(switches, move || {
        let scene = Scene::new(Config::default(), calls + 1, 0);
        let notifiers = Arc::new(Mutex::new(None));
        let threads: Vec<_> = (0..threads)
            .map(|number| {
                let scene = Arc::clone(&scene);
                // The first thread's is used.
                let notifiers = if number == 0 { Arc::clone(&notifiers) } else { Arc::new(Mutex::new(None)) };
                thread::spawn(move || scene.pool.run_thread(&mut Notified(Arc::clone(&scene), notifiers)))
            })
            .collect();
        for _ in 0..calls {
            assert!(scene.pool.submit(Call::Short).is_ok());
            let _ = scene.pool.wake();
        }
        let notify = loop {
            match lock(&notifiers).take() {
                Some(notify) => break notify,
                None => thread::yield_now(),
            }
        };
        notify();
        drop(notify);
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(scene.left.load(Ordering::Relaxed), 0);
    });
}

#[test]
fn a_thread_about_to_park_hears_a_notification() {
    notify(1, 0, 4);
}

#[test]
fn a_notification_beside_a_job() {
    notify(1, 1, 3);
}

#[test]
fn a_notification_is_for_one_thread_whoever_takes_the_job() {
    notify(2, 1, 2);
}

#[test]
fn without_a_lock() {
    let config = || Config { has_lock: false, ..Config::default() };
    explore(2, move || play(2, config(), &[Call::Meet, Call::Meet], false));
}

#[test]
fn stop_and_submit_at_once_leave_no_job_behind() {
    struct Kept(Arc<AtomicUsize>);
    impl Task for Kept {
        fn is_cancelled(&self) -> bool {
            false
        }
    }
    impl Drop for Kept {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::Relaxed);
        }
    }
    explore(4, || {
        let alive = Arc::new(AtomicUsize::new(1));
        let pool = Pool::new(Config::default(), |_| ());
        let stopper = thread::spawn({
            let pool = pool.clone();
            move || pool.stop()
        });
        let _ = pool.submit(Kept(Arc::clone(&alive)));
        let _ = pool.wake();
        stopper.join().unwrap();
        assert_eq!(alive.load(Ordering::Relaxed), 0);
    });
}

/// The sleep protocol alone, with a bare counter for a queue, and deeper.
fn naps(threads: usize, jobs: usize, has_lock: bool, stall: Duration, switches: usize) {
    explore(switches, move || {
        let sleep = Arc::new(Sleep::new(has_lock, stall));
        let waiting = Arc::new(AtomicUsize::new(0));
        let done = Arc::new(AtomicUsize::new(0));
        let stopped = Arc::new(AtomicBool::new(false));
        let threads: Vec<_> = (0..threads)
            .map(|_| {
                let (sleep, waiting) = (Arc::clone(&sleep), Arc::clone(&waiting));
                let (done, stopped) = (Arc::clone(&done), Arc::clone(&stopped));
                let take = |count: usize| count.checked_sub(1);
                thread::spawn(move || {
                    let mut slot = Slot::new();
                    loop {
                        sleep.rest(&mut slot, &waiting, &stopped, || 1, |_| ());
                        if stopped.load(Ordering::Relaxed) {
                            break;
                        }
                        let mut first = true;
                        while waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok() {
                            sleep.turn.begin_job(1, 0);
                            if std::mem::take(&mut first) {
                                let _ = sleep.begin_turn(&mut slot, &waiting, 1);
                            }
                            if done.fetch_add(1, Ordering::Relaxed) == jobs - 1 {
                                stopped.store(true, Ordering::Release);
                                sleep.wake_all();
                            }
                        }
                        sleep.turn.end(1);
                    }
                    let _ = sleep.leave(&mut slot, &waiting, 1);
                })
            })
            .collect();
        for _ in 0..jobs {
            waiting.fetch_add(1, Ordering::Relaxed);
            let _ = sleep.wake(&waiting, || 1);
        }
        for thread in threads {
            thread.join().unwrap();
        }
    });
}

#[test]
fn no_wake_up_is_lost_with_one_sleeper() {
    naps(1, 2, true, Duration::ZERO, 5);
}

#[test]
fn no_wake_up_is_lost_with_two_sleepers() {
    naps(2, 2, true, Duration::ZERO, 3);
}

#[test]
fn no_wake_up_is_lost_that_is_left_to_a_turn() {
    naps(1, 2, true, Duration::MAX, 4);
    naps(2, 2, true, Duration::MAX, 2);
}

#[test]
fn no_wake_up_is_lost_with_two_sleepers_without_a_lock() {
    naps(2, 2, false, Duration::ZERO, 2);
}
