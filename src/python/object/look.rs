//! Looks at Python objects: nothing here runs code of the application's, but for `__index__`, `__float__` and `__bool__`.

use std::ffi::CStr;
use std::time::Duration;
use std::{ptr, slice};

use pyo3_ffi as ffi;

use super::{Borrowed, Kind, Object, Raised, Result};

impl<'py> Object<'py> {
    #[inline]
    pub(super) fn type_ptr(&self) -> *mut ffi::PyTypeObject {
        // SAFETY: a living object has a type.
        unsafe { ffi::Py_TYPE(self.as_ptr()) }
    }

    /// Whether the object's type is this very type, not a subclass.
    #[inline]
    pub(in crate::python) fn is_exactly(&self, class: &Object<'py>) -> bool {
        self.type_ptr().cast() == class.as_ptr()
    }

    /// The name of its type, for messages.
    pub(in crate::python) fn type_name(&self) -> String {
        // SAFETY: tp_name is a NUL-terminated string as long as the type lives.
        let name = unsafe { CStr::from_ptr((*self.type_ptr()).tp_name) };
        name.to_string_lossy().into_owned()
    }

    /// Whether it is `None`.
    pub(in crate::python) fn is_none(&self) -> bool {
        // SAFETY: compares addresses.
        unsafe { ffi::Py_IsNone(self.as_ptr()) != 0 }
    }

    /// Which of the built-in sequences it is, exactly or as a subclass.
    #[inline]
    pub(in crate::python) fn sequence(&self) -> Option<Sequence<'_, 'py>> {
        // SAFETY: these look at the type only.
        let (list, tuple) = unsafe { (ffi::PyList_Check(self.as_ptr()) != 0, ffi::PyTuple_Check(self.as_ptr()) != 0) };
        (list || tuple).then_some(Sequence { of: self, list })
    }

    /// The items of a tuple of two. It keeps them.
    #[inline]
    pub(in crate::python) fn pair(&self) -> Option<[Borrowed<'_, 'py>; 2]> {
        // SAFETY: a tuple of two items, as is looked at first. Nobody changes a tuple, so they live while it does.
        unsafe {
            if ffi::PyTuple_Check(self.as_ptr()) == 0 || ffi::Py_SIZE(self.as_ptr()) != 2 {
                return None;
            }
            Some([0, 1].map(|index| Borrowed::new(self.py(), ffi::PyTuple_GET_ITEM(self.as_ptr(), index))))
        }
    }

    /// Whether it is exactly a list or a tuple: no code of the application's runs when it is walked.
    #[inline]
    pub(in crate::python) fn is_plain_sequence(&self) -> bool {
        // SAFETY: these look at the type only.
        unsafe { ffi::PyList_CheckExact(self.as_ptr()) != 0 || ffi::PyTuple_CheckExact(self.as_ptr()) != 0 }
    }

    /// Whether it is exactly an iterator over a list or a tuple.
    #[inline]
    pub(in crate::python) fn is_plain_iterator(&self) -> bool {
        let class = self.type_ptr();
        class == &raw mut ffi::PyListIter_Type || class == &raw mut ffi::PyTupleIter_Type
    }

    /// The contents of a `bytes` or of an instance of a subclass. They never change.
    #[inline]
    pub(in crate::python) fn as_bytes(&self) -> Option<&[u8]> {
        // SAFETY: the size and the contents of a bytes object, which lives and stays as it is while `self` does.
        unsafe {
            if ffi::PyBytes_Check(self.as_ptr()) == 0 {
                return None;
            }
            let length = ffi::Py_SIZE(self.as_ptr()) as usize;
            Some(slice::from_raw_parts(ffi::PyBytes_AS_STRING(self.as_ptr()).cast(), length))
        }
    }

    /// The code points of a `str` as bytes.
    #[inline]
    pub(in crate::python) fn as_latin1(&self) -> std::result::Result<&[u8], NotLatin1> {
        // SAFETY: the kind says how wide the code points are stored; a str never changes while `self` lives.
        unsafe {
            if ffi::PyUnicode_Check(self.as_ptr()) == 0 {
                return Err(NotLatin1::NotText);
            }
            #[cfg(not(Py_3_12))]
            if ffi::PyUnicode_READY(self.as_ptr()) < 0 {
                drop(Raised::fetch(self.py()));
                return Err(NotLatin1::Wide);
            }
            if ffi::PyUnicode_KIND(self.as_ptr()) != ffi::PyUnicode_1BYTE_KIND {
                return Err(NotLatin1::Wide);
            }
            let length = ffi::PyUnicode_GET_LENGTH(self.as_ptr()) as usize;
            Ok(slice::from_raw_parts(ffi::PyUnicode_DATA(self.as_ptr()).cast(), length))
        }
    }

    /// Its truth value.
    pub(in crate::python) fn is_true(&self) -> Result<'py, bool> {
        // SAFETY: a living object.
        Ok(self.py().check(unsafe { ffi::PyObject_IsTrue(self.as_ptr()) })? != 0)
    }

    /// Whether it is a `str` or of a subclass.
    pub(in crate::python) fn is_text(&self) -> bool {
        // SAFETY: looks at the type only.
        unsafe { ffi::PyUnicode_Check(self.as_ptr()) != 0 }
    }

    /// The text of a `str` in UTF-8; lone surrogates are escaped.
    pub(in crate::python) fn to_utf8(&self) -> Result<'py, Vec<u8>> {
        let mut length = 0;
        // SAFETY: the object checks its type itself; what it returns lives as long as the str does.
        unsafe {
            let start = ffi::PyUnicode_AsUTF8AndSize(self.as_ptr(), &mut length);
            if !start.is_null() {
                return Ok(slice::from_raw_parts(start.cast(), length as usize).to_vec());
            }
        }
        drop(Raised::fetch(self.py()));
        let (codec, errors) = (c"utf-8".as_ptr(), c"backslashreplace".as_ptr());
        // SAFETY: the object checks its type itself; two NUL-terminated names.
        let encoded = unsafe { ffi::PyUnicode_AsEncodedString(self.as_ptr(), codec, errors) };
        // SAFETY: null with an exception set, or a reference of our own.
        let bytes = unsafe { Object::from_owned(self.py(), encoded) }?;
        Ok(bytes.as_bytes().unwrap_or_default().to_vec())
    }

    /// As a Rust string, for messages and logs.
    pub(in crate::python) fn to_text(&self) -> Result<'py, String> {
        Ok(String::from_utf8_lossy(&self.to_utf8()?).into_owned())
    }

    /// The value of an integer (or of what has `__index__`), clipped to the range; `None`: it is none.
    pub(in crate::python) fn to_index(&self) -> Result<'py, Option<isize>> {
        // SAFETY: plain calls; -1 may be a value or an exception.
        unsafe {
            if ffi::PyIndex_Check(self.as_ptr()) == 0 {
                return Ok(None);
            }
            let value = ffi::PyNumber_AsSsize_t(self.as_ptr(), ptr::null_mut());
            if value == -1 && !ffi::PyErr_Occurred().is_null() {
                return Err(Raised::fetch(self.py()));
            }
            Ok(Some(value))
        }
    }

    /// A number of seconds; below 0 is 0, and one beyond all measure is `None`.
    pub(in crate::python) fn to_seconds(&self) -> Result<'py, Option<Duration>> {
        // SAFETY: a living object; -1 may be a value or an error.
        let seconds = unsafe { ffi::PyFloat_AsDouble(self.as_ptr()) };
        if seconds == -1.0 {
            if let Some(raised) = self.py().stray() {
                return Err(raised);
            }
        }
        if seconds.is_nan() {
            return Err(Raised::new(self.py(), Kind::Value, "a number of seconds cannot be NaN"));
        }
        Ok(Duration::try_from_secs_f64(seconds.max(0.0)).ok())
    }

    /// Whether [`Self::iter`] has something to work with.
    pub(in crate::python) fn is_iterable(&self) -> bool {
        // SAFETY: these look at the type only.
        unsafe { (*self.type_ptr()).tp_iter.is_some() || ffi::PySequence_Check(self.as_ptr()) != 0 }
    }
}

/// Why a text cannot be had as latin-1 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::python) enum NotLatin1 {
    /// It is not a `str`.
    NotText,
    /// It has a code point above 255.
    Wide,
}
/// A list or a tuple.
#[derive(Clone, Copy)]
pub(in crate::python) struct Sequence<'a, 'py> {
    of: &'a Object<'py>,
    /// A list, not a tuple.
    pub(in crate::python) list: bool,
}

impl<'py> Sequence<'_, 'py> {
    /// The number of items.
    #[inline]
    pub(in crate::python) fn len(&self) -> usize {
        // SAFETY: the size of a list or a tuple.
        unsafe { ffi::Py_SIZE(self.of.as_ptr()) as usize }
    }

    /// An item; `None` beyond the end.
    #[inline]
    pub(in crate::python) fn item(&self, index: usize) -> Option<Object<'py>> {
        // Beyond the end there would be an exception to make, only to drop it.
        if index >= self.len() {
            return None;
        }
        let (py, sequence, index) = (self.of.py(), self.of.as_ptr(), index as isize);
        // SAFETY: a list or a tuple, as `list` says, and an index within it; the second function returns a borrowed item.
        unsafe {
            if self.list {
                Object::from_owned(py, ffi::compat::PyList_GetItemRef(sequence, index)).ok()
            } else {
                Some(Object::from_borrowed(py, ffi::PyTuple_GetItem(sequence, index)))
            }
        }
    }
}
