//! Makes Python objects, and runs Python source.

use std::ffi::CStr;
use std::ptr::{self, NonNull};
use std::{io, slice};

use pyo3_ffi as ffi;

use super::{Attached, Object, Raised, Result};

impl<'py> Attached<'py> {
    /// `None`.
    pub(in crate::python) fn none(self) -> Object<'py> {
        // SAFETY: a reference to the singleton.
        unsafe { Object::from_borrowed(self, ffi::Py_None()) }
    }

    /// `True` or `False`.
    pub(in crate::python) fn bool(self, value: bool) -> Object<'py> {
        // SAFETY: references to the singletons.
        unsafe { Object::from_borrowed(self, if value { ffi::Py_True() } else { ffi::Py_False() }) }
    }

    /// An `int`.
    pub(in crate::python) fn int(self, value: u64) -> Result<'py, Object<'py>> {
        // SAFETY: makes a new reference, or fails.
        unsafe { Object::from_owned(self, ffi::PyLong_FromUnsignedLongLong(value)) }
    }

    /// A `str`.
    pub(in crate::python) fn text(self, text: &str) -> Result<'py, Object<'py>> {
        // SAFETY: the pointer and the length are those of a slice.
        unsafe { Object::from_owned(self, ffi::PyUnicode_FromStringAndSize(text.as_ptr().cast(), text.len() as isize)) }
    }

    /// A `str` whose code points are these bytes.
    #[inline]
    pub(in crate::python) fn latin1(self, bytes: &[u8]) -> Result<'py, Object<'py>> {
        let (start, length) = (bytes.as_ptr().cast(), bytes.len() as isize);
        // SAFETY: the pointer and the length are those of a slice; no error handler: it cannot fail to decode.
        unsafe { Object::from_owned(self, ffi::PyUnicode_DecodeLatin1(start, length, ptr::null())) }
    }

    /// A `str` that is a key: equal ones are the same object.
    pub(in crate::python) fn interned(self, text: &str) -> Result<'py, Object<'py>> {
        let mut pointer = self.text(text)?.into_ptr();
        // SAFETY: an owned str goes in, an owned str comes out.
        unsafe {
            ffi::PyUnicode_InternInPlace(&mut pointer);
            Object::from_owned(self, pointer)
        }
    }

    /// A `bytes`.
    pub(in crate::python) fn bytes(self, bytes: &[u8]) -> Result<'py, Object<'py>> {
        let (start, length) = (bytes.as_ptr().cast(), bytes.len() as isize);
        // SAFETY: the pointer and the length are those of a slice.
        unsafe { Object::from_owned(self, ffi::PyBytes_FromStringAndSize(start, length)) }
    }

    /// An empty `dict`.
    pub(in crate::python) fn dict(self) -> Result<'py, Object<'py>> {
        // SAFETY: makes a new reference, or fails.
        unsafe { Object::from_owned(self, ffi::PyDict_New()) }
    }

    /// A `bytes` of `length` bytes that are still to be written, and where they are.
    pub(in crate::python) fn blank_bytes(self, length: usize) -> Result<'py, (Object<'py>, NonNull<u8>)> {
        // SAFETY: makes a new reference with room for `length` bytes, or fails; the room is behind the object's head.
        unsafe {
            let bytes = Object::from_owned(self, ffi::PyBytes_FromStringAndSize(ptr::null(), length as isize))?;
            let start = NonNull::new_unchecked(ffi::PyBytes_AS_STRING(bytes.as_ptr()).cast_mut().cast());
            Ok((bytes, start))
        }
    }

    /// A `bytes` of at most `length` bytes: `fill` writes them without the interpreter and says how many there are.
    pub(in crate::python) fn bytes_from(
        self,
        length: usize,
        fill: impl FnOnce(&mut [u8]) -> io::Result<usize> + Send,
    ) -> Result<'py, Object<'py>> {
        let (bytes, start) = self.blank_bytes(length)?;
        // SAFETY: nobody else knows of this object, so its room is ours to write; zeroed, it may be a slice.
        let room = unsafe {
            start.write_bytes(0, length);
            slice::from_raw_parts_mut(start.as_ptr(), length)
        };
        match self.detach(|| fill(room)) {
            Ok(count) if count == length => Ok(bytes),
            Ok(count) => self.bytes(&bytes.as_bytes().unwrap_or_default()[..count]),
            Err(error) => Err(Raised::from_io(self, &error)),
        }
    }

    /// A `list`.
    pub(in crate::python) fn list(self, items: impl IntoIterator<Item = Object<'py>>) -> Result<'py, Object<'py>> {
        // SAFETY: makes a new reference, or fails.
        let list = unsafe { Object::from_owned(self, ffi::PyList_New(0)) }?;
        for item in items {
            // SAFETY: a list and an object; Append takes its own reference.
            self.check(unsafe { ffi::PyList_Append(list.as_ptr(), item.as_ptr()) })?;
        }
        Ok(list)
    }

    /// A `tuple` of two.
    pub(in crate::python) fn pair(self, first: &Object<'py>, second: &Object<'py>) -> Result<'py, Object<'py>> {
        // SAFETY: two objects, as the count says; Pack takes its own references.
        unsafe { Object::from_owned(self, ffi::PyTuple_Pack(2, first.as_ptr(), second.as_ptr())) }
    }

    /// A `str` from a file name of the system's.
    pub(in crate::python) fn file_name(self, name: &[u8]) -> Result<'py, Object<'py>> {
        let (start, length) = (name.as_ptr().cast(), name.len() as isize);
        // SAFETY: the pointer and the length are those of a slice.
        unsafe { Object::from_owned(self, ffi::PyUnicode_DecodeFSDefaultAndSize(start, length)) }
    }

    /// The module of that name in `sys.modules`, made if there is none.
    pub(in crate::python) fn add_module(self, name: &CStr) -> Result<'py, Object<'py>> {
        // SAFETY: a NUL-terminated name; what comes back is borrowed, and owned by sys.modules.
        unsafe {
            let module = ffi::PyImport_AddModule(name.as_ptr());
            if module.is_null() { Err(Raised::fetch(self)) } else { Ok(Object::from_borrowed(self, module)) }
        }
    }

    /// Runs Python source in the namespace of a module, under a file name for tracebacks.
    pub(in crate::python) fn run(self, source: &CStr, file: &CStr, module: &Object<'py>) -> Result<'py, ()> {
        // SAFETY: NUL-terminated strings; the dict and the builtins are borrowed from what lives on.
        unsafe {
            let namespace = ffi::PyModule_GetDict(module.as_ptr());
            if namespace.is_null() {
                return Err(Raised::fetch(self));
            }
            let namespace = Object::from_borrowed(self, namespace);
            let builtins = Object::from_borrowed(self, ffi::PyEval_GetBuiltins());
            namespace.set_item(&self.interned("__builtins__")?, &builtins)?;
            namespace.set_item(&self.interned("__file__")?, &self.file_name(file.to_bytes())?)?;
            let code = ffi::Py_CompileString(source.as_ptr(), file.as_ptr(), ffi::Py_file_input);
            let code = Object::from_owned(self, code)?;
            let result = ffi::PyEval_EvalCode(code.as_ptr(), namespace.as_ptr(), namespace.as_ptr());
            Object::from_owned(self, result).map(drop)
        }
    }
}
