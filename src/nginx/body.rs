//! The request body: what nginx has read, copied out of its buffers or a duplicate of its temporary file; or,
//! with `wsgi_request_buffering off`, what it reads while the application runs.

use std::fs::File;
use std::os::fd::BorrowedFd;

use nginx_sys::*;

use super::ffi::{OK, guard, wsgi_reading_body};
use super::handler::{Context, context_of};
use crate::exchange::body::{Body, Segment};
use crate::exchange::inbox::{Broken, Inbox};

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
            let file = File::from(borrowed.try_clone_to_owned().ok()?);
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

/// The client has sent more of a body that streams, or left.
pub(crate) unsafe extern "C" fn read_handler(r: *mut ngx_http_request_t) {
    guard((), || {
        // SAFETY: nginx hands a live request.
        unsafe {
            let Some(context) = context_of(r) else { return };
            match context.exchange().and_then(|exchange| exchange.inbox()) {
                // No room: all that matters is whether the client is still there.
                Some(inbox) if inbox.is_paused() => ngx_http_test_reading(r),
                Some(inbox) => pump(r, &context, inbox),
                None => {}
            }
        }
    });
}

/// Moves what the client sends to the inbox, until there is no more for now, no room, or no body left.
///
/// # Safety
/// `r` must be the live request of `context`, its body read without buffering.
pub(crate) unsafe fn pump(r: *mut ngx_http_request_t, context: &Context, inbox: &Inbox) {
    // SAFETY: as the caller vouches.
    unsafe {
        let mut piece = consume(r);
        loop {
            let whole = wsgi_reading_body(r) == 0;
            let fed = !piece.is_empty();
            let room = inbox.feed(piece);
            if whole {
                inbox.close(Ok(()));
                return context.body_is_whole();
            }
            if !room {
                let read = (*(*r).connection).read;
                if (*read).timer_set() != 0 {
                    ngx_del_timer(read);
                }
                return;
            }
            let rc = ngx_http_read_unbuffered_request_body(r);
            if rc >= NGX_HTTP_SPECIAL_RESPONSE as ngx_int_t {
                if rc == NGX_HTTP_REQUEST_TIME_OUT as ngx_int_t {
                    inbox.close(Err(Broken::TimedOut));
                }
                return context.finish(rc); // which tells the application that the client has gone
            }
            piece = consume(r);
            grow_buffer(r);
            if rc != OK && piece.is_empty() && !fed {
                return; // NGX_AGAIN: the read event tells of more
            }
        }
    }
}

/// What a client that sends fast is read with at a time, in bytes.
const FAST: usize = 64 << 10;

/// Has nginx read more at a time, where a read has filled its buffer and much is still to come. Not of a chunked body:
/// what came behind its end has to fit into a header buffer.
///
/// # Safety
/// As [`pump`]; all that has been read has been consumed.
unsafe fn grow_buffer(r: *mut ngx_http_request_t) {
    // SAFETY: as the caller vouches. The buffer of a body in HTTP/1 is one that bytes are received into; the memory that
    // it had stays in the pool, for whoever still points there.
    unsafe {
        let (Some(body), headers) = ((*r).request_body.as_ref(), &(*r).headers_in) else { return };
        let is_http1 = (*r).http_version < NGX_HTTP_VERSION_20 as ngx_uint_t;
        let Some(buf) = body.buf.as_mut().filter(|_| is_http1 && headers.chunked() == 0) else { return };
        let size = buf.end.addr() - buf.start.addr();
        if buf.last == buf.end && buf.pos == buf.last && size < FAST && body.rest >= FAST as off_t {
            let memory = ngx_palloc((*r).pool, FAST).cast::<u8>();
            if !memory.is_null() {
                (buf.start, buf.pos, buf.last, buf.end) = (memory, memory, memory, memory.add(FAST));
            }
        }
    }
}

/// Copies what nginx has read, and gives its buffers back.
///
/// # Safety
/// As [`pump`].
unsafe fn consume(r: *mut ngx_http_request_t) -> Vec<u8> {
    let mut piece = Vec::new();
    // SAFETY: as the caller vouches; the chain's links and buffers live as long as the request, and a buffer that is
    // empty is one that nginx reads into again.
    unsafe {
        let body = (*r).request_body;
        let mut link = (*body).bufs;
        while let Some(cl) = link.as_mut() {
            let buf = &mut *cl.buf;
            if buf.last > buf.pos {
                piece.extend_from_slice(std::slice::from_raw_parts(buf.pos, buf.last.offset_from(buf.pos) as usize));
                buf.pos = buf.last;
            }
            link = cl.next;
            // As nginx's macro ngx_free_chain().
            cl.next = (*(*r).pool).chain;
            (*(*r).pool).chain = cl;
        }
        (*body).bufs = std::ptr::null_mut();
    }
    piece
}
