//! `wsgi.file_wrapper`: an iterable over a file's blocks, and a file that nginx can send by itself.

use std::ffi::CStr;
use std::fs::{File, Metadata};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::ptr;

use pyo3_ffi as ffi;

use super::class::{self, Attribute, Behaviour, Class, Method};
use super::interpreter::Python;
use super::object::{Attached, Borrowed, Object, Py, Raised, Result, callback};
use super::shim::{Call, attribute, method, next};
use crate::exchange::response::{OnDrop, Part};

/// The size of a block when the application names none.
const BLOCK: u64 = 8192;

/// The value in a file wrapper.
pub(super) struct FileWrapper {
    filelike: Py,
    block: Py,
}

/// The part that sends what is left of a result's file, at most `limit` bytes of it. `None`: it must be iterated.
pub(super) fn part<'py>(
    py: Attached<'py>,
    python: &Python,
    result: &Object<'py>,
    limit: u64,
) -> Result<'py, Option<Part>> {
    // SAFETY: the caller has checked the type.
    let wrapper: &FileWrapper = unsafe { class::value(result)? };
    // bootstrap.py knows which files may be sent behind the back of their objects.
    let found = python.functions.sendable.get(py).call(&[wrapper.filelike.get(py)])?;
    let Some(pair) = found.pair() else { return Ok(None) };
    let [Some(descriptor), Some(position)] = pair.map(|item| item.to_index().ok().flatten()) else { return Ok(None) };
    Ok(open_range(descriptor as i32, position as i64, limit).ok().flatten())
}

/// A duplicate of a regular file's descriptor, and the range from `position` on (below 0: from its offset).
fn open_range(descriptor: i32, position: i64, limit: u64) -> io::Result<Option<Part>> {
    // SAFETY: a descriptor number and a command; the result is checked.
    let copy = unsafe { libc::fcntl(descriptor, libc::F_DUPFD_CLOEXEC, 3) };
    if copy < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a descriptor that was just made for us.
    let file = unsafe { File::from_raw_fd(copy) };
    let status = file.metadata()?;
    if !status.is_file() {
        return Ok(None);
    }
    let offset = if position >= 0 {
        position
    } else {
        // SAFETY: asks a descriptor of our own for its offset.
        unsafe { libc::lseek(file.as_raw_fd(), 0, libc::SEEK_CUR) }
    };
    let offset = u64::try_from(offset).map_err(|_| io::Error::last_os_error())?;
    let length = status.len().saturating_sub(offset).min(limit);
    Ok(has_its_size(&file, &status, offset + length).then(|| Part::File {
        file,
        offset,
        length,
        done: OnDrop::default(),
    }))
}

/// Whether the file is as long as its size says, up to `end` at least. Those that a kernel makes up as they are read are
/// not: they say 0 (/proc), or a page (/sys), and take no room on any disk.
fn has_its_size(file: &File, status: &Metadata, end: u64) -> bool {
    let is_doubtful = status.blocks() == 0;
    let has_last_byte = || end == 0 || matches!(file.read_at(&mut [0], end - 1), Ok(1));
    status.len() > 0 && (!is_doubtful || has_last_byte())
}

fn names<'py>(py: Attached<'py>) -> Result<'py, (Object<'py>, Object<'py>)> {
    Ok((py.interned("read")?, py.interned("close")?))
}

fn next_block<'py>(py: Attached<'py>, this: &FileWrapper) -> Result<'py, Option<Object<'py>>> {
    let read = this.filelike.get(py).attr(&names(py)?.0)?;
    let block = read.call(&[this.block.get(py)])?;
    Ok(block.is_true()?.then_some(block))
}

fn close<'py>(call: &Call<'_, 'py, FileWrapper>) -> Result<'py, Object<'py>> {
    call.nothing("close")?;
    match call.this.filelike.get(call.py).attr_or_none(&names(call.py)?.1)? {
        Some(close) => close.call(&[]),
        None => Ok(call.py.none()),
    }
}

/// `FileWrapper(filelike, blksize=8192)`.
unsafe extern "C" fn new(
    class: *mut ffi::PyTypeObject,
    arguments: *mut ffi::PyObject,
    keywords: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: CPython calls a type with a tuple of arguments and a dict of keywords, or null for none.
    unsafe {
        callback(ptr::null_mut(), |py| {
            let class = Borrowed::new(py, class.cast());
            let (filelike, block) = parse(py, arguments, keywords)?;
            let block = match block {
                Some(block) => block,
                None => py.int(BLOCK)?,
            };
            let value = FileWrapper { filelike: filelike.keep(), block: block.keep() };
            class::instantiate(&class, value).map(|wrapper| wrapper.into_object().into_ptr())
        })
    }
}

type Arguments<'py> = (Object<'py>, Option<Object<'py>>);

/// # Safety
/// A tuple, and a dict or null.
unsafe fn parse<'py>(
    py: Attached<'py>,
    arguments: *mut ffi::PyObject,
    keywords: *mut ffi::PyObject,
) -> Result<'py, Arguments<'py>> {
    let names = [c"filelike".as_ptr(), c"blksize".as_ptr(), ptr::null()];
    let (mut filelike, mut block) = (ptr::null_mut::<ffi::PyObject>(), ptr::null_mut::<ffi::PyObject>());
    // SAFETY: the caller's promise; the format takes one or two objects, which are borrowed from the arguments.
    unsafe {
        let names = names.as_ptr().cast_mut().cast();
        let format = c"O|O:FileWrapper".as_ptr();
        if ffi::PyArg_ParseTupleAndKeywords(arguments, keywords, format, names, &mut filelike, &mut block) == 0 {
            return Err(Raised::fetch(py));
        }
        let block = (!block.is_null()).then(|| Object::from_borrowed(py, block));
        Ok((Object::from_borrowed(py, filelike), block))
    }
}

impl Class for FileWrapper {
    const NAME: &'static CStr = c"ngx_wsgi.FileWrapper";
    const DOC: &'static CStr = c"FileWrapper(filelike, blksize=8192): an iterable over the blocks of a file.";

    fn methods() -> Vec<Method> {
        vec![method!(FileWrapper, c"close", close, c"Close the file.")]
    }

    fn attributes() -> Vec<Attribute> {
        vec![
            attribute!(FileWrapper, c"filelike", |py, this| Ok(Some(this.filelike.get(py).clone())), c"The file."),
            attribute!(FileWrapper, c"blksize", |py, this| Ok(Some(this.block.get(py).clone())), c"Size of a block."),
        ]
    }

    fn behaviour() -> Behaviour {
        Behaviour {
            new: Some(new),
            next: Some(next!(FileWrapper, next_block)),
            collected: true,
            ..Behaviour::default()
        }
    }

    fn references(&self) -> Vec<&Py> {
        vec![&self.filelike, &self.block]
    }

    fn release(self, py: Attached<'_>) {
        drop(self.filelike.release(py));
        drop(self.block.release(py));
    }
}
