//! What of a response body nginx has not been given yet: small pieces are joined, large ones cut, and what a slow client
//! leaves is moved to a temporary file.

use std::cell::Cell;
use std::collections::VecDeque;
use std::io::IoSlice;
use std::ops::Range;
use std::rc::Rc;

use nginx_sys::*;
use smallvec::SmallVec;

use super::conf::LocConf;
use super::log;
use super::spool::Spool;
use crate::exchange::now;
use crate::exchange::response::{COST, Chunk, Part};

/// How many bytes of memory nginx is given at once, of a response that may go to disk. What nginx has been given stays in
/// memory until the client has taken it, so this much of a response does, however slow the client is. Only [`Pinned`] memory
/// may be more.
pub(super) const AT_ONCE: u64 = 64 << 10;

/// Largest number of bytes of one response that go to disk in one turn of the event loop.
const SPOOLED_AT_ONCE: u64 = 512 << 10;

/// How many bytes may be [`Pinned`] in this process.
const MOST_PINNED: u64 = 16 << 20;

/// Number of bytes in the backlogs of this process from which on the event loop no longer rests between two moves to disk.
const MOST_HELD: u64 = 16 << 20;

thread_local! {
    /// How many bytes are pinned; of the event loop.
    static PINNED: Cell<u64> = const { Cell::new(0) };
    /// How many bytes are in backlogs; of the event loop.
    static HELD: Cell<u64> = const { Cell::new(0) };
    /// When bytes may be moved to disk again; [`now`]'s microseconds.
    static NEXT_STEP: Cell<u64> = const { Cell::new(0) };
    /// How many responses have been put off since bytes were moved last.
    static PUT_OFF: Cell<u64> = const { Cell::new(0) };
}

/// Returns `None` if bytes may be moved to disk now, else the number of microseconds after which to ask again. The event loop
/// spends at most half of its time on that, since it has other clients; more only as backlogs approach [`MOST_HELD`].
pub(super) fn spool_after() -> Option<u64> {
    if now() >= NEXT_STEP.get() {
        return None;
    }
    // The more of them ask, the later each comes again: to ask costs time, too.
    PUT_OFF.set(PUT_OFF.get() + 1);
    Some(PUT_OFF.get() / 4 * 1_000)
}

/// Notes that bytes have been moved to disk since `began`.
fn note_step(began: u64) {
    let end = now();
    NEXT_STEP.set(end + rest_after(end - began, HELD.get()));
    PUT_OFF.set(0);
}

/// How long the next step has to wait after one that took `step`, with `held` bytes in backlogs.
fn rest_after(step: u64, held: u64) -> u64 {
    step.saturating_mul(MOST_HELD.saturating_sub(held)) / MOST_HELD
}

/// How much of the application's window is in a backlog, in bytes.
#[derive(Default)]
struct Held(u64);

impl Held {
    fn add(&mut self, bytes: u64) {
        self.0 += bytes;
        HELD.set(HELD.get() + bytes);
    }

    fn sub(&mut self, bytes: u64) {
        self.0 -= bytes;
        HELD.set(HELD.get() - bytes);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.sub(self.0);
    }
}

/// Memory that stays as long as a slow client pleases. It saves copies and system calls, so fast clients' responses have it as
/// long as there are few slow ones.
pub(super) struct Pinned(u64);

impl Pinned {
    /// Counts that many bytes as pinned. `None`: too many are already.
    pub(super) fn new(bytes: u64) -> Option<Self> {
        let all = PINNED.get() + bytes;
        (all <= MOST_PINNED).then(|| {
            PINNED.set(all);
            Self(bytes)
        })
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        PINNED.set(PINNED.get() - self.0);
    }
}

/// A piece of the body.
pub(super) struct Piece {
    pub(super) body: Body,
    /// How much of the application's window it takes, in bytes.
    pub(super) held: u64,
}

/// Where the bytes of a piece are.
pub(super) enum Body {
    /// As the application sent it.
    Part(Part),
    /// Some of a chunk.
    Slice(Rc<Large>, Range<usize>),
    /// A range of the spool, in bytes.
    Spooled { offset: u64, length: u64 },
}

/// A chunk that is cut. If it is not pinned, parts of it are copied for nginx.
pub(super) struct Large {
    chunk: Chunk,
    pinned: Option<Pinned>,
}

impl Large {
    fn new(chunk: Chunk) -> Rc<Self> {
        let pinned = Pinned::new(chunk.bytes().len() as u64);
        Rc::new(Self { chunk, pinned })
    }
}

impl Piece {
    pub(super) fn new(part: Part) -> Self {
        Self { held: part.held(), body: Body::Part(part) }
    }

    /// The bytes, if they are in memory.
    pub(super) fn bytes(&self) -> Option<&[u8]> {
        match &self.body {
            Body::Part(Part::Chunk(chunk)) => Some(chunk.bytes()),
            Body::Slice(large, range) => Some(&large.chunk.bytes()[range.clone()]),
            Body::Part(Part::File { .. }) | Body::Spooled { .. } => None,
        }
    }

    /// How many bytes of it are in memory.
    fn in_memory(&self) -> u64 {
        self.bytes().map_or(0, |bytes| bytes.len() as u64)
    }

    /// The first `length` bytes, and the rest if there is one; all of what is not in memory.
    fn cut(self, length: u64) -> (Self, Option<Self>) {
        if self.in_memory() <= length {
            return (self, None);
        }
        let (large, Range { start, end }) = match self.body {
            Body::Part(Part::Chunk(chunk)) => {
                let whole = 0..chunk.bytes().len();
                (Large::new(chunk), whole)
            }
            Body::Slice(large, range) => (large, range),
            _ => return (self, None),
        };
        let middle = start + length as usize;
        let first = Self { body: Body::Slice(Rc::clone(&large), start..middle), held: length };
        (first, Some(Self { body: Body::Slice(large, middle..end), held: self.held - length }))
    }

    /// It as nginx may have it, who may keep it for long: a copy, if it would keep too much in memory.
    fn for_nginx(self) -> Self {
        match &self.body {
            Body::Slice(large, range) if large.pinned.is_none() => {
                let copy = Chunk::Owned(large.chunk.bytes()[range.clone()].to_vec());
                Self { body: Body::Part(Part::Chunk(copy)), held: self.held }
            }
            _ => self,
        }
    }
}

/// Pieces in order, and the temporary file that takes them when they become many.
#[derive(Default)]
pub(super) struct Backlog {
    pieces: VecDeque<Piece>,
    /// How much of the window they take.
    held: Held,
    spool: Option<Spool>,
    /// There can be no spool, or its disk is full: the thread waits from then on.
    spool_failed: bool,
}

impl Backlog {
    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// How much of the window it takes, in bytes.
    pub(super) fn held(&self) -> u64 {
        self.held.0
    }

    /// The file that pieces may be in.
    pub(super) fn file(&self) -> Option<*mut ngx_file_t> {
        self.spool.as_ref().map(Spool::file)
    }

    /// Whether there is a spool, and it has taken something.
    pub(super) fn is_on_disk(&self) -> bool {
        self.spool.is_some()
    }

    /// Adds a part; returns how much of the window it does not take after all, in bytes.
    pub(super) fn add(&mut self, part: Part) -> u64 {
        if part.length() == 0 {
            return part.held();
        }
        if let Some(Piece { body: Body::Part(last), held }) = self.pieces.back_mut() {
            if last.absorb(&part) {
                *held += part.length();
                self.held.add(part.length());
                return COST;
            }
        }
        let piece = Piece::new(part);
        self.held.add(piece.held);
        self.pieces.push_back(piece);
        0
    }

    /// Takes the first pieces, of about `most` bytes in memory; with `at_once`, of no more than that.
    pub(super) fn take(&mut self, most: u64, at_once: Option<u64>) -> SmallVec<[Piece; 1]> {
        let (mut taken, mut in_memory) = (SmallVec::new(), 0);
        while in_memory < most {
            let Some(mut piece) = self.pieces.pop_front() else { break };
            if let Some(at_once) = at_once {
                if in_memory > 0 && in_memory + piece.in_memory() > at_once {
                    self.pieces.push_front(piece);
                    break;
                }
                let (first, rest) = piece.cut(at_once);
                piece = first.for_nginx();
                if let Some(rest) = rest {
                    self.pieces.push_front(rest);
                }
            }
            in_memory += piece.in_memory();
            self.held.sub(piece.held);
            taken.push(piece);
        }
        taken
    }

    /// Takes all of them.
    pub(super) fn take_all(&mut self) -> SmallVec<[Piece; 1]> {
        self.held.sub(self.held.0);
        self.pieces.drain(..).collect()
    }

    /// How much more the spool may take, in bytes.
    pub(super) fn room(&self, location: &LocConf) -> u64 {
        let so_far = self.spool.as_ref().map_or(0, Spool::length);
        if self.spool_failed { 0 } else { (location.max_temp_file_size as u64).saturating_sub(so_far) }
    }

    /// Moves memory to the spool, as much as that may take and is to be done in one turn; returns how much of the window it
    /// took, in bytes.
    ///
    /// # Safety
    /// `r` must be the live request that this belongs to, and `location` its configuration.
    pub(super) unsafe fn spool(&mut self, r: *mut ngx_http_request_t, location: &LocConf) -> u64 {
        let began = now();
        let room = self.room(location).min(SPOOLED_AT_ONCE);
        let start = self.pieces.iter().position(|piece| piece.in_memory() > 0).unwrap_or(self.pieces.len());
        let mut rest = self.pieces.split_off(start);
        let (moved, length) = take_memory(&mut rest, room);
        // SAFETY: as the caller vouches.
        let freed = match unsafe { self.write(r, location, &moved) } {
            Some(offset) => {
                match self.pieces.back_mut() {
                    Some(Piece { body: Body::Spooled { offset: start, length: so_far }, .. })
                        if *start + *so_far == offset =>
                    {
                        *so_far += length;
                    }
                    _ => self.pieces.push_back(Piece { body: Body::Spooled { offset, length }, held: 0 }),
                }
                moved.iter().map(|piece| piece.held).sum()
            }
            None => {
                self.pieces.extend(moved);
                0
            }
        };
        self.pieces.append(&mut rest);
        self.held.sub(freed);
        note_step(began);
        freed
    }

    /// Writes pieces to the spool, together; returns where they begin there. `None`: there are none, or they cannot be written.
    ///
    /// # Safety
    /// As [`Self::spool`].
    unsafe fn write(&mut self, r: *mut ngx_http_request_t, location: &LocConf, pieces: &[Piece]) -> Option<u64> {
        if pieces.is_empty() {
            return None;
        }
        if self.spool.is_none() {
            // SAFETY: as the caller vouches.
            self.spool = unsafe { Spool::create(r, location.temp_path) };
            self.spool_failed = self.spool.is_none(); // nginx has said why
        }
        let mut slices: Vec<_> = pieces.iter().filter_map(Piece::bytes).map(IoSlice::new).collect();
        match self.spool.as_mut()?.append(&mut slices) {
            Ok(offset) => Some(offset),
            Err(error) => {
                log::write(NGX_LOG_CRIT, &format!("a response cannot be buffered on disk: {error}"));
                self.spool_failed = true;
                None
            }
        }
    }
}

/// Takes the first pieces that are in memory, of up to `most` bytes; says how many bytes they have.
fn take_memory(pieces: &mut VecDeque<Piece>, most: u64) -> (Vec<Piece>, u64) {
    let (mut taken, mut length) = (Vec::new(), 0);
    while length < most && pieces.front().is_some_and(|piece| piece.in_memory() > 0) {
        let Some(piece) = pieces.pop_front() else { break };
        let (first, rest) = piece.cut(most - length);
        length += first.in_memory();
        taken.push(first);
        if let Some(rest) = rest {
            pieces.push_front(rest);
        }
    }
    (taken, length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moving_to_disk_takes_half_of_the_time_and_all_of_it_when_much_waits() {
        assert_eq!(rest_after(1_000, 0), 1_000);
        assert_eq!(rest_after(1_000, MOST_HELD / 4), 750);
        assert_eq!(rest_after(1_000, MOST_HELD), 0);
        assert_eq!(rest_after(1_000, 2 * MOST_HELD), 0);
    }

    #[test]
    fn what_is_held_is_counted_until_it_is_taken_or_dropped() {
        let chunk = || Part::Chunk(Chunk::Owned(vec![0; 100_000]));
        let before = HELD.get();
        let mut backlog = Backlog::default();
        backlog.add(chunk());
        backlog.add(chunk());
        assert_eq!(HELD.get() - before, 2 * (100_000 + COST));
        let taken = backlog.take(60_000, Some(60_000));
        assert_eq!(HELD.get() - before, 2 * (100_000 + COST) - 60_000);
        drop((taken, backlog));
        assert_eq!(HELD.get(), before);
    }
}
