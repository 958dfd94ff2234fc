//! How CPython comes to a Rust function: C entry points that check what is passed, and cannot unwind.

use std::ptr;

use pyo3_ffi as ffi;

use super::class::{Class, value};
use super::object::{Attached, Borrowed, Kind, Object, Raised, Result, callback};

/// What a method is called with.
pub(super) struct Call<'a, 'py, T> {
    pub(super) py: Attached<'py>,
    /// Its value.
    pub(super) this: &'a T,
    /// The positional arguments.
    pub(super) arguments: &'a [Borrowed<'a, 'py>],
}

impl<'py, T> Call<'_, 'py, T> {
    /// The one argument that may be there.
    pub(super) fn optional(&self, name: &str) -> Result<'py, Option<&Object<'py>>> {
        if self.arguments.len() > 1 {
            let message = format!("{name}() takes at most 1 argument ({} given)", self.arguments.len());
            return Err(Raised::new(self.py, Kind::Type, &message));
        }
        Ok(self.arguments.first().map(|argument| &**argument))
    }

    /// The one argument that must be there.
    pub(super) fn only(&self, name: &str) -> Result<'py, &Object<'py>> {
        match self.arguments {
            [argument] => Ok(argument),
            _ => {
                let message = format!("{name}() takes exactly one argument ({} given)", self.arguments.len());
                Err(Raised::new(self.py, Kind::Type, &message))
            }
        }
    }

    /// For a method without arguments.
    pub(super) fn nothing(&self, name: &str) -> Result<'py, ()> {
        match self.arguments {
            [] => Ok(()),
            _ => {
                let message = format!("{name}() takes no arguments ({} given)", self.arguments.len());
                Err(Raised::new(self.py, Kind::Type, &message))
            }
        }
    }
}

/// Arguments as CPython's fast calls hand them over.
#[derive(Clone, Copy)]
pub(super) struct Passed {
    pub(super) arguments: *const *mut ffi::PyObject,
    /// How many are positional; the named ones follow them.
    pub(super) count: isize,
    /// A tuple of the names, or null.
    pub(super) names: *mut ffi::PyObject,
}

impl Passed {
    /// All of them. One may be named, if its name is `keyword`; it must be the only one then.
    ///
    /// # Safety
    /// The interpreter passes them, and they live for all of `'a`.
    unsafe fn take<'a, 'py>(self, py: Attached<'py>, keyword: &str) -> Result<'py, &'a [Borrowed<'a, 'py>]> {
        // SAFETY: the caller's promise.
        unsafe {
            let named = if self.names.is_null() { 0 } else { ffi::PyTuple_Size(self.names) };
            let is_keyword = || {
                let name = Borrowed::new(py, ffi::PyTuple_GetItem(self.names, 0));
                name.as_latin1() == Ok(keyword.as_bytes())
            };
            match (self.count, named) {
                (_, 0) => Ok(Borrowed::array(py, self.arguments, self.count as usize)),
                (0, 1) if is_keyword() => Ok(Borrowed::array(py, self.arguments, 1)),
                _ => Err(Raised::new(py, Kind::Type, "unexpected keyword arguments")),
            }
        }
    }
}

/// The body of a method's shim.
///
/// # Safety
/// The interpreter calls a method of `T`'s type: `slf` is an instance, and it passes the arguments.
pub(super) unsafe fn call_method<T: Class>(
    slf: *mut ffi::PyObject,
    passed: Passed,
    keyword: &str,
    method: for<'py> fn(&Call<'_, 'py, T>) -> Result<'py, Object<'py>>,
) -> *mut ffi::PyObject {
    // SAFETY: the caller's promise.
    unsafe {
        callback(ptr::null_mut(), |py| {
            let object = Borrowed::new(py, slf);
            let call = Call { py, this: value::<T>(&object)?, arguments: passed.take(py, keyword)? };
            method(&call).map(Object::into_ptr)
        })
    }
}

/// The body of a module function's shim.
///
/// # Safety
/// The interpreter calls it, and passes the arguments.
pub(super) unsafe fn call_function(
    passed: Passed,
    function: for<'py> fn(Attached<'py>, &[Borrowed<'_, 'py>]) -> Result<'py, Object<'py>>,
) -> *mut ffi::PyObject {
    // SAFETY: the caller's promise.
    unsafe { callback(ptr::null_mut(), |py| function(py, passed.take(py, "")?).map(Object::into_ptr)) }
}

/// The body of a getter's or an `__next__` shim; `None`: the iterator's end.
///
/// # Safety
/// The interpreter calls a slot of `T`'s type: `slf` is an instance.
pub(super) unsafe fn call_slot<T: Class>(
    slf: *mut ffi::PyObject,
    slot: for<'py> fn(Attached<'py>, &T) -> Result<'py, Option<Object<'py>>>,
) -> *mut ffi::PyObject {
    // SAFETY: the caller's promise.
    unsafe {
        callback(ptr::null_mut(), |py| {
            let object = Borrowed::new(py, slf);
            Ok(slot(py, value::<T>(&object)?)?.map_or(ptr::null_mut(), Object::into_ptr))
        })
    }
}

/// Makes a [`Method`](super::class::Method) from a function on [`Call`]. Its only argument may have a keyword.
macro_rules! method {
    ($class:ty, $name:literal, $function:expr, $doc:literal) => {
        $crate::python::shim::method!($class, $name, $function, $doc, "")
    };
    ($class:ty, $name:literal, $function:expr, $doc:literal, $keyword:literal) => {{
        unsafe extern "C" fn shim(
            slf: *mut pyo3_ffi::PyObject,
            arguments: *const *mut pyo3_ffi::PyObject,
            count: isize,
            names: *mut pyo3_ffi::PyObject,
        ) -> *mut pyo3_ffi::PyObject {
            let passed = $crate::python::shim::Passed { arguments, count, names };
            // SAFETY: CPython calls it as the method of an instance.
            unsafe { $crate::python::shim::call_method::<$class>(slf, passed, $keyword, $function) }
        }
        $crate::python::class::Method { name: $name, shim, doc: $doc }
    }};
}

/// A function of a module.
macro_rules! function {
    ($name:literal, $function:expr, $doc:literal) => {{
        unsafe extern "C" fn shim(
            _module: *mut pyo3_ffi::PyObject,
            arguments: *const *mut pyo3_ffi::PyObject,
            count: isize,
            names: *mut pyo3_ffi::PyObject,
        ) -> *mut pyo3_ffi::PyObject {
            let passed = $crate::python::shim::Passed { arguments, count, names };
            // SAFETY: CPython calls it.
            unsafe { $crate::python::shim::call_function(passed, $function) }
        }
        $crate::python::class::Method { name: $name, shim, doc: $doc }
    }};
}

/// Makes an [`Attribute`](super::class::Attribute) from a function.
macro_rules! attribute {
    ($class:ty, $name:literal, $function:expr, $doc:literal) => {{
        unsafe extern "C" fn shim(
            slf: *mut pyo3_ffi::PyObject,
            _closure: *mut std::ffi::c_void,
        ) -> *mut pyo3_ffi::PyObject {
            // SAFETY: CPython calls it with an instance.
            unsafe { $crate::python::shim::call_slot::<$class>(slf, $function) }
        }
        $crate::python::class::Attribute { name: $name, get: shim, doc: $doc }
    }};
}

/// An `__next__` from a function.
macro_rules! next {
    ($class:ty, $function:expr) => {{
        unsafe extern "C" fn shim(slf: *mut pyo3_ffi::PyObject) -> *mut pyo3_ffi::PyObject {
            // SAFETY: CPython calls it with an instance.
            unsafe { $crate::python::shim::call_slot::<$class>(slf, $function) }
        }
        shim
    }};
}

pub(super) use {attribute, function, method, next};
