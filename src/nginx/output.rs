//! The response body on its way through nginx's filters, and what becomes free again as it goes.
//!
//! Parts go to nginx at once while the client keeps up. When it does not, later parts wait in a backlog; and when
//! the application has used up its window, `wsgi_buffering` moves the backlog's memory to a temporary file.

use std::collections::VecDeque;
use std::os::fd::AsRawFd;
use std::ptr;

use nginx_sys::*;
use smallvec::SmallVec;

use super::conf::LocConf;
use super::ffi::{ERROR, OK, wsgi_buf_size};
use super::file;
use super::handler::Context;
use super::log;
use super::spool::Spool;
use crate::exchange::response::{Part, Parts};

/// The response body between the exchange and the client.
#[derive(Default)]
pub(crate) struct Outgoing {
    /// What nginx has been given and has not done with, in order.
    pending: VecDeque<Pending>,
    /// What nginx will be given next.
    backlog: VecDeque<Piece>,
    spool: Option<Spool>,
    /// There can be no spool, or its disk is full: the thread waits from then on.
    spool_failed: bool,
    /// Files of which nginx has read all. Buffers that its filters have made of them still name them: they stay open
    /// until the request's end.
    read: Vec<Part>,
    /// Chain links to use again.
    free: Vec<*mut ngx_chain_t>,
}

/// A piece of the body.
enum Piece {
    /// As the application sent it.
    Part(Part),
    /// A range of the spool, in bytes.
    Spooled { offset: u64, length: u64 },
}

/// A piece and the link of nginx's that points into it.
struct Pending {
    link: *mut ngx_chain_t,
    piece: Piece,
}

/// Pieces that nginx is given at once, in order.
type Given = SmallVec<[Pending; 1]>;

impl Pending {
    fn is_done(&self) -> bool {
        // SAFETY: the link and its buffer live in the request's pool.
        unsafe { wsgi_buf_size((*self.link).buf) == 0 }
    }
}

impl Piece {
    /// How much of the application's window it takes, in bytes.
    fn held(&self) -> u64 {
        match self {
            Piece::Part(part) => part.held(),
            Piece::Spooled { .. } => 0,
        }
    }
}

impl Outgoing {
    /// Whether nothing is left that the client has not taken.
    pub(crate) fn is_empty(&self) -> bool {
        self.pending.is_empty() && self.backlog.is_empty()
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

    /// Makes a chain of pieces, which it adds to `given`; returns its first link and its last buffer, null where there
    /// is none.
    ///
    /// # Safety
    /// `r` must be the live request that this belongs to.
    unsafe fn chain(
        &mut self,
        r: *mut ngx_http_request_t,
        pieces: impl Iterator<Item = Piece>,
        given: &mut Given,
    ) -> Option<(*mut ngx_chain_t, *mut ngx_buf_t)> {
        let (mut first, mut last) = (ptr::null_mut::<ngx_chain_t>(), ptr::null_mut::<ngx_chain_t>());
        for piece in pieces {
            // SAFETY: as the caller vouches; the link and its buffer are ours, and not in use.
            unsafe {
                let link = self.link((*r).pool)?;
                self.fill(&mut *(*link).buf, r, &piece)?;
                match last.as_mut() {
                    Some(last) => last.next = link,
                    None => first = link,
                }
                last = link;
                given.push(Pending { link, piece });
            }
        }
        // SAFETY: null or the link just made.
        Some((first, unsafe { last.as_ref() }.map_or(ptr::null_mut(), |last| last.buf)))
    }

    /// Points `buf` at `piece`, whose bytes stay where they are while it is pending.
    ///
    /// # Safety
    /// `r` must be the live request that this belongs to.
    unsafe fn fill(&self, buf: &mut ngx_buf_t, r: *mut ngx_http_request_t, piece: &Piece) -> Option<()> {
        let (file, offset, length) = match piece {
            Piece::Part(Part::Chunk(chunk)) => {
                point_to(buf, chunk.bytes());
                return Some(());
            }
            // SAFETY: as the caller vouches; a null answer is handled.
            Piece::Part(Part::File { file, offset, length, .. }) => unsafe {
                let fd = file.as_raw_fd();
                (file::describe(r, fd, &file::path_of(fd))?.as_ptr(), *offset, *length)
            },
            Piece::Spooled { offset, length } => (self.spool.as_ref()?.file(), *offset, *length),
        };
        buf.file = file;
        buf.file_pos = offset as off_t;
        buf.file_last = offset.saturating_add(length) as off_t;
        buf.set_in_file(1);
        Some(())
    }

    /// Keeps what nginx has just been given until it has done with it; as a rule that is at once. Returns how many bytes
    /// of the window nothing holds any more.
    fn keep(&mut self, given: Given, last: bool) -> u64 {
        let mut held = 0;
        for pending in given {
            if self.pending.is_empty() && pending.is_done() {
                if !last {
                    self.free.push(pending.link);
                }
                held += self.done_with(pending.piece);
            } else {
                self.pending.push_back(pending);
            }
        }
        held + self.release()
    }

    /// Drops the pieces that nginx has done with; returns how many bytes of the window they held.
    fn release(&mut self) -> u64 {
        let mut held = 0;
        while self.pending.front().is_some_and(Pending::is_done) {
            let Some(pending) = self.pending.pop_front() else { break };
            self.free.push(pending.link);
            held += self.done_with(pending.piece);
        }
        held
    }

    /// Lets go of a piece of which nginx has taken all; returns how many bytes of the window it held.
    fn done_with(&mut self, piece: Piece) -> u64 {
        let held = piece.held();
        if let Piece::Part(part @ Part::File { .. }) = piece {
            self.read.push(part);
        }
        held
    }

    /// Moves the backlog's memory to the spool, as far as that may grow; returns how many bytes of the window it held.
    ///
    /// # Safety
    /// `r` must be the live request that this belongs to, and `location` its configuration.
    unsafe fn spool_backlog(&mut self, r: *mut ngx_http_request_t, location: &LocConf) -> u64 {
        let mut freed = 0;
        let mut kept = VecDeque::with_capacity(self.backlog.len());
        while let Some(piece) = self.backlog.pop_front() {
            // SAFETY: as the caller vouches.
            match unsafe { self.spooled(r, location, &piece) } {
                Some((offset, length)) => {
                    freed += piece.held();
                    match kept.back_mut() {
                        Some(Piece::Spooled { offset: start, length: so_far }) if *start + *so_far == offset => {
                            *so_far += length;
                        }
                        _ => kept.push_back(Piece::Spooled { offset, length }),
                    }
                }
                None => kept.push_back(piece),
            }
        }
        self.backlog = kept;
        freed
    }

    /// Where in the spool the bytes of `piece` are now; `None` when they are not there.
    ///
    /// # Safety
    /// As [`Self::spool_backlog`].
    unsafe fn spooled(&mut self, r: *mut ngx_http_request_t, location: &LocConf, piece: &Piece) -> Option<(u64, u64)> {
        let Piece::Part(Part::Chunk(chunk)) = piece else { return None };
        if self.spool_failed {
            return None;
        }
        let length = chunk.bytes().len() as u64;
        let so_far = self.spool.as_ref().map_or(0, Spool::length);
        if so_far + length > location.max_temp_file_size as u64 {
            return None;
        }
        if self.spool.is_none() {
            // SAFETY: as the caller vouches.
            self.spool = unsafe { Spool::create(r, location.temp_path) };
            self.spool_failed = self.spool.is_none(); // nginx has said why
        }
        match self.spool.as_mut()?.append(chunk.bytes()) {
            Ok(offset) => Some((offset, length)),
            Err(error) => {
                log::write(NGX_LOG_CRIT, &format!("a response cannot be buffered on disk: {error}"));
                self.spool_failed = true;
                None
            }
        }
    }
}

/// Sends `parts` behind what is already on its way; `last`: they are the end of the body. Returns what the filters say.
///
/// # Safety
/// `r` must be the live request of `context`, its head sent, and `location` its configuration.
pub(crate) unsafe fn send(
    r: *mut ngx_http_request_t,
    context: &Context,
    location: &LocConf,
    parts: Parts,
    last: bool,
) -> ngx_int_t {
    let pieces: SmallVec<[Piece; 1]> = parts.into_iter().filter(|part| part.length() > 0).map(Piece::Part).collect();
    let is_free = context.out.borrow().is_empty();
    if is_free && pieces.len() <= 1 {
        // SAFETY: as the caller vouches.
        return unsafe { push(r, context, pieces.into_iter(), last) };
    }
    context.out.borrow_mut().backlog.extend(pieces);
    if is_free || last {
        // SAFETY: as the caller vouches.
        return unsafe { push_backlog(r, context, last) };
    }
    // The client is the slow side: what it has not taken must not hold the thread.
    if context.buffering() && context.exchange().is_some_and(|exchange| exchange.is_full()) {
        // SAFETY: as the caller vouches.
        let freed = unsafe { context.out.borrow_mut().spool_backlog(r, location) };
        context.credit(freed);
    }
    OK
}

/// Sends all of a body, which stays where it is as long as the request lives.
///
/// # Safety
/// `r` must be a live request of the calling thread, its head sent.
pub(crate) unsafe fn send_whole(r: *mut ngx_http_request_t, body: &[u8]) -> ngx_int_t {
    // SAFETY: as the caller vouches; nginx copies the link, and the buffer is in the request's pool.
    unsafe {
        let Some(buf) = ngx_pcalloc((*r).pool, size_of::<ngx_buf_t>()).cast::<ngx_buf_t>().as_mut() else {
            return ERROR;
        };
        point_to(buf, body);
        buf.set_last_buf((r == (*r).main).into());
        buf.set_last_in_chain(1);
        ngx_http_output_filter(r, &mut ngx_chain_t { buf, next: ptr::null_mut() })
    }
}

/// Points a buffer at bytes that nginx may not write to: filters that must, copy.
fn point_to(buf: &mut ngx_buf_t, bytes: &[u8]) {
    let range = bytes.as_ptr_range();
    (buf.pos, buf.last) = (range.start.cast_mut(), range.end.cast_mut());
    (buf.start, buf.end) = (buf.pos, buf.last);
    buf.set_memory(1);
}

/// Hands the backlog to nginx: all of it if it is the `last`, else as long as the client keeps up, in steps of half a
/// window, so that the thread makes more while the client is sent what there is.
///
/// # Safety
/// As [`send`].
unsafe fn push_backlog(r: *mut ngx_http_request_t, context: &Context, last: bool) -> ngx_int_t {
    let step = context.exchange().filter(|_| !last).map_or(u64::MAX, |exchange| exchange.window() / 2);
    loop {
        let (pieces, is_all) = {
            let backlog = &mut context.out.borrow_mut().backlog;
            let mut held = 0;
            let end = backlog.iter().position(|piece| {
                held += piece.held();
                held >= step
            });
            let rest = backlog.split_off(end.map_or(backlog.len(), |end| end + 1));
            let is_all = rest.is_empty();
            (std::mem::replace(backlog, rest), is_all)
        };
        // SAFETY: as the caller vouches.
        let rc = unsafe { push(r, context, pieces.into_iter(), last) };
        if rc == ERROR || is_all || !context.out.borrow().pending.is_empty() {
            return rc;
        }
    }
}

/// Hands pieces to nginx.
///
/// # Safety
/// As [`send`].
unsafe fn push(
    r: *mut ngx_http_request_t,
    context: &Context,
    pieces: impl Iterator<Item = Piece>,
    last: bool,
) -> ngx_int_t {
    let mut given = Given::new();
    // SAFETY: as the caller vouches. No borrow of `out` is held while nginx runs.
    unsafe {
        let Some((first, last_buf)) = context.out.borrow_mut().chain(r, pieces, &mut given) else { return ERROR };
        let rc = match last_buf.as_mut() {
            None if last => return ngx_http_send_special(r, NGX_HTTP_LAST as ngx_uint_t),
            None => ngx_http_output_filter(r, ptr::null_mut()),
            Some(buf) => {
                if last {
                    buf.set_last_buf((r == (*r).main).into());
                    buf.set_last_in_chain(1);
                } else {
                    buf.set_flush(1);
                }
                ngx_http_output_filter(r, first)
            }
        };
        let held = context.out.borrow_mut().keep(given, last);
        context.taken(held);
        rc
    }
}

/// Lets nginx go on with what is pending, and gives it the backlog once that has gone.
///
/// # Safety
/// As [`send`].
pub(crate) unsafe fn flush(r: *mut ngx_http_request_t, context: &Context) -> ngx_int_t {
    // SAFETY: as the caller vouches.
    unsafe {
        let rc = ngx_http_output_filter(r, ptr::null_mut());
        release(context);
        let next = {
            let out = context.out.borrow();
            out.pending.is_empty() && !out.backlog.is_empty()
        };
        if rc == ERROR || !next { rc } else { push_backlog(r, context, false) }
    }
}

fn release(context: &Context) {
    let held = context.out.borrow_mut().release();
    context.taken(held);
}
