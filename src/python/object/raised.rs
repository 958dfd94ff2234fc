//! Exceptions: raised ones, taken out of the thread state, and how they get back into it.

use std::any::Any;
use std::io::{self, ErrorKind};
use std::marker::PhantomData;
use std::panic::{self, AssertUnwindSafe};
use std::ptr::NonNull;

use pyo3_ffi as ffi;

use super::{Attached, Object, Result};
use crate::exchange::log::{self, Level, Origin};

/// A raised exception, no longer set in the thread state.
pub(in crate::python) struct Raised<'py>(Object<'py>);

/// What applications are told of a client that has gone.
pub(in crate::python) const CLIENT_GONE: &str = "the client has gone";

/// The exceptions that we raise or look for.
#[derive(Clone, Copy, Debug)]
pub(in crate::python) enum Kind {
    Assertion,
    BrokenPipe,
    Connection,
    Os,
    Runtime,
    System,
    Type,
    Value,
}

impl Kind {
    fn as_ptr(self) -> *mut ffi::PyObject {
        // SAFETY: libpython's own statics, set before any thread can be attached.
        unsafe {
            match self {
                Kind::Assertion => ffi::PyExc_AssertionError,
                Kind::BrokenPipe => ffi::PyExc_BrokenPipeError,
                Kind::Connection => ffi::PyExc_ConnectionError,
                Kind::Os => ffi::PyExc_OSError,
                Kind::Runtime => ffi::PyExc_RuntimeError,
                Kind::System => ffi::PyExc_SystemError,
                Kind::Type => ffi::PyExc_TypeError,
                Kind::Value => ffi::PyExc_ValueError,
            }
        }
    }
}

impl<'py> Raised<'py> {
    /// A new exception.
    #[cold]
    pub(in crate::python) fn new(py: Attached<'py>, kind: Kind, message: &str) -> Self {
        match py.text(message) {
            // SAFETY: an exception type and its argument.
            Ok(text) => unsafe { ffi::PyErr_SetObject(kind.as_ptr(), text.as_ptr()) },
            Err(raised) => return raised,
        }
        Self::fetch(py)
    }

    /// An exception of the application's, as `raise` would raise it.
    pub(in crate::python) fn from_value(py: Attached<'py>, value: &Object<'py>) -> Self {
        // SAFETY: SetObject takes its own references, and sets another exception if `value` is none.
        unsafe {
            if ffi::PyExceptionInstance_Check(value.as_ptr()) == 0 {
                return Self::new(py, Kind::Type, "exc_info[1] is not an exception");
            }
            ffi::PyErr_SetObject(value.type_ptr().cast(), value.as_ptr());
        }
        Self::fetch(py)
    }

    /// The `OSError` of an I/O error, or `MemoryError`.
    #[cold]
    pub(in crate::python) fn from_io(py: Attached<'py>, error: &io::Error) -> Self {
        if error.kind() == ErrorKind::OutOfMemory {
            // SAFETY: attached, as the token says.
            unsafe { ffi::PyErr_NoMemory() };
            return Self::fetch(py);
        }
        let text = error.to_string();
        let code = error.raw_os_error().or(match error.kind() {
            ErrorKind::ConnectionReset => Some(libc::ECONNRESET),
            ErrorKind::TimedOut => Some(libc::ETIMEDOUT),
            _ => None,
        });
        let Some(code) = code else { return Self::new(py, Kind::Os, &text) };
        let result = (|| {
            let arguments = py.pair(&py.int(code as u64)?, &py.text(&text)?)?;
            // SAFETY: an exception type and the tuple of its arguments.
            unsafe { ffi::PyErr_SetObject(Kind::Os.as_ptr(), arguments.as_ptr()) };
            Ok(())
        })();
        match result {
            Ok(()) => Self::fetch(py),
            Err(raised) => raised,
        }
    }

    /// Takes the exception that is set.
    #[cold]
    pub(in crate::python) fn fetch(py: Attached<'py>) -> Self {
        // SAFETY: attached; what comes out is an owned reference or null.
        let pointer = unsafe { take_exception() };
        let pointer = NonNull::new(pointer).unwrap_or_else(|| {
            // SAFETY: an exception type and a NUL-terminated text; then as above.
            unsafe {
                ffi::PyErr_SetString(Kind::System.as_ptr(), c"a call failed without an exception".as_ptr());
                NonNull::new(take_exception()).expect("an exception has just been set")
            }
        });
        let _ = py;
        Self(Object { pointer, py: PhantomData })
    }

    /// Sets it again, for the interpreter to see when a callback returns its error value.
    pub(in crate::python) fn restore(self) {
        // SAFETY: an exception instance, owned.
        unsafe { set_exception(self.0.into_ptr()) }
    }

    /// Whether it is what an application is told that writes to, or reads from, a client that has gone.
    pub(in crate::python) fn tells_client_gone(&self) -> bool {
        let connection = Kind::Connection.as_ptr();
        // SAFETY: an exception and an exception type: looks at their types only.
        let is_connection = unsafe { ffi::PyErr_GivenExceptionMatches(self.0.as_ptr(), connection) != 0 };
        is_connection && self.summary().contains(CLIENT_GONE)
    }

    /// Type and text in a line, when nothing better can be had.
    pub(in crate::python) fn summary(&self) -> String {
        // SAFETY: a living object; returns a new reference or fails.
        let text = unsafe { Object::from_owned(self.0.py(), ffi::PyObject_Str(self.0.as_ptr())) };
        let text = text.and_then(|text| text.to_text()).unwrap_or_default();
        format!("{}: {text}", self.0.type_name())
    }

    /// The exception object.
    pub(in crate::python) fn value(&self) -> &Object<'py> {
        &self.0
    }
}

#[cfg(Py_3_12)]
unsafe fn take_exception() -> *mut ffi::PyObject {
    // SAFETY: the caller is attached.
    unsafe { ffi::PyErr_GetRaisedException() }
}

#[cfg(not(Py_3_12))]
unsafe fn take_exception() -> *mut ffi::PyObject {
    let (mut class, mut value, mut traceback) = (std::ptr::null_mut(), std::ptr::null_mut(), std::ptr::null_mut());
    // SAFETY: the caller is attached; Fetch gives three owned references or nulls, Normalize keeps them so.
    unsafe {
        ffi::PyErr_Fetch(&mut class, &mut value, &mut traceback);
        ffi::PyErr_NormalizeException(&mut class, &mut value, &mut traceback);
        if !traceback.is_null() && !value.is_null() {
            ffi::PyException_SetTraceback(value, traceback);
        }
        ffi::Py_XDECREF(class);
        ffi::Py_XDECREF(traceback);
    }
    value
}

#[cfg(Py_3_12)]
unsafe fn set_exception(value: *mut ffi::PyObject) {
    // SAFETY: the caller gives an owned exception.
    unsafe { ffi::PyErr_SetRaisedException(value) }
}

#[cfg(not(Py_3_12))]
unsafe fn set_exception(value: *mut ffi::PyObject) {
    // SAFETY: the caller gives an owned exception; Restore takes three owned references.
    unsafe {
        let class = ffi::Py_TYPE(value).cast::<ffi::PyObject>();
        ffi::Py_INCREF(class);
        ffi::PyErr_Restore(class, value, ffi::PyException_GetTraceback(value));
    }
}

/// Runs the body of a function that Python calls: an exception is set and `failed` returned, and so is a panic.
///
/// # Safety
/// Called by the interpreter, hence attached.
pub(in crate::python) unsafe fn callback<R>(
    failed: R,
    body: impl for<'py> FnOnce(Attached<'py>) -> Result<'py, R>,
) -> R {
    // SAFETY: the caller's promise.
    let py = unsafe { Attached::assume() };
    match panic::catch_unwind(AssertUnwindSafe(|| body(py))) {
        Ok(Ok(value)) => value,
        Ok(Err(raised)) => {
            raised.restore();
            failed
        }
        Err(panic) => {
            let message = format!("panic in nginx-wsgi: {}", panic_message(&*panic));
            log::write(Level::Alert, Origin::default(), message.as_bytes());
            Raised::new(py, Kind::System, &message).restore();
            failed
        }
    }
}

/// What a panic had to say.
fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("(no message)")
}
