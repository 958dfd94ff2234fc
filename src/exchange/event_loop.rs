//! The event loop's side of an exchange.

use std::mem;
use std::sync::atomic::Ordering;

use super::inbox::{Broken, Inbox};
use super::response::End;
use super::{Delivery, Exchange, OVER, QUEUED, RUNNING};

impl Exchange {
    /// Returns the owner until [`Self::abandon`], and 0 afterwards.
    pub fn owner(&self) -> usize {
        self.owner.load(Ordering::Relaxed)
    }

    /// Takes everything sent so far. A later message notifies the event loop again.
    pub fn take(&self) -> Delivery {
        self.notified.store(false, Ordering::Release);
        mem::take(&mut self.outbox().delivery)
    }

    /// Returns the inbox of a streamed body.
    pub fn inbox(&self) -> Option<&Inbox> {
        self.params.inbox.as_deref()
    }

    /// Credits `bytes` that this process no longer holds, so that a waiting thread can go on.
    pub fn credit(&self, bytes: u64) {
        self.give_back(bytes, false);
    }

    /// As [`Self::credit`], for bytes that the client has taken. A client that takes half a window at once keeps up.
    /// The window grows then, so that neither side waits for the other.
    pub fn taken(&self, bytes: u64) {
        self.give_back(bytes, true);
    }

    fn give_back(&self, bytes: u64, to_client: bool) {
        // After the lock was released, since the thread needs it next.
        let wanted = self.outbox().give_back(bytes, to_client);
        if wanted {
            self.room.notify_all();
        }
    }

    /// Number of bytes that may wait for the client.
    pub fn window(&self) -> u64 {
        self.outbox().window()
    }

    /// Resets the window to its initial size, for a client that does not keep up any more.
    pub fn narrow(&self) {
        self.outbox().narrow();
    }

    /// Whether the thread waits, or is about to, for the client to take more.
    pub fn is_full(&self) -> bool {
        self.outbox().is_full()
    }

    /// Cuts the exchange off from its request: nothing is delivered any more, and what a thread sends is dropped.
    ///
    /// Returns whether the call was cancelled in the queue, and an end that was sent but not taken.
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
        // Without the lock: dropping a part may notify a thread.
        drop(parts);
        // Last, so that a reader who fails finds the exchange gone.
        if let Some(inbox) = &self.params.inbox {
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

    /// Time when the call was submitted, in [`super::now`]'s microseconds.
    pub fn submitted(&self) -> u64 {
        self.submitted
    }

    /// Time when a thread took the call.
    pub fn began(&self) -> Option<u64> {
        Some(self.began.load(Ordering::Acquire)).filter(|&at| at != 0)
    }

    /// Time when the call ended.
    pub fn ended(&self) -> Option<u64> {
        Some(self.ended.load(Ordering::Acquire)).filter(|&at| at != 0)
    }
}
