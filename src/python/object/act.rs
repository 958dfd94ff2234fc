//! Has Python objects do something: whatever is here may run code of the application's.

use std::{io, ptr};

use pyo3_ffi as ffi;

use super::{Object, Raised, Result};

/// Most arguments that [`Object::call`] passes on.
const MOST_ARGUMENTS: usize = 8;

/// Number of bytes that [`Object::fill_buffer`] reads in one step.
const FILL_STEP: usize = 256 * 1024;

impl<'py> Object<'py> {
    /// An attribute.
    pub(in crate::python) fn attr(&self, name: &Object<'py>) -> Result<'py, Object<'py>> {
        // SAFETY: two living objects; returns a new reference or fails.
        unsafe { Object::from_owned(self.py(), ffi::PyObject_GetAttr(self.as_ptr(), name.as_ptr())) }
    }

    /// An attribute, or `None` when there is none.
    pub(in crate::python) fn attr_or_none(&self, name: &Object<'py>) -> Result<'py, Option<Object<'py>>> {
        let mut found = ptr::null_mut();
        // SAFETY: two living objects; 1 leaves a new reference in `found`.
        let code = unsafe { ffi::compat::PyObject_GetOptionalAttr(self.as_ptr(), name.as_ptr(), &mut found) };
        match self.py().check(code)? {
            0 => Ok(None),
            // SAFETY: as above.
            _ => unsafe { Object::from_owned(self.py(), found) }.map(Some),
        }
    }

    /// An attribute by its name; for what is done once.
    pub(in crate::python) fn named(&self, name: &str) -> Result<'py, Object<'py>> {
        self.attr(&self.py().interned(name)?)
    }

    /// Calls it.
    #[inline]
    pub(in crate::python) fn call(&self, arguments: &[&Object<'py>]) -> Result<'py, Object<'py>> {
        assert!(arguments.len() <= MOST_ARGUMENTS);
        // The slot in front is the callee's to use, as the flag says.
        let mut slots = [ptr::null_mut(); MOST_ARGUMENTS + 1];
        for (slot, argument) in slots[1..].iter_mut().zip(arguments) {
            *slot = argument.as_ptr();
        }
        let count = arguments.len() | OFFSET;
        // SAFETY: `count` living arguments, borrowed for the call, with a spare slot before them.
        unsafe {
            let result = ffi::PyObject_Vectorcall(self.as_ptr(), slots.as_ptr().add(1), count, ptr::null_mut());
            Object::from_owned(self.py(), result)
        }
    }

    /// An iterator over it.
    pub(in crate::python) fn iter(&self) -> Result<'py, Object<'py>> {
        // SAFETY: a living object; returns a new reference or fails.
        unsafe { Object::from_owned(self.py(), ffi::PyObject_GetIter(self.as_ptr())) }
    }

    /// The next item of an iterator, as [`Self::iter`] returned it.
    #[inline]
    pub(in crate::python) fn next(&self) -> Result<'py, Option<Object<'py>>> {
        // SAFETY: GetIter has made sure that it is an iterator; null is an exception or the end.
        unsafe {
            let item = ffi::PyIter_Next(self.as_ptr());
            if item.is_null() && ffi::PyErr_Occurred().is_null() {
                return Ok(None);
            }
            Object::from_owned(self.py(), item).map(Some)
        }
    }

    /// Fills a writable buffer such as a bytearray with what `read` gives, step by step, until that is less than it was
    /// asked for; or by one step alone. Returns the number of bytes.
    ///
    /// Other threads may use the buffer at the same time. So `read`, which runs without the interpreter, gets memory of its own.
    pub(in crate::python) fn fill_buffer(
        &self,
        once: bool,
        mut read: impl FnMut(&mut [u8]) -> io::Result<usize> + Send,
    ) -> Result<'py, usize> {
        struct View(ffi::Py_buffer);
        impl Drop for View {
            fn drop(&mut self) {
                // SAFETY: a view that GetBuffer filled, released once, by the attached thread that got it.
                unsafe { ffi::PyBuffer_Release(&mut self.0) }
            }
        }
        let mut view = ffi::Py_buffer::new();
        // SAFETY: a living object and a view to fill; PyBUF_WRITABLE also asks for contiguous bytes.
        self.py().check(unsafe { ffi::PyObject_GetBuffer(self.as_ptr(), &mut view, ffi::PyBUF_WRITABLE) })?;
        let view = View(view);
        let length = view.0.len as usize;
        let (mut memory, mut done) = (vec![0; length.min(FILL_STEP)], 0);
        while done < length {
            let step = &mut memory[..(length - done).min(FILL_STEP)];
            let read = self.py().detach(|| read(step)).map_err(|error| Raised::from_io(self.py(), &error))?;
            let bytes = &step[..read];
            // SAFETY: the exporter keeps `length` bytes in place until the view is released, of which `done` and these
            // are the first. No reference to them is made: this thread has the interpreter, as whoever else writes to
            // them from Python.
            unsafe { view.0.buf.cast::<u8>().add(done).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
            done += bytes.len();
            if once || bytes.len() < step.len() {
                break;
            }
        }
        Ok(done)
    }

    /// Sets an item of a dict.
    #[inline]
    pub(in crate::python) fn set_item(&self, key: &Object<'py>, value: &Object<'py>) -> Result<'py, ()> {
        // SAFETY: living objects; SetItem checks that it is a dict and takes its own references.
        self.py().check(unsafe { ffi::PyDict_SetItem(self.as_ptr(), key.as_ptr(), value.as_ptr()) })?;
        Ok(())
    }

    /// An item of a dict.
    pub(in crate::python) fn item(&self, key: &Object<'py>) -> Result<'py, Option<Object<'py>>> {
        let mut found = ptr::null_mut();
        // SAFETY: living objects; GetItemRef checks that it is a dict, and 1 leaves a new reference in `found`.
        let code = unsafe { ffi::compat::PyDict_GetItemRef(self.as_ptr(), key.as_ptr(), &mut found) };
        match self.py().check(code)? {
            0 => Ok(None),
            // SAFETY: as above.
            _ => unsafe { Object::from_owned(self.py(), found) }.map(Some),
        }
    }

    /// Removes an item of a dict.
    pub(in crate::python) fn remove_item(&self, key: &Object<'py>) -> Result<'py, ()> {
        // SAFETY: living objects; DelItem checks that it is a dict.
        self.py().check(unsafe { ffi::PyDict_DelItem(self.as_ptr(), key.as_ptr()) })?;
        Ok(())
    }

    /// A copy of a dict.
    #[inline]
    pub(in crate::python) fn copy_dict(&self) -> Result<'py, Object<'py>> {
        // SAFETY: Copy checks that it is a dict.
        unsafe { Object::from_owned(self.py(), ffi::PyDict_Copy(self.as_ptr())) }
    }
}

/// In front of the arguments there is a slot that the callee may use for a moment.
const OFFSET: usize = 1 << (usize::BITS - 1);
