//! The fence round pyo3-ffi: owned and borrowed references, exceptions, calls.
//!
//! An [`Attached`] is the evidence that this thread may touch Python objects. Whatever needs one takes it
//! or an [`Object`], which carries it; both stay on their thread. [`Py`] is how a reference is kept
//! elsewhere: without an `Attached` nothing can be done with it.

use std::any::Any;
use std::ffi::{CStr, c_int};
use std::io::{self, ErrorKind};
use std::marker::PhantomData;
use std::mem::{self, ManuallyDrop};
use std::ops::Deref;
use std::panic::{self, AssertUnwindSafe};
use std::ptr::{self, NonNull};
use std::slice;

use pyo3_ffi as ffi;

use super::role;
use crate::exchange::log::{self, Level, Origin};

/// Most arguments that [`Object::call`] passes on.
const MOST_ARGUMENTS: usize = 8;

/// Evidence that the current thread is attached to the interpreter for as long as `'py`.
#[derive(Clone, Copy)]
pub(super) struct Attached<'py>(PhantomData<(&'py (), *mut ())>);

impl<'py> Attached<'py> {
    /// Vouches that the thread is attached.
    ///
    /// # Safety
    /// The current thread has an attached thread state, and keeps it for all of `'py`.
    pub(super) unsafe fn assume() -> Self {
        role::check();
        Self(PhantomData)
    }

    /// Runs `work` without the interpreter, so that other threads can have it. No object can get in: they are not `Send`.
    pub(super) fn detach<R>(self, work: impl FnOnce() -> R + Send) -> R {
        let Some(_away) = role::Away::new() else { return work() };
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

    /// `None`.
    pub(super) fn none(self) -> Object<'py> {
        // SAFETY: a reference to the singleton.
        unsafe { Object::from_borrowed(self, ffi::Py_None()) }
    }

    /// `True` or `False`.
    pub(super) fn bool(self, value: bool) -> Object<'py> {
        // SAFETY: references to the singletons.
        unsafe { Object::from_borrowed(self, if value { ffi::Py_True() } else { ffi::Py_False() }) }
    }

    /// An `int`.
    pub(super) fn int(self, value: u64) -> Result<'py, Object<'py>> {
        // SAFETY: makes a new reference, or fails.
        unsafe { Object::from_owned(self, ffi::PyLong_FromUnsignedLongLong(value)) }
    }

    /// A `str`.
    pub(super) fn text(self, text: &str) -> Result<'py, Object<'py>> {
        // SAFETY: the pointer and the length are those of a slice.
        unsafe { Object::from_owned(self, ffi::PyUnicode_FromStringAndSize(text.as_ptr().cast(), text.len() as isize)) }
    }

    /// A `str` whose code points are these bytes.
    #[inline]
    pub(super) fn latin1(self, bytes: &[u8]) -> Result<'py, Object<'py>> {
        let (start, length) = (bytes.as_ptr().cast(), bytes.len() as isize);
        // SAFETY: the pointer and the length are those of a slice; no error handler: it cannot fail to decode.
        unsafe { Object::from_owned(self, ffi::PyUnicode_DecodeLatin1(start, length, ptr::null())) }
    }

    /// A `str` that is a key: equal ones are the same object.
    pub(super) fn interned(self, text: &str) -> Result<'py, Object<'py>> {
        let mut pointer = self.text(text)?.into_ptr();
        // SAFETY: an owned str goes in, an owned str comes out.
        unsafe {
            ffi::PyUnicode_InternInPlace(&mut pointer);
            Object::from_owned(self, pointer)
        }
    }

    /// A `bytes`.
    pub(super) fn bytes(self, bytes: &[u8]) -> Result<'py, Object<'py>> {
        let (start, length) = (bytes.as_ptr().cast(), bytes.len() as isize);
        // SAFETY: the pointer and the length are those of a slice.
        unsafe { Object::from_owned(self, ffi::PyBytes_FromStringAndSize(start, length)) }
    }

    /// An empty `dict`.
    pub(super) fn dict(self) -> Result<'py, Object<'py>> {
        // SAFETY: makes a new reference, or fails.
        unsafe { Object::from_owned(self, ffi::PyDict_New()) }
    }

    /// A `bytes` of at most `length` bytes: `fill` writes them without the interpreter and says how many there are.
    pub(super) fn bytes_from(
        self,
        length: usize,
        fill: impl FnOnce(&mut [u8]) -> io::Result<usize> + Send,
    ) -> Result<'py, Object<'py>> {
        // SAFETY: makes a new reference with room for `length` bytes, or fails.
        let bytes = unsafe { Object::from_owned(self, ffi::PyBytes_FromStringAndSize(ptr::null(), length as isize)) }?;
        // SAFETY: nobody else knows of this object, so its room is ours to write; zeroed, it may be a slice.
        let room = unsafe {
            let start = ffi::PyBytes_AS_STRING(bytes.as_ptr()).cast_mut().cast::<u8>();
            ptr::write_bytes(start, 0, length);
            slice::from_raw_parts_mut(start, length)
        };
        match self.detach(|| fill(room)) {
            Ok(count) if count == length => Ok(bytes),
            Ok(count) => self.bytes(&bytes.as_bytes().unwrap_or_default()[..count]),
            Err(error) => Err(Raised::from_io(self, &error)),
        }
    }

    /// A `list`.
    pub(super) fn list(self, items: impl IntoIterator<Item = Object<'py>>) -> Result<'py, Object<'py>> {
        // SAFETY: makes a new reference, or fails.
        let list = unsafe { Object::from_owned(self, ffi::PyList_New(0)) }?;
        for item in items {
            // SAFETY: a list and an object; Append takes its own reference.
            self.check(unsafe { ffi::PyList_Append(list.as_ptr(), item.as_ptr()) })?;
        }
        Ok(list)
    }

    /// A `tuple` of two.
    pub(super) fn pair(self, first: &Object<'py>, second: &Object<'py>) -> Result<'py, Object<'py>> {
        // SAFETY: two objects, as the count says; Pack takes its own references.
        unsafe { Object::from_owned(self, ffi::PyTuple_Pack(2, first.as_ptr(), second.as_ptr())) }
    }

    /// A `str` from a file name of the system's.
    pub(super) fn file_name(self, name: &[u8]) -> Result<'py, Object<'py>> {
        let (start, length) = (name.as_ptr().cast(), name.len() as isize);
        // SAFETY: the pointer and the length are those of a slice.
        unsafe { Object::from_owned(self, ffi::PyUnicode_DecodeFSDefaultAndSize(start, length)) }
    }

    /// The module of that name in `sys.modules`, made if there is none.
    pub(super) fn add_module(self, name: &CStr) -> Result<'py, Object<'py>> {
        // SAFETY: a NUL-terminated name; what comes back is borrowed, and owned by sys.modules.
        unsafe {
            let module = ffi::PyImport_AddModule(name.as_ptr());
            if module.is_null() { Err(Raised::fetch(self)) } else { Ok(Object::from_borrowed(self, module)) }
        }
    }

    /// Runs Python source in the namespace of a module, under a file name for tracebacks.
    pub(super) fn run(self, source: &CStr, file: &CStr, module: &Object<'py>) -> Result<'py, ()> {
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

    /// Enters an empty `contextvars` context until the guard is dropped.
    pub(super) fn fresh_context(self) -> Option<Context<'py>> {
        // SAFETY: a new context, or null and an exception; Enter fails only for one that is entered already.
        let context = unsafe { Object::from_owned(self, ffi::PyContext_New()) }.ok()?;
        self.check(unsafe { ffi::PyContext_Enter(context.as_ptr()) }).ok()?;
        Some(Context(context))
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

    #[inline]
    fn type_ptr(&self) -> *mut ffi::PyTypeObject {
        // SAFETY: a living object has a type.
        unsafe { ffi::Py_TYPE(self.as_ptr()) }
    }

    /// Whether the object's type is this very type, not a subclass.
    #[inline]
    pub(super) fn is_exactly(&self, class: &Object<'py>) -> bool {
        self.type_ptr().cast() == class.as_ptr()
    }

    /// The name of its type, for messages.
    pub(super) fn type_name(&self) -> String {
        // SAFETY: tp_name is a NUL-terminated string as long as the type lives.
        let name = unsafe { CStr::from_ptr((*self.type_ptr()).tp_name) };
        name.to_string_lossy().into_owned()
    }

    /// Whether it is `None`.
    pub(super) fn is_none(&self) -> bool {
        // SAFETY: compares addresses.
        unsafe { ffi::Py_IsNone(self.as_ptr()) != 0 }
    }

    /// Which of the built-in sequences it is, exactly or as a subclass.
    #[inline]
    pub(super) fn sequence(&self) -> Option<Sequence<'_, 'py>> {
        // SAFETY: these look at the type only.
        let (list, tuple) = unsafe { (ffi::PyList_Check(self.as_ptr()) != 0, ffi::PyTuple_Check(self.as_ptr()) != 0) };
        (list || tuple).then_some(Sequence { of: self, list })
    }

    /// Whether it is exactly a list or a tuple: no code of the application's runs when it is walked.
    #[inline]
    pub(super) fn is_plain_sequence(&self) -> bool {
        // SAFETY: these look at the type only.
        unsafe { ffi::PyList_CheckExact(self.as_ptr()) != 0 || ffi::PyTuple_CheckExact(self.as_ptr()) != 0 }
    }

    /// Whether it is exactly an iterator over a list or a tuple.
    #[inline]
    pub(super) fn is_plain_iterator(&self) -> bool {
        let class = self.type_ptr();
        class == &raw mut ffi::PyListIter_Type || class == &raw mut ffi::PyTupleIter_Type
    }

    /// The contents of a `bytes` or of an instance of a subclass. They never change.
    #[inline]
    pub(super) fn as_bytes(&self) -> Option<&[u8]> {
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
    pub(super) fn as_latin1(&self) -> std::result::Result<&[u8], NotLatin1> {
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
    pub(super) fn is_true(&self) -> Result<'py, bool> {
        // SAFETY: a living object.
        Ok(self.py().check(unsafe { ffi::PyObject_IsTrue(self.as_ptr()) })? != 0)
    }

    /// Whether it is a `str` or of a subclass.
    pub(super) fn is_text(&self) -> bool {
        // SAFETY: looks at the type only.
        unsafe { ffi::PyUnicode_Check(self.as_ptr()) != 0 }
    }

    /// The text of a `str` in UTF-8; lone surrogates are escaped.
    pub(super) fn to_utf8(&self) -> Result<'py, Vec<u8>> {
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
        // SAFETY: two NUL-terminated names.
        let bytes =
            unsafe { Object::from_owned(self.py(), ffi::PyUnicode_AsEncodedString(self.as_ptr(), codec, errors)) }?;
        Ok(bytes.as_bytes().unwrap_or_default().to_vec())
    }

    /// As a Rust string, for messages and logs.
    pub(super) fn to_text(&self) -> Result<'py, String> {
        Ok(String::from_utf8_lossy(&self.to_utf8()?).into_owned())
    }

    /// The value of an integer (or of what has `__index__`), clipped to the range; `None`: it is none.
    pub(super) fn to_index(&self) -> Result<'py, Option<isize>> {
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

    /// An attribute.
    pub(super) fn attr(&self, name: &Object<'py>) -> Result<'py, Object<'py>> {
        // SAFETY: two living objects; returns a new reference or fails.
        unsafe { Object::from_owned(self.py(), ffi::PyObject_GetAttr(self.as_ptr(), name.as_ptr())) }
    }

    /// An attribute, or `None` when there is none.
    pub(super) fn attr_or_none(&self, name: &Object<'py>) -> Result<'py, Option<Object<'py>>> {
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
    pub(super) fn named(&self, name: &str) -> Result<'py, Object<'py>> {
        self.attr(&self.py().interned(name)?)
    }

    /// Calls it.
    #[inline]
    pub(super) fn call(&self, arguments: &[&Object<'py>]) -> Result<'py, Object<'py>> {
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

    /// Whether [`Self::iter`] has something to work with.
    pub(super) fn is_iterable(&self) -> bool {
        // SAFETY: these look at the type only.
        unsafe { (*self.type_ptr()).tp_iter.is_some() || ffi::PySequence_Check(self.as_ptr()) != 0 }
    }

    /// An iterator over it.
    pub(super) fn iter(&self) -> Result<'py, Object<'py>> {
        // SAFETY: a living object; returns a new reference or fails.
        unsafe { Object::from_owned(self.py(), ffi::PyObject_GetIter(self.as_ptr())) }
    }

    /// The next item of an iterator, as [`Self::iter`] returned it.
    #[inline]
    pub(super) fn next(&self) -> Result<'py, Option<Object<'py>>> {
        // SAFETY: GetIter has made sure that it is an iterator; null is an exception or the end.
        unsafe {
            let item = ffi::PyIter_Next(self.as_ptr());
            if item.is_null() && ffi::PyErr_Occurred().is_null() {
                return Ok(None);
            }
            Object::from_owned(self.py(), item).map(Some)
        }
    }

    /// Calls `fill` on the memory of a writable buffer such as a bytearray, without the interpreter.
    pub(super) fn fill_buffer<R: Send>(&self, fill: impl FnOnce(&mut [u8]) -> R + Send) -> Result<'py, R> {
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
        let room: &mut [u8] = if view.0.len == 0 {
            &mut []
        } else {
            // SAFETY: the exporter keeps these `len` bytes in place until the view is released.
            unsafe { slice::from_raw_parts_mut(view.0.buf.cast(), view.0.len as usize) }
        };
        Ok(self.py().detach(|| fill(room)))
    }

    /// Sets an item of a dict.
    #[inline]
    pub(super) fn set_item(&self, key: &Object<'py>, value: &Object<'py>) -> Result<'py, ()> {
        // SAFETY: living objects; SetItem checks that it is a dict and takes its own references.
        self.py().check(unsafe { ffi::PyDict_SetItem(self.as_ptr(), key.as_ptr(), value.as_ptr()) })?;
        Ok(())
    }

    /// A copy of a dict.
    #[inline]
    pub(super) fn copy_dict(&self) -> Result<'py, Object<'py>> {
        // SAFETY: Copy checks that it is a dict.
        unsafe { Object::from_owned(self.py(), ffi::PyDict_Copy(self.as_ptr())) }
    }
}

/// Why a text cannot be had as latin-1 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotLatin1 {
    /// It is not a `str`.
    NotText,
    /// It has a code point above 255.
    Wide,
}

/// In front of the arguments there is a slot that the callee may use for a moment.
const OFFSET: usize = 1 << (usize::BITS - 1);

/// A list or a tuple.
#[derive(Clone, Copy)]
pub(super) struct Sequence<'a, 'py> {
    of: &'a Object<'py>,
    /// A list, not a tuple.
    pub(super) list: bool,
}

impl<'py> Sequence<'_, 'py> {
    /// The number of items.
    #[inline]
    pub(super) fn len(&self) -> usize {
        // SAFETY: a list or a tuple, as `list` says.
        let length =
            unsafe { if self.list { ffi::PyList_Size(self.of.as_ptr()) } else { ffi::PyTuple_Size(self.of.as_ptr()) } };
        length as usize
    }

    /// An item; `None` beyond the end.
    #[inline]
    pub(super) fn item(&self, index: usize) -> Option<Object<'py>> {
        let (py, sequence) = (self.of.py(), self.of.as_ptr());
        // SAFETY: a list or a tuple, as `list` says; both check the index, and the second is borrowed.
        unsafe {
            let item = if self.list {
                Object::from_owned(py, ffi::compat::PyList_GetItemRef(sequence, index as isize)).ok()
            } else {
                let item = ffi::PyTuple_GetItem(sequence, index as isize);
                if item.is_null() {
                    drop(Raised::fetch(py));
                    None
                } else {
                    Some(Object::from_borrowed(py, item))
                }
            };
            item.filter(|item| !item.as_ptr().is_null())
        }
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

/// A raised exception, no longer set in the thread state.
pub(super) struct Raised<'py>(Object<'py>);

/// What applications are told of a client that has gone.
pub(super) const CLIENT_GONE: &str = "the client has gone";

/// The exceptions that we raise or look for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
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
    pub(super) fn new(py: Attached<'py>, kind: Kind, message: &str) -> Self {
        match py.text(message) {
            // SAFETY: an exception type and its argument.
            Ok(text) => unsafe { ffi::PyErr_SetObject(kind.as_ptr(), text.as_ptr()) },
            Err(raised) => return raised,
        }
        Self::fetch(py)
    }

    /// An exception of the application's, as `raise` would raise it.
    pub(super) fn from_value(py: Attached<'py>, value: &Object<'py>) -> Self {
        // SAFETY: SetObject takes its own references, and sets another exception if `value` is none.
        unsafe {
            if ffi::PyExceptionInstance_Check(value.as_ptr()) == 0 {
                return Self::new(py, Kind::Type, "exc_info[1] is not an exception");
            }
            ffi::PyErr_SetObject(value.type_ptr().cast(), value.as_ptr());
        }
        Self::fetch(py)
    }

    /// The `OSError` of an I/O error.
    #[cold]
    pub(super) fn from_io(py: Attached<'py>, error: &io::Error) -> Self {
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
    pub(super) fn fetch(py: Attached<'py>) -> Self {
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
    pub(super) fn restore(self) {
        // SAFETY: an exception instance, owned.
        unsafe { set_exception(self.0.into_ptr()) }
    }

    /// Whether it is what an application is told that writes to, or reads from, a client that has gone.
    pub(super) fn tells_client_gone(&self) -> bool {
        let connection = Kind::Connection.as_ptr();
        // SAFETY: an exception and an exception type: looks at their types only.
        let is_connection = unsafe { ffi::PyErr_GivenExceptionMatches(self.0.as_ptr(), connection) != 0 };
        is_connection && self.summary().contains(CLIENT_GONE)
    }

    /// Type and text in a line, when nothing better can be had.
    pub(super) fn summary(&self) -> String {
        // SAFETY: a living object; returns a new reference or fails.
        let text = unsafe { Object::from_owned(self.0.py(), ffi::PyObject_Str(self.0.as_ptr())) };
        let text = text.and_then(|text| text.to_text()).unwrap_or_default();
        format!("{}: {text}", self.0.type_name())
    }

    /// The exception object.
    pub(super) fn value(&self) -> &Object<'py> {
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
    let (mut class, mut value, mut traceback) = (ptr::null_mut(), ptr::null_mut(), ptr::null_mut());
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
pub(super) unsafe fn callback<R>(failed: R, body: impl for<'py> FnOnce(Attached<'py>) -> Result<'py, R>) -> R {
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
