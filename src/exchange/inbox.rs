//! A request body that streams: the event loop fills it, the thread that reads `wsgi.input` empties it.
//!
//! A reader that asks for the same size again and again lends memory of that size, so that what it will ask for next is
//! received where it is wanted. One thread reads at a time.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::{cmp, fmt};

use super::piece::{Piece, Room};

/// Why a streamed body has no more bytes to come, though it has not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The client left, or sent what is no body.
    ClientGone,
    /// The client was silent for client_body_timeout.
    TimedOut,
}

/// How much memory [`Inbox::spare`] gives, in bytes, where none is lent.
pub const PIECE: usize = 64 << 10;

/// How many pieces of memory are kept to be used again.
const SPARE: usize = 4;

/// How many pieces of lent memory may wait, however much may.
const MOST_LENT: usize = 16;

/// So many times the limit may wait when the client sends, and the reader reads, as fast as the other.
const FAST: usize = 4;

#[derive(Debug, Default)]
struct State {
    pieces: VecDeque<Piece>,
    /// How much is in `pieces`, in bytes.
    waiting: usize,
    /// How much has been fed, in bytes.
    fed: u64,
    /// How much may wait before the event loop stops reading, in bytes.
    limit: usize,
    /// The limit is that for fast clients.
    is_wide: bool,
    over: Option<Result<(), Broken>>,
    /// The event loop has stopped reading from the client, for lack of room.
    paused: bool,
    /// A thread waits until so many bytes wait; 0: none does.
    awaited: usize,
    /// Memory of pieces that have been read.
    spare: Vec<Vec<u8>>,
    loan: Loan,
}

/// What the reader has lent.
#[derive(Default)]
struct Loan {
    /// The size of its reads, in bytes; 0: it has lent nothing.
    size: usize,
    /// The size of the last one, which will be that of the next if it comes twice in a row.
    last: usize,
    /// Where in the body one of them begins.
    origin: u64,
    /// Memory of that size that is not in use.
    rooms: Vec<Box<dyn Room>>,
    /// How many there are, in use or not, of whatever size.
    count: usize,
}

impl fmt::Debug for Loan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} times {} bytes, {} not in use", self.count, self.size, self.rooms.len())
    }
}

impl State {
    /// Whether there is a thread that has waited for what there is now.
    fn is_met(&self) -> bool {
        self.awaited > 0 && (self.waiting >= self.awaited || self.over.is_some())
    }

    /// Takes the next piece. The second value: the event loop should be told that there is room again.
    fn pop(&mut self) -> Option<(Piece, bool)> {
        let piece = self.pieces.pop_front()?;
        self.waiting -= piece.len();
        self.loan.count -= usize::from(piece.is_lent());
        // Half empty, so that the two sides do not wake each other for every piece.
        Some((piece, self.paused && self.waiting <= self.limit / 2))
    }

    /// Keeps memory to be used again.
    fn keep(&mut self, memory: Vec<u8>) {
        if memory.capacity() >= PIECE && self.spare.len() < SPARE {
            self.spare.push(memory);
        }
    }
}

/// The piece that is being read.
#[derive(Debug, Default)]
struct Front {
    piece: Piece,
    /// How much of it has been read, in bytes.
    taken: usize,
}

impl Front {
    /// Copies as much as it has and fits; returns how much that is, in bytes.
    fn copy_to(&mut self, buffer: &mut [u8]) -> usize {
        let rest = &self.piece.bytes()[self.taken..];
        let count = cmp::min(rest.len(), buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.taken += count;
        count
    }
}

/// The part of a streamed body that has come and has not been read.
#[derive(Debug)]
pub struct Inbox {
    state: Mutex<State>,
    /// The reader's alone: so that the event loop never waits for a copy. It is locked before the state.
    front: Mutex<Front>,
    arrived: Condvar,
}

/// What a read gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// So many bytes; 0: the body has ended.
    Bytes(usize),
    /// Nothing yet.
    Pending,
}

/// What [`Inbox::take`] gave.
#[derive(Debug)]
pub enum Taken {
    /// All of it, in lent memory.
    Whole(Piece),
    /// Nothing yet.
    Pending,
    /// What is next has to be read with [`Inbox::try_read`].
    Other,
}

impl Inbox {
    /// An inbox that asks for more while less than `limit` bytes wait in it.
    pub fn new(limit: usize) -> Self {
        let state = Mutex::new(State { limit, ..State::default() });
        Self { state, front: Mutex::default(), arrived: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn front(&self) -> MutexGuard<'_, Front> {
        self.front.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Memory for what comes when `ahead` bytes more have been fed: lent, if a read may begin there, else up to where one
    /// may. An empty piece without any, where none is left.
    pub fn spare(&self, ahead: usize) -> Piece {
        let mut state = self.state();
        let at = state.fed + ahead as u64;
        let loan = &mut state.loan;
        let gap = match loan.size {
            0 => PIECE,
            size => size - (at.saturating_sub(loan.origin) % size as u64) as usize,
        };
        if gap == loan.size {
            if let Some(room) = loan.rooms.pop() {
                return Piece::lent(room);
            }
        }
        let spare = state.spare.pop();
        let memory = spare.unwrap_or_else(|| {
            let mut new = Vec::new();
            let _ = new.try_reserve_exact(PIECE);
            new
        });
        Piece::empty(memory, cmp::min(gap, PIECE))
    }

    /// Takes memory back that [`Self::spare`] gave.
    pub fn give_back(&self, unused: Piece) {
        let mut state = self.state();
        let unwanted = match unused.into_memory() {
            Ok(memory) => return state.keep(memory),
            Err(room) if room.memory().1 == state.loan.size => return state.loan.rooms.push(room),
            Err(room) => room,
        };
        state.loan.count -= 1;
        drop(state);
        drop(unwanted);
    }

    #[cfg(test)]
    pub(super) fn pieces(&self) -> usize {
        self.state().pieces.len()
    }

    /// Adds what the client has sent: no more of it is wanted while [`Self::is_paused`].
    ///
    /// Who waits is woken when the inbox is half full, or by [`Self::flush`]: not for each of several pieces.
    pub fn feed(&self, piece: impl Into<Piece>) {
        let (mut state, piece) = (self.state(), piece.into());
        if !piece.is_empty() {
            state.waiting += piece.len();
            state.fed += piece.len() as u64;
            // Else a client that sends byte by byte fills it with what each piece costs.
            if !state.pieces.back_mut().is_some_and(|last| last.absorb(&piece)) {
                state.pieces.push_back(piece);
            }
        }
        let met = state.is_met() && state.waiting >= state.limit / 2;
        if met && !state.is_wide {
            // Both sides are fast.
            state.is_wide = true;
            state.limit *= FAST;
        }
        state.paused = state.waiting >= state.limit;
        self.tell(state, met);
    }

    /// The client has sent no more than has been fed: whoever waits for that much, is woken.
    pub fn flush(&self) {
        let state = self.state();
        let met = state.is_met();
        self.tell(state, met);
    }

    /// Whether a thread waits for more than there would be with `more` bytes.
    pub fn is_short_of(&self, more: usize) -> bool {
        let state = self.state();
        state.waiting + more < state.awaited
    }

    /// Wakes who waits, if that is `met`; not before the lock is free, which is what they would want next.
    fn tell(&self, state: MutexGuard<'_, State>, met: bool) {
        drop(state);
        if met {
            self.arrived.notify_all();
        }
    }

    /// Nothing more comes: the body is whole, or broken.
    pub fn close(&self, how: Result<(), Broken>) {
        let mut state = self.state();
        state.over.get_or_insert(how);
        let met = state.is_met();
        self.tell(state, met);
    }

    /// Whether the event loop stopped reading and may go on; it then counts as reading again.
    pub fn resume(&self) -> bool {
        let mut state = self.state();
        let resumed = state.paused && state.waiting < state.limit && state.over.is_none();
        if resumed {
            state.paused = false;
        }
        resumed
    }

    /// Whether the event loop has stopped reading.
    pub fn is_paused(&self) -> bool {
        self.state().paused
    }

    /// Whether a thread waits for the client to send more.
    pub fn is_awaited(&self) -> bool {
        self.state().awaited > 0
    }

    /// Reads what is there. The second value: the event loop should be told that there is room again.
    pub fn try_read(&self, buffer: &mut [u8]) -> Result<(Read, bool), Broken> {
        let mut front = self.front();
        let (mut count, mut room) = (front.copy_to(buffer), false);
        while count < buffer.len() {
            let mut state = self.state();
            let Some((piece, has_room)) = state.pop() else {
                return match state.over {
                    _ if count > 0 => Ok((Read::Bytes(count), room)),
                    Some(Ok(())) => Ok((Read::Bytes(0), false)),
                    Some(Err(broken)) => Err(broken),
                    None => Ok((Read::Pending, false)),
                };
            };
            room = has_room;
            let read = std::mem::replace(&mut *front, Front { piece, taken: 0 }).piece.into_memory();
            let read = read.map(|memory| state.keep(memory));
            drop(state);
            drop(read); // not under the lock: it may be lent memory
            count += front.copy_to(&mut buffer[count..]);
        }
        Ok((Read::Bytes(count), room))
    }

    /// Takes the next `length` bytes (with `once`, or at the body's end: the next ones, up to so many) in the memory that
    /// was lent for them, if they are in such. The second value is that of [`Self::try_read`].
    pub fn take(&self, length: usize, once: bool) -> (Taken, bool) {
        let front = self.front();
        if front.taken < front.piece.len() {
            return (Taken::Other, false);
        }
        let mut state = self.state();
        let is_last = state.pieces.len() == 1 && state.over == Some(Ok(()));
        match state.pieces.front() {
            None if state.over.is_none() => return (Taken::Pending, false),
            Some(next) if next.room() == length && (next.len() == length || once || is_last) && next.is_lent() => {}
            _ => return (Taken::Other, false),
        }
        state.pop().map_or((Taken::Other, false), |(piece, room)| (Taken::Whole(piece), room))
    }

    /// There is a read of `size` bytes, and another one may begin at byte `origin`. Returns how many pieces of memory of that
    /// size [`Self::lend`] should be called with: none before the second read of that size in a row.
    pub fn expect(&self, size: usize, origin: u64) -> usize {
        let mut state = self.state();
        if size == 0 || size > state.limit / 2 {
            return 0;
        }
        let limit = state.limit;
        let loan = &mut state.loan;
        if loan.size != size && loan.last != size {
            loan.last = size;
            return 0;
        }
        loan.last = size;
        loan.origin = origin;
        let outdated = if loan.size == size { Vec::new() } else { std::mem::take(&mut loan.rooms) };
        loan.size = size;
        loan.count -= outdated.len();
        // A full inbox, and one that is received into.
        let wanted = (cmp::min(limit / size, MOST_LENT) + 1).saturating_sub(loan.count);
        drop(state);
        drop(outdated);
        wanted
    }

    /// Lends memory of the size that was said to be expected.
    pub fn lend(&self, room: Box<dyn Room>) {
        let mut state = self.state();
        if room.memory().1 == state.loan.size {
            state.loan.rooms.push(room);
            state.loan.count += 1;
        }
    }

    /// Waits until there are `wanted` bytes, half a full inbox, or no more to come; a read then gives something else than
    /// [`Read::Pending`]. Call it without the GIL.
    pub fn wait(&self, wanted: usize) {
        let (mut state, mut waited) = (self.state(), false);
        let enough = wanted.min(state.limit / 2).max(1);
        while state.waiting < enough && state.over.is_none() {
            // Others may wait for less.
            state.awaited = if state.awaited == 0 { enough } else { enough.min(state.awaited) };
            waited = true;
            state = self.arrived.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if waited {
            state.awaited = 0; // all have been woken; who has to wait on says so again
        }
    }
}
