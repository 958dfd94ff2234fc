//! A request body that streams: the event loop fills it, the thread that reads `wsgi.input` empties it.

use std::cmp;
use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Why a streamed body has no more bytes to come, though it has not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The client left, or sent what is no body.
    ClientGone,
    /// The client was silent for client_body_timeout.
    TimedOut,
}

/// How much memory [`Inbox::spare`] gives, in bytes.
pub const PIECE: usize = 64 << 10;

/// How many pieces of memory are kept to be used again.
const SPARE: usize = 4;

#[derive(Debug, Default)]
struct State {
    pieces: VecDeque<Vec<u8>>,
    /// How much is in `pieces`, in bytes.
    waiting: usize,
    over: Option<Result<(), Broken>>,
    /// The event loop has stopped reading from the client, for lack of room.
    paused: bool,
    /// A thread waits until so many bytes wait; 0: none does.
    awaited: usize,
    /// Memory of pieces that have been read.
    spare: Vec<Vec<u8>>,
}

impl State {
    /// Whether there is a thread that has waited for what there is now.
    fn is_met(&self) -> bool {
        self.awaited > 0 && (self.waiting >= self.awaited || self.over.is_some())
    }
}

/// The piece that is being read.
#[derive(Debug, Default)]
struct Front {
    piece: Vec<u8>,
    /// How much of it has been read, in bytes.
    taken: usize,
}

impl Front {
    /// Copies as much as it has and fits; returns how much that is, in bytes.
    fn copy_to(&mut self, buffer: &mut [u8]) -> usize {
        let rest = &self.piece[self.taken..];
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
    limit: usize,
}

/// What a read gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// So many bytes; 0: the body has ended.
    Bytes(usize),
    /// Nothing yet.
    Pending,
}

impl Inbox {
    /// An inbox that asks for more while less than `limit` bytes wait in it.
    pub fn new(limit: usize) -> Self {
        Self { state: Mutex::default(), front: Mutex::default(), arrived: Condvar::new(), limit }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Empty memory for [`PIECE`] bytes, to be filled and fed; for none, where none is left.
    pub fn spare(&self) -> Vec<u8> {
        let spare = self.state().spare.pop();
        spare.unwrap_or_else(|| {
            let mut new = Vec::new();
            let _ = new.try_reserve_exact(PIECE);
            new
        })
    }

    /// Adds what the client has sent. False: enough waits, read no more until [`Self::resume`] says so.
    ///
    /// Who waits is woken when the inbox is half full, or by [`Self::flush`]: not for each of several pieces.
    pub fn feed(&self, piece: Vec<u8>) -> bool {
        let mut state = self.state();
        if !piece.is_empty() {
            state.waiting += piece.len();
            state.pieces.push_back(piece);
        }
        state.paused = state.waiting >= self.limit;
        let (paused, met) = (state.paused, state.is_met() && state.waiting >= self.limit / 2);
        self.tell(state, met);
        !paused
    }

    /// The client has sent no more than has been fed: whoever waits for that much, is woken.
    pub fn flush(&self) {
        let state = self.state();
        let met = state.is_met();
        self.tell(state, met);
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
        let resumed = state.paused && state.waiting < self.limit && state.over.is_none();
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
        let mut front = self.front.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut count, mut room) = (front.copy_to(buffer), false);
        while count < buffer.len() {
            let mut state = self.state();
            let Some(piece) = state.pieces.pop_front() else {
                return match state.over {
                    _ if count > 0 => Ok((Read::Bytes(count), room)),
                    Some(Ok(())) => Ok((Read::Bytes(0), false)),
                    Some(Err(broken)) => Err(broken),
                    None => Ok((Read::Pending, false)),
                };
            };
            state.waiting -= piece.len();
            // Half empty, so that the two sides do not wake each other for every piece.
            room = state.paused && state.waiting <= self.limit / 2;
            let mut read = std::mem::replace(&mut front.piece, piece);
            front.taken = 0;
            if read.capacity() >= PIECE && state.spare.len() < SPARE {
                read.clear();
                state.spare.push(read);
            }
            drop(state);
            count += front.copy_to(&mut buffer[count..]);
        }
        Ok((Read::Bytes(count), room))
    }

    /// Waits until there are `wanted` bytes, half a full inbox, or no more to come; a read then gives something else than
    /// [`Read::Pending`]. Call it without the GIL.
    pub fn wait(&self, wanted: usize) {
        let enough = wanted.min(self.limit / 2).max(1);
        let (mut state, mut waited) = (self.state(), false);
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn bytes_come_out_in_order_and_room_is_told_of() {
        let inbox = Inbox::new(4);
        assert!(inbox.feed(b"ab".to_vec()));
        assert!(!inbox.feed(b"cdef".to_vec()), "full");
        assert!(!inbox.resume());
        let mut buffer = [0; 3];
        assert_eq!(inbox.try_read(&mut buffer[..1]), Ok((Read::Bytes(1), false)));
        assert_eq!(inbox.try_read(&mut buffer), Ok((Read::Bytes(3), true)), "none but the piece that is read");
        assert_eq!(&buffer, b"bcd");
        assert_eq!(inbox.try_read(&mut buffer[..1]), Ok((Read::Bytes(1), false)));
        assert_eq!(&buffer[..1], b"e");
        assert!(inbox.resume() && !inbox.resume());
        inbox.close(Ok(()));
        assert_eq!(inbox.try_read(&mut buffer), Ok((Read::Bytes(1), false)));
        assert_eq!(inbox.try_read(&mut buffer), Ok((Read::Bytes(0), false)));
    }

    #[test]
    fn what_came_before_the_break_is_still_read() {
        let inbox = Inbox::new(4);
        inbox.feed(b"ab".to_vec());
        inbox.close(Err(Broken::ClientGone));
        inbox.close(Ok(()));
        let mut buffer = [0; 8];
        assert_eq!(inbox.try_read(&mut buffer), Ok((Read::Bytes(2), false)));
        assert_eq!(inbox.try_read(&mut buffer), Err(Broken::ClientGone));
    }

    #[test]
    fn a_reader_waits_for_bytes_and_for_the_end() {
        let inbox = Arc::new(Inbox::new(4));
        assert_eq!(inbox.try_read(&mut [0; 1]), Ok((Read::Pending, false)));
        let reader = Arc::clone(&inbox);
        let thread = std::thread::spawn(move || {
            let mut all = Vec::new();
            loop {
                let mut buffer = [0; 2];
                match reader.try_read(&mut buffer).unwrap().0 {
                    Read::Pending => reader.wait(1),
                    Read::Bytes(0) => return all,
                    Read::Bytes(count) => all.extend_from_slice(&buffer[..count]),
                }
            }
        });
        while !inbox.is_awaited() {
            std::thread::yield_now();
        }
        for piece in [&b"abc"[..], b"", b"defgh"] {
            inbox.feed(piece.to_vec());
        }
        inbox.close(Ok(()));
        assert_eq!(thread.join().unwrap(), b"abcdefgh");
        assert!(!inbox.is_awaited());
    }

    #[test]
    fn a_reader_that_need_not_wait_makes_nobody_forgotten() {
        let inbox = Arc::new(Inbox::new(12));
        inbox.feed(b"ab".to_vec());
        let reader = Arc::clone(&inbox);
        let thread = std::thread::spawn(move || reader.wait(6));
        while !inbox.is_awaited() {
            std::thread::yield_now();
        }
        inbox.wait(1);
        inbox.feed(b"cdef".to_vec());
        thread.join().unwrap();
    }

    #[test]
    fn who_waits_is_woken_for_several_pieces_at_once() {
        let inbox = Arc::new(Inbox::new(12));
        for half_full in [true, false] {
            let reader = Arc::clone(&inbox);
            let thread = std::thread::spawn(move || {
                reader.wait(2);
                reader.try_read(&mut [0; 12]).unwrap().0
            });
            while !inbox.is_awaited() {
                std::thread::yield_now();
            }
            inbox.feed(b"abc".to_vec());
            assert!(inbox.is_awaited() && !thread.is_finished());
            if half_full {
                inbox.feed(b"def".to_vec());
            } else {
                inbox.flush();
            }
            assert_eq!(thread.join().unwrap(), Read::Bytes(if half_full { 6 } else { 3 }));
        }
    }

    #[test]
    fn memory_is_used_again() {
        let inbox = Inbox::new(PIECE);
        let mut piece = inbox.spare();
        assert!(piece.is_empty() && piece.capacity() >= PIECE);
        let memory = piece.as_ptr();
        piece.extend_from_slice(b"ab");
        inbox.feed(piece);
        inbox.feed(b"c".to_vec()); // an exact one, which is not worth keeping
        assert_eq!(inbox.try_read(&mut [0; 3]), Ok((Read::Bytes(3), false)));
        let again = inbox.spare();
        assert!(again.is_empty() && again.as_ptr() == memory);
        inbox.feed(b"d".to_vec());
        inbox.try_read(&mut [0; 3]).unwrap();
        assert!(inbox.state().spare.is_empty());
    }

    #[test]
    fn who_waits_for_much_is_not_woken_for_little() {
        for (wanted, end) in [(6, None), (1000, None), (6, Some(Ok(()))), (6, Some(Err(Broken::ClientGone)))] {
            let inbox = Arc::new(Inbox::new(12));
            let reader = Arc::clone(&inbox);
            let thread = std::thread::spawn(move || {
                reader.wait(wanted);
                reader.try_read(&mut [0; 12]).unwrap().0
            });
            while !inbox.is_awaited() {
                std::thread::yield_now();
            }
            inbox.feed(b"abcde".to_vec());
            inbox.flush();
            assert!(inbox.is_awaited() && !inbox.state().is_met());
            match end {
                Some(end) => inbox.close(end),
                None => assert!(inbox.feed(b"f".to_vec())),
            }
            assert_eq!(thread.join().unwrap(), Read::Bytes(if end.is_some() { 5 } else { 6 }), "{wanted}");
        }
    }
}
