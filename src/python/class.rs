//! Python types whose instances hold a Rust value: the part of the fence round heap types.
//!
//! The value is shared between all threads that have the object, so it is `Sync` and its methods take `&self`.
//! A lock in it is never held while waiting for the interpreter: whoever waits for the lock may have that.

use std::ffi::{CStr, c_int, c_uint, c_void};
use std::mem::{self, offset_of};
use std::ptr;

use pyo3_ffi as ffi;

use super::object::{Attached, Borrowed, Kind, Object, Py, Raised, Result, callback};

/// A Rust type that Python objects can hold.
pub(super) trait Class: Send + Sync + Sized + 'static {
    /// The dotted name of the Python type.
    const NAME: &'static CStr;
    /// Its docstring.
    const DOC: &'static CStr;
    /// Its methods, made with [`method!`].
    fn methods() -> Vec<Method>;
    /// Read-only attributes.
    fn attributes() -> Vec<Attribute> {
        Vec::new()
    }
    /// What else it can do.
    fn behaviour() -> Behaviour {
        Behaviour::default()
    }
    /// The references in the value, for the collector of cycles. Without any, an instance is not collected.
    fn references(&self) -> Vec<&Py> {
        Vec::new()
    }
    /// Releases the references in a value about to be dropped.
    fn release(self, _py: Attached<'_>) {}
}

/// Slots of a type, made with [`new!`], [`next!`] and [`vectorcall!`].
#[derive(Default)]
pub(super) struct Behaviour {
    /// Makes an instance when the type is called; without it, the type cannot be called.
    pub(super) new: Option<ffi::newfunc>,
    /// An instance is its own iterator.
    pub(super) next: Option<ffi::iternextfunc>,
    /// Calls an instance.
    pub(super) call: Option<ffi::vectorcallfunc>,
    /// The value has references: see [`Class::references`].
    pub(super) collected: bool,
}

/// A method of a type.
pub(super) struct Method {
    pub(super) name: &'static CStr,
    pub(super) shim: ffi::PyCFunctionFastWithKeywords,
    pub(super) doc: &'static CStr,
}

/// An attribute of a type.
pub(super) struct Attribute {
    pub(super) name: &'static CStr,
    pub(super) get: ffi::getter,
    pub(super) doc: &'static CStr,
}

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

/// The layout of an instance.
#[repr(C)]
struct Instance<T> {
    head: ffi::PyObject,
    vectorcall: Option<ffi::vectorcallfunc>,
    value: T,
}

/// Makes the Python type of `T`.
pub(super) fn create<T: Class>(py: Attached<'_>) -> Result<'_, Object<'_>> {
    let behaviour = T::behaviour();
    let mut slots = vec![
        slot(ffi::Py_tp_doc, T::DOC.as_ptr().cast_mut().cast()),
        slot(ffi::Py_tp_dealloc, dealloc::<T> as *mut c_void),
        slot(ffi::Py_tp_new, behaviour.new.unwrap_or(refuse_new) as *mut c_void),
        slot(ffi::Py_tp_methods, method_table(T::methods())),
        slot(ffi::Py_tp_getset, attribute_table(T::attributes())),
    ];
    let mut flags = ffi::Py_TPFLAGS_DEFAULT;
    #[cfg(Py_3_10)]
    {
        flags |= ffi::Py_TPFLAGS_IMMUTABLETYPE;
    }
    if let Some(next) = behaviour.next {
        slots.push(slot(ffi::Py_tp_iter, ffi::PyObject_SelfIter as *mut c_void));
        slots.push(slot(ffi::Py_tp_iternext, next as *mut c_void));
    }
    if behaviour.call.is_some() {
        flags |= ffi::Py_TPFLAGS_HAVE_VECTORCALL;
        slots.push(slot(ffi::Py_tp_call, ffi::PyVectorcall_Call as *mut c_void));
        slots.push(slot(ffi::Py_tp_members, vectorcall_offset::<T>()));
    }
    if behaviour.collected {
        flags |= ffi::Py_TPFLAGS_HAVE_GC;
        slots.push(slot(ffi::Py_tp_traverse, traverse::<T> as *mut c_void));
    }
    slots.push(slot(0, ptr::null_mut()));
    let mut spec = ffi::PyType_Spec {
        name: T::NAME.as_ptr(),
        basicsize: size_of::<Instance<T>>() as c_int,
        itemsize: 0,
        flags: flags as c_uint,
        slots: slots.as_mut_ptr(),
    };
    // SAFETY: the slots end with a zero; names and tables live as long as the process; the functions fit their slots
    // and the layout that `basicsize` and the offset describe.
    unsafe { Object::from_owned(py, ffi::PyType_FromSpec(&mut spec)) }
}

fn slot(slot: c_int, pfunc: *mut c_void) -> ffi::PyType_Slot {
    ffi::PyType_Slot { slot, pfunc }
}

/// CPython keeps pointing to such a table, so it is never freed: once per type and interpreter.
fn leak<T>(table: Vec<T>) -> *mut c_void {
    Box::leak(table.into_boxed_slice()).as_mut_ptr().cast()
}

/// The C form of a method.
fn definition(method: &Method) -> ffi::PyMethodDef {
    ffi::PyMethodDef {
        ml_name: method.name.as_ptr(),
        ml_meth: ffi::PyMethodDefPointer { PyCFunctionFastWithKeywords: method.shim },
        ml_flags: ffi::METH_FASTCALL | ffi::METH_KEYWORDS,
        ml_doc: method.doc.as_ptr(),
    }
}

fn method_table(methods: Vec<Method>) -> *mut c_void {
    leak(methods.iter().map(definition).chain([ffi::PyMethodDef::zeroed()]).collect())
}

fn attribute_table(attributes: Vec<Attribute>) -> *mut c_void {
    let entry = |attribute: Attribute| ffi::PyGetSetDef {
        name: attribute.name.as_ptr(),
        get: Some(attribute.get),
        set: None,
        doc: attribute.doc.as_ptr(),
        closure: ptr::null_mut(),
    };
    leak(attributes.into_iter().map(entry).chain([ffi::PyGetSetDef::default()]).collect())
}

fn vectorcall_offset<T>() -> *mut c_void {
    let member = ffi::PyMemberDef {
        name: c"__vectorcalloffset__".as_ptr(),
        type_code: ffi::Py_T_PYSSIZET,
        offset: offset_of!(Instance<T>, vectorcall) as isize,
        flags: ffi::Py_READONLY,
        doc: ptr::null(),
    };
    leak(vec![member, ffi::PyMemberDef::default()])
}

/// A new instance of `class`, which [`create`] made for `T`.
#[inline]
pub(super) fn instantiate<'py, T: Class>(class: &Object<'py>, value: T) -> Result<'py, Object<'py>> {
    let (py, call) = (class.py(), T::behaviour().call);
    // SAFETY: `class` is the type of `T`, so the allocation has the layout of `Instance<T>`; it comes zeroed, and
    // nothing looks at the value before it is written.
    unsafe {
        let pointer = ffi::PyType_GenericAlloc(class.as_ptr().cast(), 0);
        if !pointer.is_null() {
            let instance = pointer.cast::<Instance<T>>();
            (&raw mut (*instance).vectorcall).write(call);
            (&raw mut (*instance).value).write(value);
        }
        Object::from_owned(py, pointer)
    }
}

/// The value in an instance.
///
/// # Safety
/// `object` is an instance of the type that [`create`] made for `T`.
#[inline]
pub(super) unsafe fn value<'a, T: Class>(object: &'a Object<'_>) -> &'a T {
    // SAFETY: the caller's promise; the value lives as long as the object does.
    unsafe { &(*object.as_ptr().cast::<Instance<T>>()).value }
}

unsafe extern "C" fn dealloc<T: Class>(pointer: *mut ffi::PyObject) {
    // SAFETY: the last reference to an instance of `T`'s type is gone, so nobody else can reach it; a heap type's
    // instance owns a reference to the type.
    unsafe {
        let class = ffi::Py_TYPE(pointer);
        if T::behaviour().collected {
            ffi::PyObject_GC_UnTrack(pointer.cast());
        }
        let value = ptr::read(&raw const (*pointer.cast::<Instance<T>>()).value);
        callback((), |py| {
            value.release(py);
            Ok(())
        });
        if let Some(free) = (*class).tp_free {
            free(pointer.cast());
        }
        ffi::Py_DECREF(class.cast());
    }
}

unsafe extern "C" fn traverse<T: Class>(
    pointer: *mut ffi::PyObject,
    visit: ffi::visitproc,
    argument: *mut c_void,
) -> c_int {
    // SAFETY: the collector asks about a living instance, and `visit` does not change it.
    unsafe {
        let class = ffi::Py_TYPE(pointer).cast();
        let references = (*pointer.cast::<Instance<T>>()).value.references();
        let addresses = references.iter().map(|reference| reference.address() as *mut ffi::PyObject);
        for object in addresses.chain([class]) {
            let code = visit(object, argument);
            if code != 0 {
                return code;
            }
        }
    }
    0
}

unsafe extern "C" fn refuse_new(
    class: *mut ffi::PyTypeObject,
    _arguments: *mut ffi::PyObject,
    _keywords: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls; `class` is a living type.
    unsafe {
        callback(ptr::null_mut(), |py| {
            let name = CStr::from_ptr((*class).tp_name).to_string_lossy();
            Err(Raised::new(py, Kind::Type, &format!("cannot create '{name}' instances")))
        })
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
            let call = Call { py, this: value::<T>(&object), arguments: passed.take(py, keyword)? };
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
            Ok(slot(py, value::<T>(&object))?.map_or(ptr::null_mut(), Object::into_ptr))
        })
    }
}

/// A [`Method`] from a function on [`Call`]; with a keyword, its only argument may be named by that.
macro_rules! method {
    ($class:ty, $name:literal, $function:expr, $doc:literal) => {
        $crate::python::class::method!($class, $name, $function, $doc, "")
    };
    ($class:ty, $name:literal, $function:expr, $doc:literal, $keyword:literal) => {{
        unsafe extern "C" fn shim(
            slf: *mut pyo3_ffi::PyObject,
            arguments: *const *mut pyo3_ffi::PyObject,
            count: isize,
            names: *mut pyo3_ffi::PyObject,
        ) -> *mut pyo3_ffi::PyObject {
            let passed = $crate::python::class::Passed { arguments, count, names };
            // SAFETY: CPython calls it as the method of an instance.
            unsafe { $crate::python::class::call_method::<$class>(slf, passed, $keyword, $function) }
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
            let passed = $crate::python::class::Passed { arguments, count, names };
            // SAFETY: CPython calls it.
            unsafe { $crate::python::class::call_function(passed, $function) }
        }
        $crate::python::class::Method { name: $name, shim, doc: $doc }
    }};
}

/// An [`Attribute`] from a function.
macro_rules! attribute {
    ($class:ty, $name:literal, $function:expr, $doc:literal) => {{
        unsafe extern "C" fn shim(
            slf: *mut pyo3_ffi::PyObject,
            _closure: *mut std::ffi::c_void,
        ) -> *mut pyo3_ffi::PyObject {
            // SAFETY: CPython calls it with an instance.
            unsafe { $crate::python::class::call_slot::<$class>(slf, $function) }
        }
        $crate::python::class::Attribute { name: $name, get: shim, doc: $doc }
    }};
}

/// An `__next__` from a function.
macro_rules! next {
    ($class:ty, $function:expr) => {{
        unsafe extern "C" fn shim(slf: *mut pyo3_ffi::PyObject) -> *mut pyo3_ffi::PyObject {
            // SAFETY: CPython calls it with an instance.
            unsafe { $crate::python::class::call_slot::<$class>(slf, $function) }
        }
        shim
    }};
}

pub(super) use {attribute, function, method, next};

/// Adds functions, made with [`function!`], to a module.
pub(super) fn add_functions<'py>(module: &Object<'py>, functions: Vec<Method>) -> Result<'py, ()> {
    let table = method_table(functions).cast();
    // SAFETY: a module, and a table that ends with a zero and lives as long as the process.
    module.py().check(unsafe { ffi::PyModule_AddFunctions(module.as_ptr(), table) })?;
    Ok(())
}

/// A method on its own, to be bound to objects without a look-up.
pub(super) struct Bound(ffi::PyMethodDef);

// SAFETY: the pointers in it are to statics.
unsafe impl Send for Bound {}
// SAFETY: as above; CPython only reads it.
unsafe impl Sync for Bound {}

impl Bound {
    /// Prepares the callable. It is never freed, as functions may outlive everything else.
    pub(super) fn new(method: &Method) -> &'static Self {
        Box::leak(Box::new(Self(definition(method))))
    }

    /// Binds it to an instance of the class that the method was made for.
    #[inline]
    pub(super) fn to<'py>(&'static self, object: &Object<'py>) -> Result<'py, Object<'py>> {
        let definition = (&raw const self.0).cast_mut();
        // SAFETY: CPython reads the definition, which is never freed.
        unsafe { Object::from_owned(object.py(), ffi::PyCFunction_NewEx(definition, object.as_ptr(), ptr::null_mut())) }
    }
}

const _: () = assert!(mem::size_of::<Option<ffi::vectorcallfunc>>() == mem::size_of::<*mut c_void>());
