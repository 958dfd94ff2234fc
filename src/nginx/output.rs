//! The response body on its way through nginx's filters, and what becomes free again as it goes.

use std::collections::VecDeque;
use std::os::fd::AsRawFd;
use std::ptr;

use nginx_sys::*;

use super::ffi::{ERROR, wsgi_buf_size};
use super::handler::Context;
use crate::exchange::response::Part;

/// Parts that nginx has not done with, in order, and chain links to use again.
#[derive(Default)]
pub(crate) struct Outgoing {
    pending: VecDeque<Pending>,
    free: Vec<*mut ngx_chain_t>,
}

/// A part and the link of nginx's that points into it.
struct Pending {
    link: *mut ngx_chain_t,
    part: Part,
}

impl Outgoing {
    /// Whether nginx has done with all that it was given.
    pub(crate) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// A link with a buffer, all zero.
    ///
    /// # Safety
    /// `pool` must be the pool of the request that this belongs to.
    unsafe fn link(&mut self, pool: *mut ngx_pool_t) -> Option<*mut ngx_chain_t> {
        // SAFETY: the pool is live; links in `free` are ours, and nginx has done with them.
        unsafe {
            let link = match self.free.pop() {
                Some(link) => link,
                None => {
                    let link = ngx_alloc_chain_link(pool).as_mut()?;
                    link.buf = ngx_pcalloc(pool, size_of::<ngx_buf_t>()).cast::<ngx_buf_t>().as_mut()?;
                    link
                }
            };
            ptr::write_bytes((*link).buf, 0, 1);
            (*link).next = ptr::null_mut();
            Some(link)
        }
    }

    /// Appends `parts` and returns the first of their links.
    ///
    /// # Safety
    /// `r` must be the live request that this belongs to.
    unsafe fn chain(&mut self, r: *mut ngx_http_request_t, parts: Vec<Part>) -> Option<(*mut ngx_chain_t, *mut ngx_buf_t)> {
        let (mut first, mut last) = (ptr::null_mut::<ngx_chain_t>(), ptr::null_mut::<ngx_chain_t>());
        for part in parts.into_iter().filter(|part| part.length() > 0) {
            // SAFETY: as the caller vouches; the link and its buffer are new and ours.
            unsafe {
                let link = self.link((*r).pool)?;
                fill(&mut *(*link).buf, r, &part)?;
                match last.as_mut() {
                    Some(last) => last.next = link,
                    None => first = link,
                }
                last = link;
                self.pending.push_back(Pending { link, part });
            }
        }
        // SAFETY: null or the link just made.
        Some((first, unsafe { last.as_ref() }.map_or(ptr::null_mut(), |last| last.buf)))
    }

    /// Drops the parts that nginx has done with; returns how many bytes they held.
    fn release(&mut self) -> u64 {
        let mut held = 0;
        while let Some(pending) = self.pending.front() {
            // SAFETY: the link and its buffer live in the request's pool.
            if unsafe { wsgi_buf_size((*pending.link).buf) } != 0 {
                break;
            }
            held += pending.part.held();
            self.free.push(pending.link);
            self.pending.pop_front();
        }
        held
    }
}

/// Points `buf` at `part`, which stays where it is while it is pending.
///
/// # Safety
/// `r` must be a live request of the calling thread.
unsafe fn fill(buf: &mut ngx_buf_t, r: *mut ngx_http_request_t, part: &Part) -> Option<()> {
    match part {
        Part::Chunk(chunk) => {
            let bytes = chunk.bytes().as_ptr_range();
            buf.pos = bytes.start.cast_mut();
            buf.last = bytes.end.cast_mut();
            buf.start = buf.pos;
            buf.end = buf.last;
            buf.set_memory(1); // nginx does not write to it: filters that must, copy
        }
        Part::File { file, offset, length } => {
            // SAFETY: as the caller vouches; a null answer is handled.
            unsafe {
                let nginx_file = ngx_pcalloc((*r).pool, size_of::<ngx_file_t>()).cast::<ngx_file_t>().as_mut()?;
                nginx_file.fd = file.as_raw_fd();
                nginx_file.log = (*(*r).connection).log;
                buf.file = nginx_file;
            }
            buf.file_pos = *offset as off_t;
            buf.file_last = offset.saturating_add(*length) as off_t;
            buf.set_in_file(1);
        }
    }
    Some(())
}

/// Sends `parts` through the filters; `last`: they are the end of the body. Returns what the filters say.
///
/// # Safety
/// `r` must be the live request of `context`, its head sent.
pub(crate) unsafe fn send(r: *mut ngx_http_request_t, context: &Context, parts: Vec<Part>, last: bool) -> ngx_int_t {
    // SAFETY: as the caller vouches. No borrow of `out` is held while nginx runs.
    unsafe {
        let Some((first, last_buf)) = context.out.borrow_mut().chain(r, parts) else { return ERROR };
        let Some(buf) = last_buf.as_mut() else {
            return if last { ngx_http_send_special(r, NGX_HTTP_LAST as ngx_uint_t) } else { flush(r, context) };
        };
        if last {
            buf.set_last_buf((r == (*r).main).into());
            buf.set_last_in_chain(1);
        } else {
            buf.set_flush(1);
        }
        let rc = ngx_http_output_filter(r, first);
        release(context);
        rc
    }
}

/// Lets nginx go on with what is pending.
///
/// # Safety
/// As [`send`].
pub(crate) unsafe fn flush(r: *mut ngx_http_request_t, context: &Context) -> ngx_int_t {
    // SAFETY: as the caller vouches.
    let rc = unsafe { ngx_http_output_filter(r, ptr::null_mut()) };
    release(context);
    rc
}

fn release(context: &Context) {
    let held = context.out.borrow_mut().release();
    context.credit(held);
}
