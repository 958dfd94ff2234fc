//! Responses that nginx sends from a file: their `close()` is due when nginx has done with the file, on the thread of
//! the call.

use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::object::{Object, Py};
use crate::exchange::Exchange;
use crate::exchange::response::OnDrop;

/// Has a thread look at its mailbox.
pub type Summon = Box<dyn Fn() + Send + Sync>;

/// Where the event loop leaves word for a thread.
#[derive(Default)]
struct Mailbox {
    /// Numbers of responses whose file has gone out, or never will.
    done: Mutex<Vec<u64>>,
    summon: OnceLock<Summon>,
}

impl Mailbox {
    fn done(&self) -> MutexGuard<'_, Vec<u64>> {
        // Nothing panics while it holds the lock.
        self.done.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, number: u64) {
        self.done().push(number);
        if let Some(summon) = self.summon.get() {
            summon();
        }
    }
}

/// A response that has been given to nginx and not been closed.
pub(super) struct Unclosed {
    number: u64,
    pub(super) response: Py,
    /// The context that the call was made in.
    pub(super) context: Option<Py>,
    pub(super) exchange: Arc<Exchange>,
}

/// The unclosed responses of a thread.
#[derive(Default)]
pub(super) struct Closings {
    mailbox: Arc<Mailbox>,
    unclosed: Vec<Unclosed>,
    next: u64,
}

impl Closings {
    /// Names who has the thread look. Once.
    pub(super) fn set_summon(&mut self, summon: Summon) {
        let _ = self.mailbox.summon.set(summon);
    }

    /// Keeps a response until what this returns has been dropped.
    pub(super) fn keep(
        &mut self,
        response: Object<'_>,
        context: Option<Object<'_>>,
        exchange: &Arc<Exchange>,
    ) -> OnDrop {
        self.next += 1;
        let (number, mailbox) = (self.next, Arc::clone(&self.mailbox));
        let (response, context) = (response.keep(), context.map(Object::keep));
        self.unclosed.push(Unclosed { number, response, context, exchange: Arc::clone(exchange) });
        OnDrop::new(move || mailbox.put(number))
    }

    /// The responses that are to be closed now.
    #[inline]
    pub(super) fn due(&mut self) -> Vec<Unclosed> {
        if self.unclosed.is_empty() { Vec::new() } else { self.take_done() }
    }

    fn take_done(&mut self) -> Vec<Unclosed> {
        let done = mem::take(&mut *self.mailbox.done());
        let (due, rest) = mem::take(&mut self.unclosed).into_iter().partition(|it| done.contains(&it.number));
        self.unclosed = rest;
        due
    }

    /// All of them: the thread ends.
    pub(super) fn all(&mut self) -> Vec<Unclosed> {
        mem::take(&mut self.unclosed)
    }
}
