//! Whether anybody gets the GIL: a thread of its own tries when it is asked to.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};

use super::{Interpreter, Thread};

/// In bytes. It runs no code of an application's but destructors, at its end.
const STACK_SIZE: usize = 8 << 20;

/// The side that asks.
#[derive(Debug)]
pub struct Probe {
    /// False: there will be no more.
    questions: Sender<bool>,
    asked: AtomicU64,
    answered: Arc<AtomicU64>,
}

/// The thread's side.
#[derive(Debug)]
pub struct Prober {
    questions: Receiver<bool>,
    answered: Arc<AtomicU64>,
}

/// The two sides.
pub fn probe() -> (Probe, Prober) {
    let (sender, receiver) = mpsc::channel();
    let answered = Arc::new(AtomicU64::new(0));
    let prober = Prober { questions: receiver, answered: Arc::clone(&answered) };
    (Probe { questions: sender, asked: AtomicU64::new(0), answered }, prober)
}

impl Probe {
    /// Has the thread get the GIL, and let it go at once. Never blocks.
    pub fn ask(&self) {
        if self.questions.send(true).is_ok() {
            self.asked.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Ends the thread, once it has got the GIL for the last time.
    pub fn stop(&self) {
        let _ = self.questions.send(false);
    }

    /// Whether the thread has been asked and has not got the GIL since.
    pub fn is_unanswered(&self) -> bool {
        self.asked.load(Ordering::Relaxed) != self.answered.load(Ordering::Acquire)
    }
}

impl Prober {
    /// Starts the thread.
    pub fn start(self, interpreter: &Arc<Interpreter>) -> io::Result<JoinHandle<()>> {
        let interpreter = Arc::clone(interpreter);
        thread::Builder::new().name("python-probe".into()).stack_size(STACK_SIZE).spawn(move || {
            let mut thread = Thread::new(&interpreter);
            while self.questions.recv() == Ok(true) {
                thread.attach();
                thread.detach();
                self.answered.fetch_add(1, Ordering::Release);
            }
        })
    }
}
