//! The request body: what nginx has read, copied out of its buffers or a duplicate of its temporary file; or,
//! with `wsgi_request_buffering off`, what it reads while the application runs.

use std::fs::File;
use std::os::fd::BorrowedFd;
use std::ptr;

use nginx_sys::*;

use super::ffi::{OK, guard, wsgi_reading_body};
use super::handler::{Context, context_of};
use crate::exchange::body::{Body, Segment};
use crate::exchange::inbox::{Broken, Inbox, PIECE};

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
        let mut piece = consume(r, context, inbox);
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
            piece = consume(r, context, inbox);
            if rc != OK && piece.is_empty() && !fed {
                return inbox.flush(); // NGX_AGAIN: the read event tells of more
            }
        }
    }
}

/// Takes what nginx has read, and gives its buffers back.
///
/// A client that sends fast is read with memory of the inbox's, which goes there as it is; else bytes are copied.
///
/// # Safety
/// As [`pump`].
unsafe fn consume(r: *mut ngx_http_request_t, context: &Context, inbox: &Inbox) -> Vec<u8> {
    let mut piece = Vec::new();
    let mut lent = context.lent.take();
    // SAFETY: as the caller vouches; the chain's links and buffers live as long as the request, and a buffer that is
    // empty is one that nginx reads into again. Memory that is lent is in the context, which outlives nginx's reading, or
    // is replaced here before it goes.
    unsafe {
        let body = &mut *(*r).request_body;
        if let Some(filled) = filled(body, &lent) {
            let next = inbox.spare();
            if next.capacity() > 0 {
                lent.set_len(filled);
                piece = std::mem::replace(&mut lent, next);
                (*(*body.bufs).buf).pos = (*(*body.bufs).buf).last;
            }
        }
        let mut link = body.bufs;
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
        body.bufs = ptr::null_mut();
        if let Some(buf) = body.buf.as_mut().filter(|buf| buf.pos == buf.last) {
            if lent.capacity() == 0 && buf.last == buf.end && is_fast(&*r, body.rest) {
                lent = inbox.spare();
            }
            if lent.capacity() > 0 {
                let memory = lent.as_mut_ptr();
                (buf.start, buf.pos, buf.last, buf.end) = (memory, memory, memory, memory.add(lent.capacity()));
            }
        }
    }
    context.lent.set(lent);
    piece
}

/// Whether much is still to come of a body that has filled nginx's buffer, and comes alone. Not of a chunked body: what
/// came behind its end has to fit into a header buffer. In HTTP/2 the buffer is not one that bytes are received into.
fn is_fast(r: &ngx_http_request_t, rest: off_t) -> bool {
    let is_http1 = r.http_version < NGX_HTTP_VERSION_20 as ngx_uint_t;
    is_http1 && r.headers_in.chunked() == 0 && rest >= PIECE as off_t
}

/// How much of `lent` is filled, in bytes, where that is all that has been read, and enough to part with the memory for.
///
/// # Safety
/// `body` must be that of a live request.
unsafe fn filled(body: &ngx_http_request_body_t, lent: &Vec<u8>) -> Option<usize> {
    // SAFETY: as the caller vouches.
    unsafe {
        let (buf, link) = (body.buf.as_ref()?, body.bufs.as_ref()?);
        let (read, memory) = (&*link.buf, lent.as_ptr());
        let is_all = link.next.is_null() && ptr::eq(read.pos, memory) && ptr::eq(read.last, buf.last);
        let is_consumed = ptr::eq(buf.pos, buf.last) && ptr::eq(buf.start, memory);
        let length = buf.last.addr().checked_sub(memory.addr())?;
        (is_all && is_consumed && (lent.capacity() / 2..=lent.capacity()).contains(&length)).then_some(length)
    }
}
