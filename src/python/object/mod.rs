//! The fence round pyo3-ffi: owned and borrowed references, exceptions, calls.
//!
//! An [`Attached`] is the evidence that this thread may touch Python objects. Whatever needs one takes it
//! or an [`Object`], which carries it; both stay on their thread. [`Py`] is how a reference is kept
//! elsewhere: without an `Attached` nothing can be done with it.
//!
//! Here is who owns what. make.rs makes objects, look.rs looks at them, act.rs has them do something,
//! raised.rs is about exceptions.

mod act;
mod look;
mod make;
mod raised;

use std::ffi::c_int;
use std::marker::PhantomData;
use std::mem::{self, ManuallyDrop};
use std::ops::Deref;
use std::ptr::{self, NonNull};
use std::slice;

use pyo3_ffi as ffi;

use super::attach_guard;
pub(super) use look::NotLatin1;
pub(super) use raised::{CLIENT_GONE, Kind, Raised, callback};

/// Evidence that the current thread is attached to the interpreter for as long as `'py`.
#[derive(Clone, Copy)]
pub(super) struct Attached<'py>(PhantomData<(&'py (), *mut ())>);

impl<'py> Attached<'py> {
    /// Vouches that the thread is attached.
    ///
    /// # Safety
    /// The current thread has an attached thread state, and keeps it for all of `'py`.
    pub(super) unsafe fn assume() -> Self {
        attach_guard::check();
        Self(PhantomData)
    }

    /// Runs `work` detached, so that other threads can attach. It cannot use objects, which are not `Send`.
    pub(super) fn detach<R>(self, work: impl FnOnce() -> R + Send) -> R {
        let Some(_detached) = attach_guard::Detached::new() else { return work() };
        struct Reattach(*mut ffi::PyThreadState);
        impl Drop for Reattach {
            fn drop(&mut self) {
                // SAFETY: this very thread's state, saved below.
                unsafe { ffi::PyEval_RestoreThread(self.0) }
            }
        }
        // SAFETY: attached, as `self` shows; `Reattach` undoes it before anybody uses `'py` again.
        let _reattach = Reattach(unsafe { ffi::PyEval_SaveThread() });
        work()
    }

    /// Has an exception of `class` raised in another thread, at its next step in Python.
    pub(super) fn interrupt(self, ident: u64, class: &Object<'py>) {
        // SAFETY: attached, to the interpreter of that thread; a number that is no thread's is harmless.
        unsafe { ffi::PyThreadState_SetAsyncExc(ident as _, class.as_ptr()) };
    }

    /// Takes back what [`Self::interrupt`] asked for, if it has not come to pass.
    pub(super) fn clear_interrupt(self, ident: u64) {
        // SAFETY: as above; null clears.
        unsafe { ffi::PyThreadState_SetAsyncExc(ident as _, ptr::null_mut()) };
    }

    /// Enters an empty `contextvars` context until the guard is dropped.
    pub(super) fn fresh_context(self) -> Option<Context<'py>> {
        // SAFETY: a new context, or null and an exception.
        let context = unsafe { Object::from_owned(self, ffi::PyContext_New()) }.ok()?;
        self.enter(context)
    }

    /// Enters a context until the guard is dropped; it must not be entered already.
    pub(super) fn enter(self, context: Object<'py>) -> Option<Context<'py>> {
        // SAFETY: a context; Enter fails only for one that is entered already.
        self.check(unsafe { ffi::PyContext_Enter(context.as_ptr()) }).ok()?;
        Some(Context(context))
    }

    /// Runs the handlers of signals that have come, on the main thread.
    pub(super) fn check_signals(self) -> Result<'py, c_int> {
        // SAFETY: attached; an exception of a handler is set when it returns -1.
        self.check(unsafe { ffi::PyErr_CheckSignals() })
    }

    /// Takes an exception that somebody left behind.
    pub(super) fn stray(self) -> Option<Raised<'py>> {
        // SAFETY: attached.
        let set = unsafe { !ffi::PyErr_Occurred().is_null() };
        set.then(|| Raised::fetch(self))
    }

    /// Turns the C convention "below 0: an exception is set" into a result.
    pub(super) fn check(self, code: c_int) -> Result<'py, c_int> {
        if code < 0 { Err(Raised::fetch(self)) } else { Ok(code) }
    }
}

/// An entered context.
pub(super) struct Context<'py>(Object<'py>);

impl<'py> Context<'py> {
    /// The context itself, to be entered again later.
    pub(super) fn object(&self) -> Object<'py> {
        self.0.clone()
    }
}

impl Drop for Context<'_> {
    fn drop(&mut self) {
        // SAFETY: the context that this entered; if it is no longer the current one, Exit only says so.
        let code = unsafe { ffi::PyContext_Exit(self.0.as_ptr()) };
        drop(self.0.py().check(code));
    }
}

/// What Python code gives: a value, or an exception.
pub(super) type Result<'py, T> = std::result::Result<T, Raised<'py>>;

/// An owned reference, released when dropped. As it is not `Send`, that happens on an attached thread.
#[repr(transparent)]
pub(super) struct Object<'py> {
    pointer: NonNull<ffi::PyObject>,
    py: PhantomData<Attached<'py>>,
}

impl Drop for Object<'_> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: the reference is owned, and its lifetime says that the thread is attached.
        unsafe { ffi::Py_DECREF(self.as_ptr()) }
    }
}

impl Clone for Object<'_> {
    #[inline]
    fn clone(&self) -> Self {
        // SAFETY: the object is alive, and the thread attached.
        unsafe { ffi::Py_INCREF(self.as_ptr()) };
        Self { pointer: self.pointer, py: PhantomData }
    }
}

impl<'py> Object<'py> {
    /// Takes over a new reference that a C function returned; null: the exception it set.
    ///
    /// # Safety
    /// `pointer` is null with an exception set, or a reference that the caller owns.
    #[inline]
    pub(super) unsafe fn from_owned(py: Attached<'py>, pointer: *mut ffi::PyObject) -> Result<'py, Self> {
        match NonNull::new(pointer) {
            Some(pointer) => Ok(Self { pointer, py: PhantomData }),
            None => Err(Raised::fetch(py)),
        }
    }

    /// A new reference to what `pointer` refers to.
    ///
    /// # Safety
    /// `pointer` is not null and refers to a living object.
    #[inline]
    pub(super) unsafe fn from_borrowed(_py: Attached<'py>, pointer: *mut ffi::PyObject) -> Self {
        // SAFETY: the caller's promise.
        unsafe {
            ffi::Py_INCREF(pointer);
            Self { pointer: NonNull::new_unchecked(pointer), py: PhantomData }
        }
    }

    /// The evidence that this object carries.
    #[inline]
    pub(super) fn py(&self) -> Attached<'py> {
        Attached(PhantomData)
    }

    /// The object's address, for a C function.
    #[inline]
    pub(super) fn as_ptr(&self) -> *mut ffi::PyObject {
        self.pointer.as_ptr()
    }

    /// Gives the reference away to a C function, or back to the interpreter.
    #[inline]
    pub(super) fn into_ptr(self) -> *mut ffi::PyObject {
        ManuallyDrop::new(self).as_ptr()
    }

    /// Keeps the reference beyond this attachment.
    pub(super) fn keep(self) -> Py {
        Py(ManuallyDrop::new(self).pointer)
    }
}

/// A reference that somebody else owns, as the arguments of a callback are.
#[repr(transparent)]
pub(super) struct Borrowed<'a, 'py>(ManuallyDrop<Object<'py>>, PhantomData<&'a ()>);

impl<'a, 'py> Borrowed<'a, 'py> {
    /// Wraps a pointer that a callback was given.
    ///
    /// # Safety
    /// `pointer` is not null, and refers to an object that lives for all of `'a`.
    pub(super) unsafe fn new(_py: Attached<'py>, pointer: *mut ffi::PyObject) -> Self {
        // SAFETY: the caller's promise.
        let pointer = unsafe { NonNull::new_unchecked(pointer) };
        Self(ManuallyDrop::new(Object { pointer, py: PhantomData }), PhantomData)
    }

    /// Wraps the array of arguments that a callback was given.
    ///
    /// # Safety
    /// `pointers` are `count` pointers to objects that live for all of `'a`.
    pub(super) unsafe fn array(
        _py: Attached<'py>,
        pointers: *const *mut ffi::PyObject,
        count: usize,
    ) -> &'a [Borrowed<'a, 'py>] {
        if count == 0 {
            return &[];
        }
        // SAFETY: the caller's promise; a `Borrowed` is laid out as the pointer it wraps.
        unsafe { slice::from_raw_parts(pointers.cast(), count) }
    }
}

impl<'py> Deref for Borrowed<'_, 'py> {
    type Target = Object<'py>;

    fn deref(&self) -> &Object<'py> {
        &self.0
    }
}

/// A reference kept for another attachment, on this thread or another. Dropping it releases nothing:
/// a leak at worst, never a hazard; [`Py::release`] is how it ends.
#[derive(Debug)]
#[repr(transparent)]
pub(super) struct Py(NonNull<ffi::PyObject>);

// SAFETY: the object is reached through an `Attached` only.
unsafe impl Send for Py {}
// SAFETY: as above.
unsafe impl Sync for Py {}

impl Py {
    /// The object, while attached.
    #[inline]
    pub(super) fn get<'a, 'py>(&'a self, _py: Attached<'py>) -> &'a Object<'py> {
        // SAFETY: both are laid out as the one pointer; the reference stays owned by `self`.
        unsafe { mem::transmute::<&'a Py, &'a Object<'py>>(self) }
    }

    /// Takes the reference back.
    pub(super) fn release(self, _py: Attached<'_>) -> Object<'_> {
        Object { pointer: self.0, py: PhantomData }
    }

    /// The bare address, for the collector of cycles.
    pub(super) fn address(&self) -> usize {
        self.0.as_ptr() as usize
    }
}
