//! Response bytes on their way to nginx: copied when small, else the Python object itself, kept alive.
//!
//! The event loop drops such a [`Payload`] but must not touch reference counts, so the reference goes to the
//! [`Graveyard`], and an attached thread releases it later: before and after each call, or python-main when
//! much has piled up and no call comes.

use std::ptr::NonNull;
use std::slice;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::object::{Attached, Object, Py};
use crate::exchange::response::{Chunk, Head, OnDrop, Part, Parts, Payload};

/// From this size on, bytes are not copied.
pub(super) const SHARED_FROM: usize = 16 * 1024;
/// Up to this size, all of a body travels with its head.
const MOST_WITH_HEAD: usize = 4 * 1024;
/// Past this many dead bytes, python-main is asked to see to them.
const MUCH: usize = 1024 * 1024;

/// References that were dropped where nobody may release them.
pub(super) struct Graveyard {
    dead: Mutex<Vec<Py>>,
    /// As many as there are in `dead`; read without its lock.
    count: AtomicUsize,
    /// The bytes that they hold.
    bytes: AtomicUsize,
    poked: AtomicBool,
    poke: Box<dyn Fn() + Send + Sync>,
}

impl Graveyard {
    /// An empty one; `poke` asks python-main for a [`Self::clear`].
    pub(super) fn new(poke: Box<dyn Fn() + Send + Sync>) -> Arc<Self> {
        Arc::new(Self {
            dead: Mutex::default(),
            count: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            poked: AtomicBool::new(false),
            poke,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Py>> {
        // Nothing panics while it holds the lock.
        self.dead.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a reference in. Any thread, attached or not.
    fn bury(&self, reference: Py, bytes: usize) {
        {
            let mut dead = self.lock();
            dead.push(reference);
            self.count.store(dead.len(), Ordering::Release);
        }
        let before = self.bytes.fetch_add(bytes, Ordering::AcqRel);
        if before + bytes >= MUCH && !self.poked.swap(true, Ordering::AcqRel) {
            (self.poke)();
        }
    }

    /// Releases what has been taken in.
    #[inline]
    pub(super) fn clear(&self, py: Attached<'_>) {
        if self.count.load(Ordering::Acquire) != 0 {
            self.clear_now(py);
        }
    }

    #[cold]
    fn clear_now(&self, py: Attached<'_>) {
        let dead = {
            let mut dead = self.lock();
            self.count.store(0, Ordering::Release);
            // What is buried from here on may ask for another round.
            self.bytes.store(0, Ordering::Release);
            self.poked.store(false, Ordering::Release);
            std::mem::take(&mut *dead)
        };
        // Not under the lock: a subclass may have a `__del__`, and that may do anything.
        for reference in dead {
            drop(reference.release(py));
        }
    }

    /// How many references wait here.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }
}

/// The contents of a bytes object that this keeps alive.
struct Shared {
    object: Option<Py>,
    start: NonNull<u8>,
    length: usize,
    graveyard: Arc<Graveyard>,
}

// SAFETY: the bytes never change while the reference is held, and the reference is released by an attached thread only.
unsafe impl Send for Shared {}

impl Payload for Shared {
    fn bytes(&self) -> &[u8] {
        // SAFETY: the contents of a bytes object that `object` keeps alive.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(object) = self.object.take() {
            self.graveyard.bury(object, self.length);
        }
    }
}

/// The parts of a response that are about to travel as one message. Small chunks are joined.
#[derive(Default)]
pub(super) struct Batch {
    parts: Parts,
    small: Vec<u8>,
    length: u64,
    copied: usize,
}

impl Batch {
    /// Adds a chunk. False: it is not bytes.
    #[inline]
    pub(super) fn push(&mut self, chunk: &Object<'_>, graveyard: &Arc<Graveyard>) -> bool {
        let Some(bytes) = chunk.as_bytes() else { return false };
        self.length += bytes.len() as u64;
        if bytes.len() < SHARED_FROM {
            self.copied += bytes.len();
            if self.small.capacity() == 0 {
                self.small = bytes.to_vec(); // no bigger than it is, as a rule it stays the only one
            } else {
                self.small.extend_from_slice(bytes);
            }
        } else {
            self.end_of_small();
            let start = NonNull::from(bytes).cast();
            let shared =
                Shared { object: Some(chunk.clone().keep()), start, length: bytes.len(), graveyard: graveyard.clone() };
            self.parts.push(Part::Chunk(Chunk::Shared(Box::new(shared))));
        }
        true
    }

    /// Adds a range of a file, unless it is empty.
    pub(super) fn push_file(&mut self, part: Part) {
        if part.length() > 0 {
            self.end_of_small();
            self.length += part.length();
            self.parts.push(part);
        }
    }

    /// Where to put what is to be told when nginx has done with the file in here; `None`: there is no file.
    pub(super) fn file_done(&mut self) -> Option<&mut OnDrop> {
        self.parts.iter_mut().find_map(|part| match part {
            Part::File { done, .. } => Some(done),
            Part::Chunk(_) => None,
        })
    }

    fn end_of_small(&mut self) {
        if !self.small.is_empty() {
            self.parts.push(Part::Chunk(Chunk::Owned(std::mem::take(&mut self.small))));
        }
    }

    /// The length of all of it, in bytes.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// How many bytes have been copied into it.
    pub(super) fn copied(&self) -> usize {
        self.copied
    }

    /// Drops everything; the length is 0 then.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Keeps the first `length` bytes.
    pub(super) fn truncate(&mut self, length: u64) {
        self.end_of_small();
        let mut rest = length;
        self.parts.retain_mut(|part| {
            let keep = rest.min(part.length());
            rest -= keep;
            if keep < part.length() {
                shorten(part, keep);
            }
            keep > 0
        });
        self.length = self.length.min(length);
    }

    /// The parts, to be sent as the rest of a response, but for what can go with its head.
    pub(super) fn into_parts_beside(self, head: &mut Option<Head>) -> Parts {
        match head {
            Some(head) if self.parts.is_empty() && self.small.len() <= MOST_WITH_HEAD => {
                head.fields.push_body(&self.small);
                Parts::new()
            }
            _ => self.into_parts(),
        }
    }

    /// The parts, to be sent.
    pub(super) fn into_parts(mut self) -> Parts {
        self.end_of_small();
        self.parts
    }
}

fn shorten(part: &mut Part, keep: u64) {
    match part {
        Part::Chunk(chunk) => *chunk = Chunk::Owned(chunk.bytes()[..keep as usize].to_vec()),
        Part::File { length, .. } => *length = keep,
    }
}
