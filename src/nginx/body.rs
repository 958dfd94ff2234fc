//! The request body: what nginx has read, copied out of its buffers or a duplicate of its temporary file; or,
//! with `wsgi_request_buffering off`, what it reads while the application runs.

use std::fs::File;
use std::os::fd::BorrowedFd;
use std::{mem, ptr, slice};

use nginx_sys::*;

use super::ffi::{OK, bytes, guard, wsgi_discard_body, wsgi_reading_body, wsgi_request_body_no_buffering};
use super::handler::{Context, context_of};
use crate::exchange::body::{Body, Segment};
use crate::exchange::inbox::{Broken, Inbox, PIECE};
use crate::exchange::piece::Piece;

const GET: ngx_uint_t = NGX_HTTP_GET as ngx_uint_t;
const HEAD: ngx_uint_t = NGX_HTTP_HEAD as ngx_uint_t;

/// Whether another module has read of the body, and kept nothing: one that passed it on as it came
/// (`proxy_request_buffering off`), or that discarded it. GET and HEAD then have no body: nginx gives these methods to a
/// request that it redirects, whatever the client's was.
///
/// # Safety
/// `r` must be a live request of the calling thread, in its content phase.
pub(crate) unsafe fn is_lost(r: *mut ngx_http_request_t) -> bool {
    // SAFETY: as the caller vouches; a header lives as long as its request.
    unsafe {
        let request = &*r;
        let announced = request.headers_in.content_length.as_ref().map_or(&[][..], |header| bytes(header.value));
        let is_discarded = wsgi_discard_body(r) != 0
            || (request.headers_in.content_length_n == 0 && announced.iter().any(|byte| matches!(byte, b'1'..=b'9')));
        if !ptr::eq(r, request.main) || !(is_discarded || wsgi_request_body_no_buffering(r) != 0) {
            return false; // a subrequest has its main request's
        }
        if let (GET | HEAD, Some(body)) = (request.method, request.request_body.as_mut()) {
            body.bufs = ptr::null_mut();
        }
        !matches!(request.method, GET | HEAD)
    }
}

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
            let bytes = unsafe { slice::from_raw_parts(buf.pos, buf.last.offset_from(buf.pos) as usize) };
            memory.try_reserve(bytes.len()).ok()?;
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
    // SAFETY: as the caller vouches; the context outlives nginx's reading, and nobody else changes what is in this cell.
    let next = unsafe { receive(r, &mut context.receiving.borrow_mut(), inbox) };
    match next {
        Next::Event => {}
        Next::Whole => context.body_is_whole(),
        Next::Error(rc) => context.finish(rc), // which tells the application that the client has gone
    }
}

/// What there is to be done when nothing more can be received.
enum Next {
    /// To wait: for the client, or for the reader.
    Event,
    /// The body has ended.
    Whole,
    /// The request has to end with this.
    Error(ngx_int_t),
}

/// The work of [`pump`].
///
/// # Safety
/// As there. `receiving` has to stay as this leaves it, as long as nginx reads from the client.
unsafe fn receive(r: *mut ngx_http_request_t, receiving: &mut Piece, inbox: &Inbox) -> Next {
    let mut idle = false;
    loop {
        // SAFETY: as the caller vouches.
        unsafe {
            let Some(came) = consume(r, receiving, inbox) else {
                return Next::Error(NGX_HTTP_INTERNAL_SERVER_ERROR as ngx_int_t);
            };
            if wsgi_reading_body(r) == 0 {
                inbox.feed(mem::take(receiving)); // nginx has no more to receive into it
                inbox.close(Ok(()));
                return Next::Whole;
            }
            if inbox.is_paused() {
                let read = (*(*r).connection).read;
                if (*read).timer_set() != 0 {
                    ngx_del_timer(read);
                }
                return Next::Event;
            }
            if idle && !came {
                // NGX_AGAIN: the read event tells of more. A reader that has to wait for more gets all of it at once.
                if !receiving.is_empty() && !inbox.is_short_of(receiving.len()) {
                    hand_over(&mut *(*r).request_body, receiving, inbox);
                }
                inbox.flush();
                return Next::Event;
            }
            let rc = ngx_http_read_unbuffered_request_body(r);
            if rc >= NGX_HTTP_SPECIAL_RESPONSE as ngx_int_t {
                hand_over(&mut *(*r).request_body, receiving, inbox);
                if rc == NGX_HTTP_REQUEST_TIME_OUT as ngx_int_t {
                    inbox.close(Err(Broken::TimedOut));
                }
                return Next::Error(rc);
            }
            idle = rc != OK && !came;
        }
    }
}

/// Takes what nginx has read, and gives its buffers back. False: that is nothing; `None`: there is no memory for it.
///
/// A client that sends fast is read with memory of the inbox's, which goes there when it is full; else bytes are copied.
///
/// # Safety
/// As [`receive`].
unsafe fn consume(r: *mut ngx_http_request_t, receiving: &mut Piece, inbox: &Inbox) -> Option<bool> {
    let (mut copied, before) = (Vec::<u8>::new(), receiving.len());
    // SAFETY: as the caller vouches; the chain's links and buffers live as long as the request, and a buffer that is
    // empty is one that nginx reads into again. What begins where the next byte is received has been received there.
    unsafe {
        let body = &mut *(*r).request_body;
        let mut link = body.bufs;
        while let Some(cl) = link.as_mut() {
            let buf = &mut *cl.buf;
            let length = buf.last.addr().saturating_sub(buf.pos.addr());
            let is_next = ptr::eq(buf.pos, receiving.start().wrapping_add(receiving.len()));
            if is_next && copied.is_empty() && length <= receiving.room() - receiving.len() {
                receiving.grow(length);
            } else if length > 0 {
                copied.try_reserve(length).ok()?;
                copied.extend_from_slice(slice::from_raw_parts(buf.pos, length));
            }
            buf.pos = buf.last;
            link = cl.next;
            // As nginx's macro ngx_free_chain().
            cl.next = (*(*r).pool).chain;
            (*(*r).pool).chain = cl;
        }
        body.bufs = ptr::null_mut();
        let came = receiving.len() > before || !copied.is_empty();
        if receiving.len() == receiving.room() || !copied.is_empty() {
            hand_over(body, receiving, inbox);
        }
        if !copied.is_empty() {
            inbox.feed(copied);
        }
        if let Some(buf) = body.buf.as_ref() {
            if receiving.room() == 0 && buf.pos == buf.last && buf.last == buf.end && is_fast(&*r, body.rest) {
                *receiving = inbox.spare(0);
                receive_into(body, receiving);
            }
        }
        Some(came)
    }
}

/// Feeds the inbox with what has been received, and has nginx receive into other memory. Little is copied, so that a
/// client that sends little at a time does not fill the inbox with memory that is not used.
///
/// # Safety
/// `body` must be that of a live request, with no bytes in its buffer that have not been taken; `receiving` as in [`receive`].
unsafe fn hand_over(body: &mut ngx_http_request_body_t, receiving: &mut Piece, inbox: &Inbox) {
    if receiving.is_empty() {
        return;
    }
    let next = inbox.spare(receiving.len());
    if next.room() == 0 {
        inbox.feed(receiving.bytes().to_vec());
        receiving.clear();
        // SAFETY: as the caller vouches.
        return unsafe { receive_into(body, receiving) };
    }
    let piece = mem::replace(receiving, next);
    // SAFETY: as the caller vouches. It is done before anybody else has the memory that nginx received into.
    unsafe { receive_into(body, receiving) };
    if piece.is_worth_its_memory() {
        inbox.feed(piece);
    } else {
        inbox.feed(piece.bytes().to_vec());
        inbox.give_back(piece);
    }
}

/// Has nginx receive into the memory of an empty piece.
///
/// # Safety
/// `body` must be that of a live request, `receiving` as in [`receive`].
unsafe fn receive_into(body: &mut ngx_http_request_body_t, receiving: &mut Piece) {
    // SAFETY: as the caller vouches.
    if let (Some(buf), 1..) = (unsafe { body.buf.as_mut() }, receiving.room()) {
        let memory = receiving.start();
        (buf.start, buf.pos, buf.last, buf.end) = (memory, memory, memory, memory.wrapping_add(receiving.room()));
    }
}

/// Whether much is still to come of a body that has filled nginx's buffer, and comes alone. Not of a chunked body: what
/// came behind its end has to fit into a header buffer. In HTTP/2 the buffer is not one that bytes are received into.
fn is_fast(r: &ngx_http_request_t, rest: off_t) -> bool {
    let is_http1 = r.http_version < NGX_HTTP_VERSION_20 as ngx_uint_t;
    is_http1 && r.headers_in.chunked() == 0 && rest >= PIECE as off_t
}
