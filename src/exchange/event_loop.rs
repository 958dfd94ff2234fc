//! The event loop's side of an exchange.

use std::mem;
use std::sync::atomic::Ordering;

use super::inbox::{Broken, Inbox};
use super::response::End;
use super::{Delivery, Exchange, OVER, QUEUED, RUNNING};

impl Exchange {
    /// The owner given at the start, until [`Self::abandon`]; then 0.
    pub fn owner(&self) -> usize {
        self.owner.load(Ordering::Relaxed)
    }

    /// Takes everything sent so far. A later message announces the exchange anew.
    pub fn take(&self) -> Delivery {
        self.announced.store(false, Ordering::Release);
        mem::take(&mut self.outbox().delivery)
    }

    /// The streamed body, if it is one.
    pub fn inbox(&self) -> Option<&Inbox> {
        self.terms.inbox.as_deref()
    }

    /// `bytes` of what was sent are off this process's hands: a waiting thread may go on.
    pub fn credit(&self, bytes: u64) {
        self.give_back(bytes, false);
    }

    /// As [`Self::credit`], and it is the client that has taken them. One that takes half a window at once keeps up: then
    /// the application may run further ahead, so that neither side waits for the other.
    pub fn taken(&self, bytes: u64) {
        self.give_back(bytes, true);
    }

    fn give_back(&self, bytes: u64, to_client: bool) {
        // Not before the lock is free, which is what the thread wants next.
        let wanted = self.outbox().give_back(bytes, to_client);
        if wanted {
            self.room.notify_all();
        }
    }

    /// How many bytes of what was sent may wait for the client to take them.
    pub fn window(&self) -> u64 {
        self.outbox().window()
    }

    /// The client does not keep up any more: the window is what it was at first.
    pub fn narrow(&self) {
        self.outbox().narrow();
    }

    /// Whether the thread waits, or is about to, for the client to take more.
    pub fn is_full(&self) -> bool {
        self.outbox().is_full()
    }

    /// Cuts the exchange off from its request: nothing is delivered any more, and what a thread sends is dropped.
    ///
    /// True when the call had not begun and now never will. An end that had been sent and not taken is returned.
    pub fn abandon(&self) -> (bool, Option<End>) {
        self.owner.store(0, Ordering::Relaxed);
        let (end, parts) = {
            let mut outbox = self.outbox();
            self.deserted.store(self.state.load(Ordering::Acquire) != OVER, Ordering::Release);
            self.gone.store(true, Ordering::Release);
            if outbox.waits || outbox.watchers > 0 {
                self.room.notify_all();
            }
            (outbox.delivery.end.take(), mem::take(&mut outbox.delivery.parts))
        };
        // Not under the lock: others may be told of it.
        drop(parts);
        // Whoever learns of it by reading finds it said everywhere.
        if let Some(inbox) = &self.terms.inbox {
            inbox.close(Err(Broken::ClientGone));
        }
        let dropped = self.state.compare_exchange(QUEUED, OVER, Ordering::AcqRel, Ordering::Acquire).is_ok();
        (dropped, end)
    }

    /// Whether the call still waits for a thread.
    pub fn is_queued(&self) -> bool {
        self.state.load(Ordering::Acquire) == QUEUED
    }

    /// Whether a thread is in the call.
    pub fn is_running(&self) -> bool {
        self.state.load(Ordering::Acquire) == RUNNING
    }

    /// The thread that runs the call (`threading.get_ident()`), if one does.
    pub fn thread(&self) -> Option<u64> {
        Some(self.thread.load(Ordering::Acquire)).filter(|&ident| ident != 0 && self.is_running())
    }

    /// When it was submitted, in microseconds, by [`super::now`].
    pub fn submitted(&self) -> u64 {
        self.submitted
    }

    /// When a thread took it.
    pub fn began(&self) -> Option<u64> {
        Some(self.began.load(Ordering::Acquire)).filter(|&at| at != 0)
    }

    /// When the call ended.
    pub fn ended(&self) -> Option<u64> {
        Some(self.ended.load(Ordering::Acquire)).filter(|&at| at != 0)
    }
}
