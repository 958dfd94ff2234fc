//! A piece of a streamed body, and the memory that it is received into.

use std::any::Any;
use std::{cmp, fmt, slice};

/// Memory of the reader's that a piece is received into; the reader gets it back with the piece in it.
///
/// # Safety
/// As long as it lives, and wherever it is moved, the memory stays where it is, may be written, and is nobody else's to
/// look at.
pub unsafe trait Room: Send {
    /// Where the memory begins, and how long it is, in bytes.
    fn memory(&self) -> (*mut u8, usize);
    /// What it is to the reader.
    fn into_any(self: Box<Self>) -> Box<dyn Any>;
}

/// Pieces are joined up to this size, in bytes.
const MOST_JOINED: usize = 4 << 10;

enum Memory {
    /// A vector's allocation; its length says nothing.
    Own(Vec<u8>),
    Lent(Box<dyn Room>),
}

/// Bytes of a body, and memory for more of them.
pub struct Piece {
    memory: Memory,
    /// How many bytes there is memory for.
    room: usize,
    length: usize,
}

impl fmt::Debug for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} bytes", self.length, self.room)
    }
}

impl Default for Piece {
    fn default() -> Self {
        Self::empty(Vec::new(), 0)
    }
}

impl From<Vec<u8>> for Piece {
    fn from(bytes: Vec<u8>) -> Self {
        Self { room: bytes.len(), length: bytes.len(), memory: Memory::Own(bytes) }
    }
}

impl Piece {
    /// No bytes yet, and memory for at most so many.
    pub fn empty(memory: Vec<u8>, most: usize) -> Self {
        Self { room: cmp::min(memory.capacity(), most), length: 0, memory: Memory::Own(memory) }
    }

    /// No bytes yet, and memory of the reader's.
    pub fn lent(room: Box<dyn Room>) -> Self {
        Self { room: room.memory().1, length: 0, memory: Memory::Lent(room) }
    }

    /// Where the memory begins. It stays where it is when this is moved.
    pub fn start(&mut self) -> *mut u8 {
        match &mut self.memory {
            Memory::Own(memory) => memory.as_mut_ptr(),
            Memory::Lent(room) => room.memory().0,
        }
    }

    /// How many bytes there is memory for.
    pub fn room(&self) -> usize {
        self.room
    }

    /// How many bytes there are.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        let start = match &self.memory {
            Memory::Own(memory) => memory.as_ptr(),
            Memory::Lent(room) => room.memory().0.cast_const(),
        };
        // SAFETY: so many bytes of the memory have been written.
        unsafe { slice::from_raw_parts(start, self.length) }
    }

    /// Counts bytes that have been written behind those there are.
    ///
    /// # Safety
    /// So many have been written, and there is memory for them.
    pub unsafe fn grow(&mut self, count: usize) {
        debug_assert!(count <= self.room - self.length);
        self.length += count;
    }

    /// Copies `next` behind its own bytes, if both are small and copies already. False: it does not.
    pub fn absorb(&mut self, next: &Piece) -> bool {
        match (&mut self.memory, &next.memory) {
            (Memory::Own(bytes), Memory::Own(_))
                if bytes.len() == self.length && self.length + next.length <= MOST_JOINED =>
            {
                bytes.extend_from_slice(next.bytes());
                (self.length, self.room) = (bytes.len(), bytes.len());
                true
            }
            _ => false,
        }
    }

    /// Forgets the bytes.
    pub fn clear(&mut self) {
        self.length = 0;
    }

    /// Whether half of its memory has bytes in it.
    pub fn is_worth_its_memory(&self) -> bool {
        let all = match &self.memory {
            Memory::Own(memory) => memory.capacity(),
            Memory::Lent(room) => room.memory().1,
        };
        self.length >= all / 2
    }

    /// Whether its memory is the reader's.
    pub fn is_lent(&self) -> bool {
        matches!(self.memory, Memory::Lent(_))
    }

    /// The memory that it was made with.
    pub fn into_memory(self) -> Result<Vec<u8>, Box<dyn Room>> {
        match self.memory {
            Memory::Own(memory) => Ok(memory),
            Memory::Lent(room) => Err(room),
        }
    }
}
