//! nginx's structure for an open file, where this module makes one.

use std::fs;
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;
use std::ptr::NonNull;

use nginx_sys::*;

use super::ffi::copy_to_pool;

/// Makes a structure for the file that is open as `fd`, in the request's pool. `name` may be empty, for a file that
/// nginx is about to name. `None`: out of memory.
///
/// nginx writes to `log` and prints `name` up to a NUL, without a look at its length, when it cannot read a file.
///
/// # Safety
/// `r` must be a live request of the calling thread.
pub(super) unsafe fn describe(r: *mut ngx_http_request_t, fd: RawFd, name: &[u8]) -> Option<NonNull<ngx_file_t>> {
    // SAFETY: as the caller vouches; null answers are handled; all other members begin as zero.
    unsafe {
        let mut file = NonNull::new(ngx_pcalloc((*r).pool, size_of::<ngx_file_t>()).cast::<ngx_file_t>())?;
        let members = file.as_mut();
        members.fd = fd;
        members.log = (*(*r).connection).log;
        members.name = copy_to_pool((*r).pool, name)?;
        Some(file)
    }
}

/// The path of the file that is open as `fd`, as an error record may have it.
pub(super) fn path_of(fd: RawFd) -> Vec<u8> {
    let path = fs::read_link(format!("/proc/self/fd/{fd}"));
    let mut path = path.map_or_else(|_| b"a file".to_vec(), |path| path.as_os_str().as_bytes().to_vec());
    path.iter_mut().filter(|byte| byte.is_ascii_control()).for_each(|byte| *byte = b'?');
    path
}
