//! Python types whose instances hold a Rust value: the part of the fence round heap types.
//!
//! The value is shared between all threads that have the object, so it is `Sync` and its methods take `&self`.
//! A lock in it is never held while waiting for the interpreter: whoever waits for the lock may have that.

use std::ffi::{CStr, c_int, c_uint, c_void};
use std::marker::PhantomData;
use std::mem::{self, offset_of};
use std::ops::Deref;
use std::ptr;

use pyo3_ffi as ffi;

use super::object::{Attached, Kind, Object, Py, Raised, Result, callback};

/// A Rust type that Python objects can hold.
pub(super) trait Class: Send + Sync + Sized + 'static {
    /// The dotted name of the Python type.
    const NAME: &'static CStr;
    /// Its docstring.
    const DOC: &'static CStr;
    /// Its methods, made with [`super::shim::method!`].
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

/// Slots of a type.
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

/// The layout of an instance.
#[repr(C)]
struct Layout<T> {
    head: ffi::PyObject,
    vectorcall: Option<ffi::vectorcallfunc>,
    /// `None`: see [`Empty`].
    value: Option<T>,
}

/// An instance that has its value.
pub(super) struct Instance<'py, T>(Object<'py>, PhantomData<T>);

impl<T: Class> Instance<'_, T> {
    #[inline]
    pub(super) fn value(&self) -> &T {
        // SAFETY: an instance of `T`'s type, whose value is only taken out together with this.
        unsafe { (*self.0.as_ptr().cast::<Layout<T>>()).value.as_ref().unwrap_unchecked() }
    }

    /// Takes the value out, if there is no other reference to the instance than this one and so many that are known.
    #[inline]
    pub(super) fn empty(self, known: isize) -> Option<Empty<T>> {
        // SAFETY: with the interpreter held, nobody makes a reference out of none (these types have no weak ones), so
        // nobody is in a method of the instance; what may come by the known ones finds it empty.
        unsafe {
            if ffi::Py_REFCNT(self.0.as_ptr()) != 1 + known {
                return None;
            }
            let value = (*self.0.as_ptr().cast::<Layout<T>>()).value.take();
            value.into_iter().for_each(|value| value.release(self.0.py()));
        }
        Some(Empty(self.0.keep(), PhantomData))
    }
}

impl<'py, T> Instance<'py, T> {
    pub(super) fn into_object(self) -> Object<'py> {
        self.0
    }
}

impl<'py, T> Deref for Instance<'py, T> {
    type Target = Object<'py>;

    fn deref(&self) -> &Object<'py> {
        &self.0
    }
}

/// An instance without a value, to be used again: that is cheaper than another one.
pub(super) struct Empty<T>(Py, PhantomData<T>);

impl<T: Class> Empty<T> {
    #[inline]
    pub(super) fn fill(self, py: Attached<'_>, value: T) -> Instance<'_, T> {
        let object = self.0.release(py);
        // SAFETY: an instance of `T`'s type; its value is written with the interpreter held, and nobody has a
        // reference to what was there, as there was nothing.
        unsafe { (*object.as_ptr().cast::<Layout<T>>()).value = Some(value) };
        Instance(object, PhantomData)
    }

    pub(super) fn release(self, py: Attached<'_>) {
        drop(self.0.release(py));
    }
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
        basicsize: size_of::<Layout<T>>() as c_int,
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
        offset: offset_of!(Layout<T>, vectorcall) as isize,
        flags: ffi::Py_READONLY,
        doc: ptr::null(),
    };
    leak(vec![member, ffi::PyMemberDef::default()])
}

/// A new instance of `class`, which [`create`] made for `T`.
#[inline]
pub(super) fn instantiate<'py, T: Class>(class: &Object<'py>, value: T) -> Result<'py, Instance<'py, T>> {
    let (py, call) = (class.py(), T::behaviour().call);
    // SAFETY: `class` is the type of `T`, so the allocation has the layout of `Layout<T>`; it comes zeroed, and
    // nothing looks at the value before it is written.
    unsafe {
        let pointer = ffi::PyType_GenericAlloc(class.as_ptr().cast(), 0);
        if !pointer.is_null() {
            let instance = pointer.cast::<Layout<T>>();
            (&raw mut (*instance).vectorcall).write(call);
            (&raw mut (*instance).value).write(Some(value));
        }
        Ok(Instance(Object::from_owned(py, pointer)?, PhantomData))
    }
}

/// The value in an instance; an exception if it is empty.
///
/// # Safety
/// `object` is an instance of the type that [`create`] made for `T`.
#[inline]
pub(super) unsafe fn value<'a, 'py, T: Class>(object: &'a Object<'py>) -> Result<'py, &'a T> {
    // SAFETY: the caller's promise; the value is not taken out while somebody has a reference to the object.
    let value = unsafe { &(*object.as_ptr().cast::<Layout<T>>()).value };
    value.as_ref().ok_or_else(|| Raised::new(object.py(), Kind::Runtime, "its call has ended"))
}

unsafe extern "C" fn dealloc<T: Class>(pointer: *mut ffi::PyObject) {
    // SAFETY: the last reference to an instance of `T`'s type is gone, so nobody else can reach it; a heap type's
    // instance owns a reference to the type.
    unsafe {
        let class = ffi::Py_TYPE(pointer);
        if T::behaviour().collected {
            ffi::PyObject_GC_UnTrack(pointer.cast());
        }
        let value = ptr::read(&raw const (*pointer.cast::<Layout<T>>()).value);
        callback((), |py| {
            value.into_iter().for_each(|value| value.release(py));
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
        let value = &(*pointer.cast::<Layout<T>>()).value;
        let references = value.as_ref().map(T::references).unwrap_or_default();
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

/// Adds functions, made with [`super::shim::function!`], to a module.
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
