//! The response as the application gives it.

use std::fmt;
use std::fs::File;

use smallvec::SmallVec;

use super::log::Level;

/// What a piece costs beside its bytes: its place in lists, its allocation, nginx's buffer for it. Windows count it.
pub const COST: u64 = 128;

/// Chunks are joined in one piece of memory up to this size, in bytes.
const MOST_JOINED: usize = 16 * 1024;

/// Status line and header fields, validated: nothing in here can split a response.
#[derive(Debug, Default)]
pub struct Head {
    /// The three-digit status code.
    pub status: u16,
    /// The status as the application spelt it: code, space, reason phrase.
    pub line: SmallVec<[u8; 24]>,
    /// Header fields in the application's order; bytes are latin-1.
    pub fields: Fields,
    /// The length of the body where all of it comes along with the head, in bytes.
    pub length: Option<u64>,
}

/// Header fields in one allocation: of each the two lengths (`usize`), then name and value, each with a NUL behind it for
/// those parts of nginx that read on to one. A small body may be behind them.
#[derive(Debug, Default)]
pub struct Fields {
    bytes: Vec<u8>,
    count: usize,
    body: usize,
}

/// A length as it stands before a field.
const LENGTH: usize = size_of::<usize>();

impl Fields {
    /// None yet, in this memory, which has room then for so many of the usual length, if they are not too many.
    pub fn with_room(mut memory: Vec<u8>, fields: usize) -> Self {
        memory.clear();
        memory.reserve(fields.min(64) * 64);
        Self { bytes: memory, count: 0, body: 0 }
    }

    /// Appends a field.
    pub fn push(&mut self, name: &[u8], value: &[u8]) {
        debug_assert_eq!(self.body, 0, "a field behind the body");
        self.bytes.reserve(2 * LENGTH + name.len() + value.len() + 2);
        self.bytes.extend_from_slice([name.len().to_ne_bytes(), value.len().to_ne_bytes()].as_flattened());
        for text in [name, value] {
            self.bytes.extend_from_slice(text);
            self.bytes.push(0);
        }
        self.count += 1;
    }

    /// Puts all of the body behind the fields, of which there will be no more.
    pub fn push_body(&mut self, body: &[u8]) {
        self.bytes.extend_from_slice(body);
        self.body += body.len();
    }

    /// The fields, (name, value).
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut rest = &self.bytes[..self.bytes.len() - self.body];
        std::iter::from_fn(move || {
            let (name, after) = rest.split_first_chunk::<LENGTH>()?;
            let (value, after) = after.split_first_chunk::<LENGTH>()?;
            let (name, after) = after.split_at_checked(usize::from_ne_bytes(*name))?;
            let (value, after) = after.split_first()?.1.split_at_checked(usize::from_ne_bytes(*value))?;
            rest = after.split_first()?.1;
            Some((name, value))
        })
    }

    /// The body behind the fields; empty where there is none.
    pub fn body(&self) -> &[u8] {
        &self.bytes[self.bytes.len() - self.body..]
    }

    /// The memory in which all of it is.
    pub fn into_memory(self) -> Vec<u8> {
        self.bytes
    }

    /// How much of a window they take, in bytes.
    pub fn held(&self) -> u64 {
        COST + self.bytes.len() as u64
    }

    /// The number of fields.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

/// Bytes that belong to somebody else and may be read from any thread until dropped.
pub trait Payload: Send {
    /// The bytes; always the same ones.
    fn bytes(&self) -> &[u8];
}

/// A piece of the response body. Never empty on its way to the client.
pub enum Chunk {
    /// Copied bytes.
    Owned(Vec<u8>),
    /// Bytes that stay where they are (a Python object kept alive) until this is dropped.
    Shared(Box<dyn Payload>),
}

impl Chunk {
    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Chunk::Owned(bytes) => bytes,
            Chunk::Shared(payload) => payload.bytes(),
        }
    }

    /// Copies `next` behind its own bytes, if both are small and copies already. False: it does not.
    fn absorb(&mut self, next: &Chunk) -> bool {
        match (self, next) {
            (Chunk::Owned(bytes), Chunk::Owned(more)) if bytes.len() + more.len() <= MOST_JOINED => {
                bytes.extend_from_slice(more);
                true
            }
            _ => false,
        }
    }
}

impl fmt::Debug for Chunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Chunk({} bytes)", self.bytes().len())
    }
}

/// Parts of a response body, in order. Most responses have one.
pub type Parts = SmallVec<[Part; 1]>;

/// One part of a response body, in order.
#[derive(Debug)]
pub enum Part {
    /// Bytes.
    Chunk(Chunk),
    /// A range of a file, to be sent by nginx's own file buffers.
    File {
        /// The module's own duplicate of the descriptor.
        file: File,
        /// Where the range begins, in bytes.
        offset: u64,
        /// How long it is, in bytes.
        length: u64,
        /// Tells that nginx has done with the file.
        done: OnDrop,
    },
}

/// Does something when it is dropped, on whichever thread that happens.
#[derive(Default)]
pub struct OnDrop(Option<Box<dyn FnOnce() + Send>>);

impl OnDrop {
    /// Has `action` done then.
    pub fn new(action: impl FnOnce() + Send + 'static) -> Self {
        Self(Some(Box::new(action)))
    }
}

impl Drop for OnDrop {
    fn drop(&mut self) {
        if let Some(action) = self.0.take() {
            action();
        }
    }
}

impl fmt::Debug for OnDrop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OnDrop").field(&self.0.is_some()).finish()
    }
}

impl Part {
    /// How much of a window the part takes until it has been sent, in bytes.
    pub fn held(&self) -> u64 {
        match self {
            Part::Chunk(chunk) => COST + chunk.bytes().len() as u64,
            Part::File { .. } => 0,
        }
    }

    /// Takes in what follows it, so that small chunks do not stay many. False: it does not, and `next` is a part by itself.
    pub fn absorb(&mut self, next: &Part) -> bool {
        match (self, next) {
            (Part::Chunk(chunk), Part::Chunk(next)) => chunk.absorb(next),
            _ => false,
        }
    }

    /// How much it adds to the body, in bytes.
    pub fn length(&self) -> u64 {
        match self {
            Part::Chunk(chunk) => chunk.bytes().len() as u64,
            Part::File { length, .. } => *length,
        }
    }
}

/// How a call ended.
#[derive(Debug)]
pub enum End {
    /// The body is complete.
    Complete,
    /// It is not: an error response if the head has not gone out, else a truncated one.
    Failed(Failure),
}

/// Why a call gave no (whole) response.
#[derive(Debug)]
pub struct Failure {
    /// The status for a client that has not seen the head yet.
    pub status: u16,
    /// Level of the log record.
    pub level: Level,
    /// What the error log gets, often a traceback of many lines. Empty: nothing.
    pub record: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_keep_order_and_repeats() {
        let mut fields = Fields::default();
        fields.push(b"Set-Cookie", b"a=1");
        fields.push(b"X", b"");
        fields.push(b"Set-Cookie", b"b=2");
        let all: Vec<_> = fields.iter().collect();
        assert_eq!(all, [(&b"Set-Cookie"[..], &b"a=1"[..]), (b"X", b""), (b"Set-Cookie", b"b=2")]);
        assert_eq!(fields.len(), 3);
        fields.push_body(b"abc");
        assert_eq!((fields.iter().count(), fields.body()), (3, &b"abc"[..]));
    }
}
