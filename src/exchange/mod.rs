//! What crosses between the event loop and the Python side: plain owned data.
//!
//! An [`Exchange`] is a request outside nginx. The event loop creates it, submits it to a pool as a [`Job`], and takes
//! what comes back; a pool thread runs the call. It refers to no memory of nginx and no object of Python, so it can
//! outlive either side.

pub mod body;
mod event_loop;
pub mod inbox;
mod job;
pub mod log;
pub mod metrics;
pub mod names;
mod outbox;
pub mod piece;
mod recycler;
pub mod request;
pub mod response;
pub mod spec;
#[cfg(test)]
pub(crate) mod tests;

use std::mem;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::pool::completions;
use inbox::{Broken, Inbox, Read, Taken};
pub use job::Job;
use log::Origin;
pub use outbox::Delivery;
use outbox::Outbox;
use piece::Room;
pub use recycler::Recycler;
use request::Request;
use response::{End, Fields, Head, Part, Parts};

/// The list through which the event loop gets the exchanges that have sent something.
pub type Completions = completions::Completions<Arc<Exchange>>;

/// In the queue: no thread has it.
const QUEUED: u8 = 0;
/// A thread has it and its call has not ended.
const RUNNING: u8 = 1;
/// The call has ended, or never began and never will.
const OVER: u8 = 2;

/// Microseconds since the first call; never 0.
pub fn now() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_micros() as u64 + 1
}

/// Nobody waits for the response any more: the client has left, or has been answered otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;

/// The parameters of a call, fixed when it is submitted.
#[derive(Debug)]
pub struct CallParams {
    /// Index into [`spec::Spec::apps`].
    pub app: usize,
    /// Index into [`spec::Spec::pools`].
    pub pool: usize,
    /// Initial window: number of bytes that the application may send ahead of the client.
    pub window: u64,
    /// Where its log records go.
    pub origin: Origin,
    /// The body if it streams; otherwise it is part of the request.
    pub inbox: Option<Box<Inbox>>,
    /// Identifies the request to the event loop. Opaque to all others. Cleared by [`Exchange::abandon`].
    pub owner: usize,
}

/// A request between the event loop and a pool thread.
#[derive(Debug)]
pub struct Exchange {
    /// The request, as the application sees it.
    pub request: Request,
    params: CallParams,
    owner: AtomicUsize,
    state: AtomicU8,
    gone: AtomicBool,
    /// The client had gone before the call ended.
    deserted: AtomicBool,
    /// The event loop has been notified, and has not looked yet.
    notified: AtomicBool,
    outbox: Mutex<Outbox>,
    room: Condvar,
    completions: Arc<Completions>,
    submitted: u64,
    began: AtomicU64,
    ended: AtomicU64,
    /// `threading.get_ident()` of the thread that runs the call; 0: none.
    thread: AtomicU64,
    /// An exception was raised in the call from outside.
    interrupted: AtomicBool,
}

impl Exchange {
    /// Creates an exchange that is about to be submitted. It notifies the event loop through `completions`.
    pub fn new(request: Request, params: CallParams, completions: Arc<Completions>) -> Arc<Self> {
        let mut exchange = Self {
            request,
            params,
            owner: AtomicUsize::default(),
            state: AtomicU8::default(),
            gone: AtomicBool::default(),
            deserted: AtomicBool::default(),
            notified: AtomicBool::default(),
            outbox: Mutex::default(),
            room: Condvar::new(),
            completions,
            submitted: 0,
            began: AtomicU64::default(),
            ended: AtomicU64::default(),
            thread: AtomicU64::default(),
            interrupted: AtomicBool::default(),
        };
        exchange.start();
        Arc::new(exchange)
    }

    /// Resets the state for the current request and parameters.
    fn start(&mut self) {
        *self.owner.get_mut() = self.params.owner;
        *self.state.get_mut() = QUEUED;
        for flag in [&mut self.gone, &mut self.deserted, &mut self.notified, &mut self.interrupted] {
            *flag.get_mut() = false;
        }
        self.outbox.get_mut().unwrap_or_else(PoisonError::into_inner).start(self.params.window);
        self.submitted = now();
        for number in [&mut self.began, &mut self.ended, &mut self.thread] {
            *number.get_mut() = 0;
        }
    }

    /// Index of the application.
    pub fn app(&self) -> usize {
        self.params.app
    }

    /// Index of the pool.
    pub fn pool(&self) -> usize {
        self.params.pool
    }

    /// Where log records of this call go.
    pub fn origin(&self) -> Origin {
        self.params.origin
    }

    fn outbox(&self) -> MutexGuard<'_, Outbox> {
        // Nothing panics while it holds the lock.
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notifies the event loop that there is something to take, unless it has been notified and has not looked yet.
    fn notify(self: &Arc<Self>) {
        if !self.notified.swap(true, Ordering::AcqRel) {
            self.completions.push(Arc::clone(self));
        }
    }

    /// As [`Self::notify`], but several ends share a wake-up, by the thread's next flush or by the wakeup timer.
    fn notify_coalesced(self: &Arc<Self>) {
        if !self.notified.swap(true, Ordering::AcqRel) {
            self.completions.push_coalesced(Arc::clone(self));
        }
    }

    // The pool thread's side; the event loop's is in event_loop.rs.

    /// Begins the call. Returns false if it was cancelled in the queue.
    ///
    /// Returns true again for the thread whose pool has claimed it already ([`crate::pool::Task::claim`]).
    pub fn begin(&self) -> bool {
        match self.state.compare_exchange(QUEUED, RUNNING, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => {
                self.began.store(now(), Ordering::Release);
                true
            }
            Err(state) => state == RUNNING,
        }
    }

    /// Notes which thread runs the call (its `threading.get_ident()`), for stack dumps.
    pub fn set_thread(&self, ident: u64) {
        self.thread.store(ident, Ordering::Release);
    }

    /// Notes that an exception is raised in the call from outside.
    pub fn set_interrupted(&self) {
        self.interrupted.store(true, Ordering::Release);
    }

    /// Whether such an exception was raised.
    pub fn was_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Acquire)
    }

    /// Whether the client has gone, or has been answered instead of by the call.
    pub fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    /// Whether [`Self::is_gone`] became true before the call ended.
    pub fn is_deserted(&self) -> bool {
        self.deserted.load(Ordering::Acquire)
    }

    /// Waits until [`Self::is_deserted`], until the call has ended, or until the timeout. Returns whether it is
    /// deserted. Call it without the GIL.
    pub fn wait_deserted(&self, timeout: Option<Duration>) -> bool {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut outbox = self.outbox();
        outbox.watchers += 1;
        while !self.is_gone() && self.state.load(Ordering::Acquire) != OVER {
            outbox = match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
                Some(Duration::ZERO) => break,
                Some(rest) => self.room.wait_timeout(outbox, rest).unwrap_or_else(PoisonError::into_inner).0,
                None => self.room.wait(outbox).unwrap_or_else(PoisonError::into_inner),
            };
        }
        outbox.watchers -= 1;
        self.is_deserted()
    }

    /// The description of the request that nginx appends to its own log records.
    pub fn context(&self) -> String {
        let text = |name| String::from_utf8_lossy(self.request.get(name).unwrap_or_default());
        let (method, uri) = (text(names::REQUEST_METHOD), text(names::REQUEST_URI));
        let (client, protocol) = (text(names::REMOTE_ADDR), text(names::SERVER_PROTOCOL));
        format!(", client: {client}, request: \"{method} {uri} {protocol}\"")
    }

    /// Sends the head, a body part, the end, or several of them as one message. Never blocks.
    ///
    /// Returns whether there is room for more; if not, call [`Self::wait_room`] before the next part. Fails if the
    /// client is gone; then nothing was sent.
    pub fn send(self: &Arc<Self>, head: Option<Head>, part: Option<Part>, end: Option<End>) -> Result<bool, Gone> {
        self.send_all(head, part.into_iter().collect(), end)
    }

    /// As [`Self::send`], with any number of parts.
    pub fn send_all(self: &Arc<Self>, head: Option<Head>, parts: Parts, end: Option<End>) -> Result<bool, Gone> {
        let ended = end.is_some();
        if ended {
            self.state.store(OVER, Ordering::Release);
            self.ended.store(now(), Ordering::Release);
        }
        let room = {
            let mut outbox = self.outbox();
            if self.is_gone() {
                return Err(Gone);
            }
            let room = outbox.add(parts);
            let delivery = &mut outbox.delivery;
            debug_assert!(delivery.end.is_none(), "something was sent after the end");
            if head.is_some() {
                delivery.head = head;
            }
            delivery.end = end;
            if ended && outbox.watchers > 0 {
                self.room.notify_all();
            }
            room
        };
        if ended {
            self.notify_coalesced()
        } else {
            self.notify()
        }
        Ok(room)
    }

    /// Sends an interim response, before the head. Blocks and returns as [`Self::send`].
    pub fn send_hints(self: &Arc<Self>, fields: Fields) -> Result<bool, Gone> {
        let room = {
            let mut outbox = self.outbox();
            if self.is_gone() {
                return Err(Gone);
            }
            debug_assert!(outbox.delivery.head.is_none(), "an interim response behind the head");
            let room = outbox.hold(fields.held());
            outbox.delivery.hints.push(fields);
            room
        };
        self.notify();
        Ok(room)
    }

    /// Returns memory of an earlier response, for the head of this one.
    pub fn memory(&self) -> Vec<u8> {
        mem::take(&mut self.outbox().memory)
    }

    /// Waits until the client's side has taken enough of what was sent. Call it without the GIL.
    pub fn wait_room(&self) -> Result<(), Gone> {
        let mut outbox = self.outbox();
        while outbox.is_full() && !self.is_gone() {
            outbox.waits = true;
            outbox = self.room.wait(outbox).unwrap_or_else(PoisonError::into_inner);
        }
        outbox.waits = false;
        if self.is_gone() { Err(Gone) } else { Ok(()) }
    }

    /// Whether the body streams. If so, [`Self::read_streamed`] reads it, once and in order.
    pub fn is_streamed(&self) -> bool {
        self.params.inbox.is_some()
    }

    /// Reads the available part of a streamed body. Never blocks. A body that does not stream has ended.
    pub fn read_streamed(self: &Arc<Self>, buffer: &mut [u8]) -> Result<Read, Broken> {
        let Some(inbox) = &self.params.inbox else { return Ok(Read::Bytes(0)) };
        let (read, room) = inbox.try_read(buffer)?;
        if room {
            self.notify();
        }
        Ok(read)
    }

    /// Takes the next bytes in memory that was lent for them: [`Inbox::take`].
    pub fn take_streamed(self: &Arc<Self>, length: usize, once: bool) -> Taken {
        let Some(inbox) = &self.params.inbox else { return Taken::Other };
        let (taken, room) = inbox.take(length, once);
        if room {
            self.notify();
        }
        taken
    }

    /// Lends memory, created by `room`, for reads of `size` bytes from byte `origin`, if the inbox expects to use it.
    pub fn lend_streamed(&self, size: usize, origin: u64, mut room: impl FnMut() -> Option<Box<dyn Room>>) {
        let Some(inbox) = &self.params.inbox else { return };
        for _ in 0..inbox.expect(size, origin) {
            let Some(room) = room() else { return };
            inbox.lend(room);
        }
    }

    /// Waits until [`Self::read_streamed`] has `wanted` bytes, or as many as can be waited for. Call it without the GIL.
    pub fn wait_streamed(&self, wanted: usize) {
        if let Some(inbox) = &self.params.inbox {
            inbox.wait(wanted);
        }
    }

    /// Sends the end. Logs a failure itself if the client is gone.
    pub fn end(self: &Arc<Self>, end: End) {
        let failure = match &end {
            End::Failed(failure) => Some((failure.level, failure.record.clone())),
            End::Complete => None,
        };
        if let (Err(Gone), Some((level, record))) = (self.send(None, None, Some(end)), failure) {
            log::write(level, self.origin(), (record + &self.context()).as_bytes());
        }
    }
}
