//! The response body on its way through nginx's filters, and what becomes free again as it goes.
//!
//! Parts go to nginx at once while the client keeps up. When it does not, later parts wait in a backlog (backlog.rs); and
//! when the application has used up its window, `wsgi_buffering` moves the backlog's memory to a temporary file.

use std::collections::VecDeque;
use std::os::fd::AsRawFd;
use std::ptr;

use nginx_sys::*;
use smallvec::SmallVec;

use super::backlog::{AT_ONCE, Backlog, Body, Piece, Pinned, spool_after};
use super::conf::LocConf;
use super::ffi::{ERROR, wsgi_buf_size};
use super::file;
use super::handler::Context;
use crate::exchange::now;
use crate::exchange::response::{Part, Parts};

/// Largest number of bytes of one response that nginx is given in one turn of the event loop, for a client that keeps up.
const MOST_IN_A_TURN: u64 = 2 << 20;

/// A client that takes all that nginx has within this time, in microseconds, keeps up, and its response stays off the disk.
const PATIENCE: u64 = 5_000;

/// The response body between the exchange and the client.
#[derive(Default)]
pub(crate) struct Outgoing {
    /// What nginx has been given and has not done with, in order.
    pending: VecDeque<Pending>,
    /// That it is more memory than [`AT_ONCE`].
    pinned: Option<Pinned>,
    /// Since when something has been pending, where that was of interest; [`now`]'s microseconds.
    stalled: Option<u64>,
    /// What nginx will be given next.
    backlog: Backlog,
    /// The application has ended: the backlog is the end of the body.
    ending: bool,
    /// Files of which nginx has read all. Buffers that its filters have made of them still name them: they stay open
    /// until the request's end.
    read: Vec<Part>,
    /// Chain links to use again.
    free: Vec<*mut ngx_chain_t>,
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

impl Outgoing {
    /// Whether nothing is left that the client has not taken.
    pub(crate) fn is_empty(&self) -> bool {
        self.pending.is_empty() && self.backlog.is_empty()
    }

    /// Whether the application has ended, and some of the body has not been given to nginx.
    pub(crate) fn is_ending(&self) -> bool {
        self.ending
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
        if let Some(bytes) = piece.bytes() {
            point_to(buf, bytes);
            return Some(());
        }
        let (file, offset, length) = match &piece.body {
            // SAFETY: as the caller vouches; a null answer is handled.
            Body::Part(Part::File { file, offset, length, .. }) => unsafe {
                let fd = file.as_raw_fd();
                (file::describe(r, fd, &file::path_of(fd))?.as_ptr(), *offset, *length)
            },
            Body::Spooled { offset, length } => (self.backlog.file()?, *offset, *length),
            _ => return None,
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
        if self.pending.is_empty() {
            (self.pinned, self.stalled) = (None, None);
        }
        held
    }

    /// Lets go of a piece of which nginx has taken all; returns how many bytes of the window it held.
    fn done_with(&mut self, piece: Piece) -> u64 {
        if let Body::Part(part @ Part::File { .. }) = piece.body {
            self.read.push(part);
        }
        piece.held
    }

    /// What nginx is to be given next, in steps of half a window, so that the thread makes more while the client is sent what
    /// there is. With `cut`, it is no more memory than may stay with nginx.
    fn next(&mut self, window: u64, cut: bool) -> SmallVec<[Piece; 1]> {
        let step = window / 2;
        if !cut || step < AT_ONCE {
            return self.backlog.take(step, cut.then_some(AT_ONCE));
        }
        if self.pinned.is_none() && step > AT_ONCE && self.backlog.held() > AT_ONCE {
            self.pinned = Pinned::new(step);
        }
        let at_once = if self.pinned.is_some() { step } else { AT_ONCE };
        self.backlog.take(at_once, Some(at_once))
    }

    /// Whether nginx may have all that is left of a body that has ended: unless it is more memory than a window, and could be
    /// on disk.
    fn may_all_go(&self, goes_to_disk: bool, window: u64) -> bool {
        let pending = self.pending.iter().map(|pending| pending.piece.held).sum();
        let limit = if self.backlog.is_on_disk() { 0 } else { window.saturating_sub(pending) };
        !goes_to_disk || self.backlog.held() <= limit
    }

    /// What nginx has, takes nothing of the window any more; returns how much that was, in bytes.
    fn let_pending_be(&mut self) -> u64 {
        self.pending.iter_mut().map(|pending| std::mem::take(&mut pending.piece.held)).sum()
    }
}

/// Sends `parts` behind what is already on its way; `last`: they are the end of the body. Returns what the request is to be
/// finalised with: an error, or what the filters say to the end; `None`: there is, or may be, more to come.
///
/// # Safety
/// `r` must be the live request of `context`, its head sent, and `location` its configuration.
pub(crate) unsafe fn send(
    r: *mut ngx_http_request_t,
    context: &Context,
    location: &LocConf,
    mut parts: Parts,
    last: bool,
) -> Option<ngx_int_t> {
    let is_whole = |part: &Part| part.length() <= AT_ONCE || !context.buffering() || matches!(part, Part::File { .. });
    if context.out.borrow().is_empty() && parts.len() <= 1 && parts.iter().all(is_whole) {
        // The common case: nothing waits, and the part is small.
        let piece = parts.pop().map(Piece::new);
        // SAFETY: as the caller vouches.
        let rc = unsafe { push(r, context, piece.into_iter(), last) };
        if last || rc == ERROR {
            return Some(rc);
        }
        if context.out.borrow().is_empty() {
            return None;
        }
    } else {
        let mut out = context.out.borrow_mut();
        out.ending = last;
        let joined = parts.into_iter().map(|part| out.backlog.add(part)).sum();
        drop(out);
        context.credit(joined);
    }
    // SAFETY: as the caller vouches.
    unsafe { advance(r, context, location) }
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

/// Hands the backlog to nginx as long as the client keeps up. What one that does not keep up leaves must not hold the
/// thread, nor much memory.
///
/// # Safety
/// As [`send`], which says what is returned.
unsafe fn advance(r: *mut ngx_http_request_t, context: &Context, location: &LocConf) -> Option<ngx_int_t> {
    let Some(exchange) = context.exchange() else { return Some(ERROR) };
    let (window, cut) = (exchange.window(), context.buffering());
    let mut turn = MOST_IN_A_TURN;
    loop {
        let mut out = context.out.borrow_mut();
        let last = out.ending && out.may_all_go(cut && out.backlog.room(location) > 0, window);
        let pieces = match out.pending.is_empty() {
            _ if last => out.backlog.take_all(),
            true if turn > 0 => out.next(window, cut),
            _ => SmallVec::new(),
        };
        out.ending &= !last;
        drop(out);
        if pieces.is_empty() && !last {
            break;
        }
        turn = turn.saturating_sub(pieces.iter().map(|piece| piece.held).sum());
        // SAFETY: as the caller vouches.
        let rc = unsafe { push(r, context, pieces.into_iter(), last) };
        if last || rc == ERROR {
            return Some(rc);
        }
        context.request()?; // a filter may have ended it
    }
    // SAFETY: as the caller vouches.
    unsafe { relieve(r, context, location) };
    None
}

/// Moves what waits for a slow client to disk, if it is more than may be in memory: a step in this turn, and the next in
/// another one.
///
/// # Safety
/// As [`send`].
unsafe fn relieve(r: *mut ngx_http_request_t, context: &Context, location: &LocConf) {
    let Some(exchange) = context.exchange() else { return };
    let mut out = context.out.borrow_mut();
    let mut goes_on = out.pending.is_empty() && !out.backlog.is_empty();
    if context.buffering() && !out.pending.is_empty() && (out.ending || exchange.is_full()) {
        let since = *out.stalled.get_or_insert_with(now);
        let wait = if now() - since < PATIENCE { Some(PATIENCE) } else { spool_after() };
        if let Some(wait) = wait {
            return context.look_again(wait);
        }
        // SAFETY: as the caller vouches.
        let freed = unsafe { out.backlog.spool(r, location) };
        let has_room = out.backlog.room(location) > 0;
        goes_on = out.ending || has_room && out.backlog.held() > 0;
        drop(out);
        exchange.narrow();
        context.credit(freed);
        if has_room && !goes_on && exchange.is_full() {
            let pending = context.out.borrow_mut().let_pending_be();
            context.credit(pending);
        }
    }
    if goes_on {
        context.go_on();
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

/// Lets nginx go on with what is pending, and gives it the backlog once that has gone. Returns what [`send`] does.
///
/// # Safety
/// As [`send`].
pub(crate) unsafe fn flush(r: *mut ngx_http_request_t, context: &Context, location: &LocConf) -> Option<ngx_int_t> {
    // SAFETY: as the caller vouches.
    unsafe {
        let rc = ngx_http_output_filter(r, ptr::null_mut());
        if rc == ERROR {
            return Some(rc);
        }
        let held = context.out.borrow_mut().release();
        context.taken(held);
        advance(r, context, location)
    }
}
