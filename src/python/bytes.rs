//! Response bytes on their way to nginx: small ones are copied; larger Python objects are kept alive.

use std::sync::Arc;

use super::deferred_decref::{DeferredDecref, Shared};
use super::object::Object;
use crate::exchange::response::{Chunk, Head, OnDrop, Part, Parts};

/// Size from which bytes are not copied.
pub(super) const SHARED_FROM: usize = 16 * 1024;
/// Largest size of a body that is sent with its head.
const MOST_WITH_HEAD: usize = 4 * 1024;

/// Parts of a response that will be sent as one message. Small chunks are joined.
#[derive(Default)]
pub(super) struct Batch {
    parts: Parts,
    small: Vec<u8>,
    length: u64,
    copied: usize,
}

impl Batch {
    /// Adds a chunk. Returns false if it is not bytes.
    #[inline]
    pub(super) fn push(&mut self, chunk: &Object<'_>, deferred: &Arc<DeferredDecref>) -> bool {
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
            let shared = Shared::new(chunk.clone(), deferred);
            self.parts.extend(shared.map(|shared| Part::Chunk(Chunk::Shared(Box::new(shared)))));
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

    /// Length of all parts, in bytes.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Number of copied bytes.
    pub(super) fn copied(&self) -> usize {
        self.copied
    }

    /// Drops all parts.
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
