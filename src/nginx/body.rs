//! The request body that nginx has read: copied out of its buffers, or a duplicate of its temporary file.

use std::fs::File;
use std::os::fd::{BorrowedFd, OwnedFd};

use nginx_sys::*;

use crate::exchange::body::{Body, Segment};

/// Takes the body of `r`. `None`: no descriptor or memory is left.
///
/// # Safety
/// `r` must be a live request of the calling thread whose body has been read.
pub(crate) unsafe fn take(r: *mut ngx_http_request_t) -> Option<Body> {
    let mut body = Body::default();
    // SAFETY: as the caller vouches: null, or a body whose chain is complete.
    let Some(read) = (unsafe { (*r).request_body.as_ref() }) else { return Some(body) };
    let mut memory = Vec::new();
    let mut link = read.bufs;
    // SAFETY: the chain's links and buffers live as long as the request.
    while let Some(cl) = unsafe { link.as_ref() } {
        // SAFETY: as above.
        let buf = unsafe { &*cl.buf };
        if buf.in_file() != 0 {
            if !memory.is_empty() {
                body.push(Segment::Memory(std::mem::take(&mut memory)));
            }
            // SAFETY: a buffer in a file names that file, which is open as long as the request lives.
            let borrowed = unsafe { BorrowedFd::borrow_raw((*buf.file).fd) };
            let file = File::from(OwnedFd::from(borrowed.try_clone_to_owned().ok()?));
            let (offset, end) = (buf.file_pos as u64, buf.file_last as u64);
            body.push(Segment::File { file, offset, length: end.saturating_sub(offset) });
        } else if !buf.pos.is_null() && buf.last > buf.pos {
            // SAFETY: a buffer in memory holds the bytes from pos to last.
            let bytes = unsafe { std::slice::from_raw_parts(buf.pos, buf.last.offset_from(buf.pos) as usize) };
            memory.extend_from_slice(bytes);
        }
        link = cl.next;
    }
    if !memory.is_empty() {
        body.push(Segment::Memory(memory));
    }
    Some(body)
}
