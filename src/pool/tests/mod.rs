//! The pool with a lock of our own in the GIL's place.

mod behaviour;
mod cancel;
mod policy;
mod stress;

use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle, ThreadId};
use std::time::{Duration, Instant};

use super::{Config, Full, Pool, Runner, Task};

/// A lock that its holder can let go in the middle of a job.
#[derive(Default)]
struct Gil {
    held: Mutex<bool>,
    freed: Condvar,
    /// Threads inside [`Self::acquire`].
    in_line: AtomicUsize,
    acquired: AtomicUsize,
}

impl Gil {
    fn acquire(&self) {
        self.in_line.fetch_add(1, Ordering::SeqCst);
        let mut held = self.held.lock().unwrap();
        while *held {
            held = self.freed.wait(held).unwrap();
        }
        *held = true;
        self.acquired.fetch_add(1, Ordering::SeqCst);
        self.in_line.fetch_sub(1, Ordering::SeqCst);
    }

    fn release(&self) {
        let mut held = self.held.lock().unwrap();
        assert!(*held, "released by a thread that has not got it");
        *held = false;
        drop(held);
        self.freed.notify_one();
    }

    /// Calls `f` without the lock, as a blocking call into the system does.
    fn without<R>(&self, f: impl FnOnce() -> R) -> R {
        self.release();
        let result = f();
        self.acquire();
        result
    }

    fn in_line(&self) -> usize {
        self.in_line.load(Ordering::SeqCst)
    }

    fn acquired(&self) -> usize {
        self.acquired.load(Ordering::SeqCst)
    }
}

type Body = Box<dyn FnOnce(&Gil) + Send>;

const QUEUED: u8 = 0;
const TAKEN: u8 = 1;
const CANCELLED: u8 = 2;
/// It can no longer be cancelled.
const DROPPED: u8 = 3;

/// A job that tells how it ended.
struct Call {
    body: Option<Body>,
    state: Arc<AtomicU8>,
    dropped: Option<Sender<u8>>,
}

impl Call {
    fn new(body: impl FnOnce(&Gil) + Send + 'static) -> Self {
        Self { body: Some(Box::new(body)), state: Arc::default(), dropped: None }
    }

    /// Sends its last state when it is dropped.
    fn telling(mut self, dropped: &Sender<u8>) -> Self {
        self.dropped = Some(dropped.clone());
        self
    }

    fn handle(&self) -> Handle {
        Handle(Arc::clone(&self.state))
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let last = self.state.swap(DROPPED, Ordering::SeqCst);
        if let Some(dropped) = &self.dropped {
            let _ = dropped.send(last);
        }
    }
}

impl Task for Call {
    fn is_cancelled(&self) -> bool {
        self.state.load(Ordering::SeqCst) == CANCELLED
    }

    fn claim(&self) -> bool {
        self.state.compare_exchange(QUEUED, TAKEN, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }
}

/// Cancels a [`Call`].
struct Handle(Arc<AtomicU8>);

impl Handle {
    /// As the event loop does it; false when a thread was first.
    fn cancel(&self, pool: &Pool<Call>) -> bool {
        let cancelled = self.0.compare_exchange(QUEUED, CANCELLED, Ordering::SeqCst, Ordering::SeqCst).is_ok();
        if cancelled {
            pool.forget();
        }
        cancelled
    }
}

/// Runs [`Call`]s.
struct Hand(Arc<Gil>);

impl Runner<Call> for Hand {
    fn attach(&mut self) {
        self.0.acquire();
    }

    fn detach(&mut self) {
        self.0.release();
    }

    fn run(&mut self, mut call: Call) {
        let body = call.body.take().unwrap();
        // As a Python call: what it does to itself, it has the lock when it ends.
        body(&self.0);
    }
}

/// A pool, its lock, the threads started so far, and who wakes it later when it asks for that.
struct Rig {
    pool: Pool<Call>,
    gil: Arc<Gil>,
    threads: Vec<JoinHandle<()>>,
    later: Sender<Option<Duration>>,
    alarm: Option<JoinHandle<()>>,
}

impl Rig {
    fn new(config: Config) -> Self {
        let (later, asked) = channel();
        let for_pool = later.clone();
        let pool = Pool::new(config, move |after| {
            let _ = for_pool.send(Some(after));
        });
        let (for_alarm, again) = (pool.clone(), later.clone());
        // As the event loop does it: an alarm that is set stays as it is.
        let alarm = move || {
            while let Ok(Some(after)) = asked.recv() {
                thread::sleep(after);
                if asked.try_iter().any(|after| after.is_none()) {
                    break;
                }
                if let Some(after) = for_alarm.wake() {
                    let _ = again.send(Some(after));
                }
            }
        };
        Self { pool, gil: Arc::default(), threads: Vec::new(), later, alarm: Some(thread::spawn(alarm)) }
    }

    fn with_threads(threads: usize) -> Self {
        let mut rig = Self::new(Config::default());
        rig.start(threads);
        rig
    }

    fn start(&mut self, threads: usize) {
        for _ in 0..threads {
            let hand = Hand(Arc::clone(&self.gil));
            self.start_with(hand);
        }
    }

    fn start_with(&mut self, mut runner: impl Runner<Call> + Send + 'static) {
        let pool = self.pool.clone();
        self.threads.push(thread::spawn(move || pool.run_thread(&mut runner)));
    }

    fn gil(&self) -> &Arc<Gil> {
        &self.gil
    }

    /// Submits and wakes.
    fn submit(&self, body: impl FnOnce(&Gil) + Send + 'static) {
        self.submit_call(Call::new(body));
    }

    fn submit_call(&self, call: Call) {
        self.pool.submit(call).expect("the queue is full");
        if let Some(after) = self.pool.wake() {
            let _ = self.later.send(Some(after));
        }
    }

    /// Stops the pool; every thread must return, and none by a panic.
    fn finish(mut self) {
        self.pool.stop();
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
        assert_eq!(self.pool.queued(), 0);
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        let _ = self.later.send(None);
        self.alarm.take().map(JoinHandle::join);
    }
}

/// Polls until `condition` holds.
pub(super) fn eventually(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "never: {what}");
        thread::sleep(Duration::from_micros(50));
    }
}

/// Receives `count` values, each within reasonable time.
fn receive<T>(receiver: &Receiver<T>, count: usize) -> Vec<T> {
    (0..count).map(|_| receiver.recv_timeout(Duration::from_secs(20)).expect("nothing came")).collect()
}
