//! What has been sent and not been taken, and how much that may be.

use super::response::{End, Fields, Head, Part, Parts};

/// A window grows to so many times its size.
const WIDEST: u64 = 4;

/// What the event loop finds when it looks: everything sent since it last did, in order.
#[derive(Debug, Default)]
pub struct Delivery {
    /// Fields of interim responses (103), each by itself.
    pub hints: Vec<Fields>,
    /// Status and headers; once in a request.
    pub head: Option<Head>,
    /// Body parts.
    pub parts: Parts,
    /// How the call ended; nothing follows it.
    pub end: Option<End>,
}

impl Delivery {
    /// Whether nothing has been sent.
    pub fn is_empty(&self) -> bool {
        self.hints.is_empty() && self.head.is_none() && self.parts.is_empty() && self.end.is_none()
    }
}

#[derive(Debug, Default)]
pub(super) struct Outbox {
    pub(super) delivery: Delivery,
    /// Where the next head may be put.
    pub(super) memory: Vec<u8>,
    /// Bytes sent and not yet credited.
    held: u64,
    /// How many these may be; more, up to [`WIDEST`] times `narrow`, for a client that keeps up.
    window: u64,
    narrow: u64,
    /// A thread waits for room: only then is a wake-up worth its system call.
    pub(super) waits: bool,
    /// So many threads wait to be told that the request has been given up.
    pub(super) watchers: usize,
}

impl Outbox {
    /// Has room for `window` bytes.
    pub(super) fn start(&mut self, window: u64) {
        debug_assert!(self.delivery.is_empty());
        (self.held, self.window, self.narrow) = (0, window, window);
        (self.waits, self.watchers) = (false, 0);
    }

    /// How many bytes it has room for, full or not.
    pub(super) fn window(&self) -> u64 {
        self.window
    }

    /// Whether there is room for no more.
    pub(super) fn is_full(&self) -> bool {
        self.held >= self.window
    }

    /// Counts `bytes` that are sent; whether there is room for more.
    pub(super) fn hold(&mut self, bytes: u64) -> bool {
        self.held += bytes;
        !self.is_full()
    }

    /// Adds body parts; whether there is room for more. Small ones are joined: an application may give its response byte by
    /// byte.
    pub(super) fn add(&mut self, parts: Parts) -> bool {
        let all = &mut self.delivery.parts;
        if all.is_empty() {
            *all = parts;
            let held = all.iter().map(Part::held).sum();
            return self.hold(held);
        }
        for part in parts {
            if all.last_mut().is_some_and(|last| last.absorb(&part)) {
                self.held += part.length();
            } else {
                self.held += part.held();
                all.push(part);
            }
        }
        !self.is_full()
    }

    /// Counts `bytes` off, which the client may have taken. True: a thread waits for the room that there is now.
    pub(super) fn give_back(&mut self, bytes: u64, to_client: bool) -> bool {
        let was_full = self.is_full();
        if was_full && to_client && bytes >= self.narrow / 2 {
            self.window = self.window.saturating_mul(2).min(self.narrow.saturating_mul(WIDEST));
        }
        self.held = self.held.saturating_sub(bytes);
        was_full && !self.is_full() && self.waits
    }

    /// Has the window be what it was at first: the client does not keep up any more.
    pub(super) fn narrow(&mut self) {
        self.window = self.narrow;
    }
}
