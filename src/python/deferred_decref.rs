//! References that are dropped by a thread that must not touch reference counts, such as the event loop's.
//!
//! The event loop drops what it was given. The reference then goes to [`DeferredDecref`], and an attached thread
//! releases it: a pool thread before and after each call, or python-main when many bytes wait and no call comes.

use std::any::Any;
use std::ptr::NonNull;
use std::slice;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::object::{Attached, Object, Py, Result};
use crate::exchange::piece::Room;
use crate::exchange::response::Payload;

/// Number of deferred bytes from which python-main is asked to release them.
const MANY_BYTES: usize = 1024 * 1024;

/// References that were dropped, and that an attached thread is still to release.
pub(super) struct DeferredDecref {
    references: Mutex<Vec<Py>>,
    /// Length of `references`, to be read without the lock.
    count: AtomicUsize,
    /// Bytes that the references keep alive.
    bytes: AtomicUsize,
    /// python-main has been asked to release them.
    is_requested: AtomicBool,
    request: Box<dyn Fn() + Send + Sync>,
}

impl DeferredDecref {
    /// An empty list. `request` asks python-main to call [`Self::release_all`].
    pub(super) fn new(request: Box<dyn Fn() + Send + Sync>) -> Arc<Self> {
        Arc::new(Self {
            references: Mutex::default(),
            count: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            is_requested: AtomicBool::new(false),
            request,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Py>> {
        // Nothing panics while it holds the lock.
        self.references.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a reference that keeps `bytes` bytes alive. Any thread may call it, attached or not.
    fn defer(&self, reference: Py, bytes: usize) {
        {
            let mut references = self.lock();
            references.push(reference);
            self.count.store(references.len(), Ordering::Release);
        }
        let before = self.bytes.fetch_add(bytes, Ordering::AcqRel);
        if before + bytes >= MANY_BYTES && !self.is_requested.swap(true, Ordering::AcqRel) {
            (self.request)();
        }
    }

    /// Releases all references.
    #[inline]
    pub(super) fn release_all(&self, py: Attached<'_>) {
        if self.count.load(Ordering::Acquire) != 0 {
            self.release_now(py);
        }
    }

    #[cold]
    fn release_now(&self, py: Attached<'_>) {
        let references = {
            let mut references = self.lock();
            self.count.store(0, Ordering::Release);
            // A reference that is deferred from here on may request another release.
            self.bytes.store(0, Ordering::Release);
            self.is_requested.store(false, Ordering::Release);
            std::mem::take(&mut *references)
        };
        // Without the lock: a subclass may have a `__del__`, which may do anything.
        for reference in references {
            drop(reference.release(py));
        }
    }

    /// Number of references that wait.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }
}

/// A reference to a bytes object. Any thread may drop it; an attached one releases it later.
pub(super) struct Shared {
    object: Option<Py>,
    start: NonNull<u8>,
    length: usize,
    deferred: Arc<DeferredDecref>,
}

// SAFETY: the bytes never change while the reference is held, and the reference is released by an attached thread only.
unsafe impl Send for Shared {}

impl Shared {
    /// Takes a reference to `object`. Returns `None` if it is not a bytes object.
    pub(super) fn new(object: Object<'_>, deferred: &Arc<DeferredDecref>) -> Option<Self> {
        let bytes = object.as_bytes()?;
        let (start, length) = (NonNull::from(bytes).cast(), bytes.len());
        Some(Self { object: Some(object.keep()), start, length, deferred: Arc::clone(deferred) })
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
            self.deferred.defer(object, self.length);
        }
    }
}

/// A new bytes object whose contents are still to be written. It has no other reference, and is released as [`Shared`]
/// is.
pub(super) struct Blank(Shared);

impl Blank {
    pub(super) fn new<'py>(py: Attached<'py>, length: usize, deferred: &Arc<DeferredDecref>) -> Result<'py, Self> {
        let (object, start) = py.blank_bytes(length)?;
        Ok(Self(Shared { object: Some(object.keep()), start, length, deferred: Arc::clone(deferred) }))
    }

    /// Returns the object.
    ///
    /// # Safety
    /// All of the contents have been written.
    pub(super) unsafe fn written(mut self, py: Attached<'_>) -> Option<Object<'_>> {
        Some(self.0.object.take()?.release(py))
    }
}

// SAFETY: the contents do not move while the reference is held, and there is no other reference.
unsafe impl Room for Blank {
    fn memory(&self) -> (*mut u8, usize) {
        (self.0.start.as_ptr(), self.0.length)
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}
