//! References that end where no Python object may be touched: on the event loop.
//!
//! The event loop drops what it was given, but must not touch reference counts: the reference goes to the
//! [`Graveyard`], and an attached thread releases it later: before and after each call, or python-main when
//! much has piled up and no call comes.

use std::any::Any;
use std::ptr::NonNull;
use std::slice;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::object::{Attached, Object, Py, Result};
use crate::exchange::piece::Room;
use crate::exchange::response::Payload;

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

/// A reference to a bytes object. Dropped anywhere, it goes to the graveyard.
pub(super) struct Shared {
    object: Option<Py>,
    start: NonNull<u8>,
    length: usize,
    graveyard: Arc<Graveyard>,
}

// SAFETY: the bytes never change while the reference is held, and the reference is released by an attached thread only.
unsafe impl Send for Shared {}

impl Shared {
    /// Keeps `object`, if it is a bytes object.
    pub(super) fn new(object: Object<'_>, graveyard: &Arc<Graveyard>) -> Option<Self> {
        let bytes = object.as_bytes()?;
        let (start, length) = (NonNull::from(bytes).cast(), bytes.len());
        Some(Self { object: Some(object.keep()), start, length, graveyard: Arc::clone(graveyard) })
    }
}

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

/// A new bytes object whose contents are still to be written. Nobody else knows of it. It ends as [`Shared`] does.
pub(super) struct Blank(Shared);

impl Blank {
    pub(super) fn new<'py>(py: Attached<'py>, length: usize, graveyard: &Arc<Graveyard>) -> Result<'py, Self> {
        let (object, start) = py.blank_bytes(length)?;
        Ok(Self(Shared { object: Some(object.keep()), start, length, graveyard: Arc::clone(graveyard) }))
    }

    /// The object.
    ///
    /// # Safety
    /// All of the contents have been written.
    pub(super) unsafe fn written(mut self, py: Attached<'_>) -> Option<Object<'_>> {
        Some(self.0.object.take()?.release(py))
    }
}

// SAFETY: the contents stay where they are as long as the reference is held, and nobody else knows of the object.
unsafe impl Room for Blank {
    fn memory(&self) -> (*mut u8, usize) {
        (self.0.start.as_ptr(), self.0.length)
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}
