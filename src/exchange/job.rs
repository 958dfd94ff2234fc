//! An exchange as its pool has it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::log::Level;
use super::response::{End, Failure};
use super::{Exchange, OVER, QUEUED};
use crate::pool::Task;

/// A call on its way through a pool. However it ends, the event loop hears of it.
#[derive(Debug)]
pub struct Job(Arc<Exchange>);

impl Job {
    /// Wraps an exchange for [`crate::pool::Pool::submit`].
    pub fn new(exchange: Arc<Exchange>) -> Self {
        Self(exchange)
    }

    /// The exchange.
    pub fn exchange(&self) -> &Arc<Exchange> {
        &self.0
    }

    /// Takes the exchange out without a word to the event loop: the pool would not have the job.
    pub fn refused(self) -> Arc<Exchange> {
        self.0.state.store(OVER, Ordering::Release);
        Arc::clone(&self.0)
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        let failure = match self.0.state.load(Ordering::Acquire) {
            OVER => return,
            QUEUED => Failure {
                status: 503,
                level: Level::Warn,
                record: "the worker is stopping; the call never began".into(),
            },
            _ => Failure {
                status: 500,
                level: Level::Alert,
                record: "the call was lost by its thread (a panic in nginx-wsgi)".into(),
            },
        };
        self.0.end(End::Failed(failure));
    }
}

impl Task for Job {
    fn is_cancelled(&self) -> bool {
        self.0.state.load(Ordering::Acquire) == OVER
    }

    fn claim(&self) -> bool {
        self.0.begin()
    }
}
