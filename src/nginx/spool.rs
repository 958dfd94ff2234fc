//! What a slow client has not taken yet, in a temporary file: so that no thread waits for it.

use std::fs::File;
use std::io::{self, IoSlice, Write};
use std::mem::ManuallyDrop;
use std::os::fd::FromRawFd;

use nginx_sys::*;

use super::descriptors;
use super::ffi::OK;
use super::file;

/// A temporary file of nginx's, without a name by now; nginx closes it with the request's pool.
pub(crate) struct Spool {
    file: *mut ngx_file_t,
    length: u64,
}

impl Spool {
    /// Creates the file below `path`.
    ///
    /// # Safety
    /// `r` must be a live request of the calling thread, and `path` a path of its configuration.
    pub(crate) unsafe fn create(r: *mut ngx_http_request_t, path: *mut ngx_path_t) -> Option<Self> {
        // SAFETY: as the caller vouches; null answers are handled; the file lives in the request's pool.
        unsafe {
            let file = file::describe(r, -1, b"")?.as_ptr();
            if ngx_create_temp_file(file, path, (*r).pool, 0, 1, 0) != OK {
                return None;
            }
            descriptors::close_on_exec((*file).fd);
            Some(Self { file, length: 0 })
        }
    }

    /// The file, for nginx's buffers.
    pub(crate) fn file(&self) -> *mut ngx_file_t {
        self.file
    }

    /// How much has been written to it, in bytes.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// Appends all of `slices` and returns where they begin; an error when the disk takes no more, and then it may have
    /// taken a part.
    pub(crate) fn append(&mut self, mut slices: &mut [IoSlice<'_>]) -> io::Result<u64> {
        // SAFETY: the descriptor is open as long as the request's pool lives; it is not closed here.
        let file = ManuallyDrop::new(unsafe { File::from_raw_fd((*self.file).fd) });
        let length: usize = slices.iter().map(|slice| slice.len()).sum();
        // nginx says where it reads: the position in the file is the end of what has been written.
        while !slices.is_empty() {
            match (&*file).write_vectored(slices) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => IoSlice::advance_slices(&mut slices, written),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let offset = self.length;
        self.length += length as u64;
        Ok(offset)
    }
}
