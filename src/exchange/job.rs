//! An exchange as a job of its pool.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::log::Level;
use super::response::{End, Failure};
use super::{Exchange, OVER, QUEUED};
use crate::pool::Task;

/// A call in a pool. Dropping it before the call has ended sends a failure to the event loop.
#[derive(Debug)]
pub struct Job(Arc<Exchange>);

impl Job {
    /// Wraps an exchange for [`crate::pool::Pool::submit`].
    pub fn new(exchange: Arc<Exchange>) -> Self {
        Self(exchange)
    }

    /// Returns the exchange.
    pub fn exchange(&self) -> &Arc<Exchange> {
        &self.0
    }

    /// Returns the exchange of a job that the pool has refused, without notifying the event loop.
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
