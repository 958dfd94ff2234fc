//! Responses that nginx sends from a file. The thread of the call closes them when nginx has finished with the file.

use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::object::{Object, Py};
use crate::exchange::Exchange;
use crate::exchange::response::OnDrop;

/// Makes a thread look at its mailbox.
pub type Notify = Box<dyn Fn() + Send + Sync>;

/// Messages from the event loop to a thread.
#[derive(Default)]
struct Mailbox {
    /// Numbers of the responses whose file has been sent, or never will be.
    done: Mutex<Vec<u64>>,
    notify: OnceLock<Notify>,
}

impl Mailbox {
    fn done(&self) -> MutexGuard<'_, Vec<u64>> {
        // Nothing panics while it holds the lock.
        self.done.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, number: u64) {
        self.done().push(number);
        if let Some(notify) = self.notify.get() {
            notify();
        }
    }
}

/// A response that nginx has, and that has not been closed.
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
    /// Sets how the thread is notified. Only the first call counts.
    pub(super) fn set_notify(&mut self, notify: Notify) {
        let _ = self.mailbox.notify.set(notify);
    }

    /// Keeps a response until the returned value is dropped.
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

    /// Takes the responses that are to be closed now.
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

    /// Takes all of them, when the thread ends.
    pub(super) fn all(&mut self) -> Vec<Unclosed> {
        mem::take(&mut self.unclosed)
    }
}
