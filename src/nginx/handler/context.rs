//! The module's state of a request.
//!
//! The request refers to its [`Context`]. Calls into nginx may re-enter this module: a filter may finalise the request,
//! and its cleanups run then. So a context is only borrowed shared, and its fields are cells. A function that uses it
//! holds its own reference: the request may end before it returns, and the pool's reference ends with the request.

use std::cell::{Cell, OnceCell, RefCell, UnsafeCell};
use std::ffi::c_void;
use std::mem::{ManuallyDrop, zeroed};
use std::ops::Deref;
use std::ptr::{self, NonNull};
use std::rc::Rc;
use std::sync::Arc;

use nginx_sys::*;

use super::{delivery_handler, request_gone};
use crate::exchange::Exchange;
use crate::exchange::piece::Piece;
use crate::exchange::response::Head;
use crate::nginx::auth_basic;
use crate::nginx::conf::{self, LocConf};
use crate::nginx::deadlines;
use crate::nginx::ffi::guard;
use crate::nginx::module::ngx_http_wsgi_module;
use crate::nginx::output::Outgoing;
use crate::nginx::worker::worker;

/// Largest number of idle contexts that are kept for later requests.
const MOST_IDLE: usize = 64;

/// The module's state of a request.
pub(crate) struct Context {
    /// Returned by [`Context::request`].
    r: *mut ngx_http_request_t,
    /// The configuration of the request's location.
    location: NonNull<LocConf>,
    /// Set when the call is submitted.
    pub(super) exchange: OnceCell<Arc<Exchange>>,
    /// auth_basic has accepted the request's password.
    pub(in crate::nginx) password_is_checked: Cell<bool>,
    /// Posted when the application has sent something, and to go on with the output, now or after a while.
    pub(super) delivery_event: UnsafeCell<ngx_event_t>,
    /// The deadline timer. Every request in flight has one, since a worker that quits waits until no timer is left.
    pub(in crate::nginx) deadline: UnsafeCell<ngx_event_t>,
    /// The request is over or being ended: it must not be used any more, and may be gone.
    detached: Cell<bool>,
    pub(super) head_sent: Cell<bool>,
    /// An interim response has been sent.
    pub(super) hinted: Cell<bool>,
    /// The body is discarded: for HEAD, 204 and 304, or because a filter says so.
    pub(super) discard: Cell<bool>,
    /// The value of `wsgi_buffering`, or of X-Accel-Buffering.
    pub(super) buffering: Cell<bool>,
    /// Time when the application last sent something or the client last took something, in [`crate::exchange::now`]'s microseconds.
    pub(in crate::nginx) last_activity: Cell<u64>,
    /// The inbox's memory into which nginx receives a streamed body, with the bytes that have not been fed yet.
    pub(in crate::nginx) receiving: RefCell<Piece>,
    /// The response's head, and a small body. nginx's structures point into it.
    pub(super) head: OnceCell<Head>,
    /// The response on its way through nginx's filters.
    pub(crate) out: RefCell<Outgoing>,
}

/// A reference to a context. The request's pool has one as long as it lives.
pub(crate) struct Held(ManuallyDrop<Rc<Context>>);

impl Deref for Held {
    type Target = Context;

    fn deref(&self) -> &Context {
        &self.0
    }
}

impl Drop for Held {
    /// Dropping the last reference clears the context and keeps it for another request.
    fn drop(&mut self) {
        // SAFETY: taken once, here.
        let mut context = unsafe { ManuallyDrop::take(&mut self.0) };
        let (Some(over), Some(worker)) = (Rc::get_mut(&mut context), worker()) else { return };
        if let Some(exchange) = over.exchange.take() {
            let memory = over.head.take().map(|head| head.fields.into_memory()).unwrap_or_default();
            worker.recycler.borrow_mut().add(exchange, memory);
        }
        *over = Context::new(ptr::null_mut());
        let mut idle = worker.contexts.borrow_mut();
        if idle.len() < MOST_IDLE {
            idle.push(context);
        }
    }
}

impl Context {
    fn new(r: *mut ngx_http_request_t) -> Self {
        // SAFETY: an event is a struct of pointers, integers and flags, for which zero is nginx's own start.
        let event = || UnsafeCell::new(unsafe { zeroed::<ngx_event_t>() });
        Self {
            r,
            location: NonNull::dangling(),
            exchange: OnceCell::new(),
            password_is_checked: Cell::new(false),
            delivery_event: event(),
            deadline: event(),
            detached: Cell::new(true),
            head_sent: Cell::new(false),
            hinted: Cell::new(false),
            discard: Cell::new(false),
            buffering: Cell::new(false),
            last_activity: Cell::new(0),
            receiving: RefCell::default(),
            head: OnceCell::new(),
            out: RefCell::default(),
        }
    }

    /// Returns the request, or `None` once it has been finished. It lives until [`Self::finish`] is called, directly or
    /// by another method, or until the calling thread returns to nginx.
    pub(in crate::nginx) fn request(&self) -> Option<*mut ngx_http_request_t> {
        (!self.detached.get()).then_some(self.r)
    }

    /// Returns the request, finished or not.
    ///
    /// # Safety
    /// To be called by the request's cleanup, during which it still is there.
    pub(super) unsafe fn request_in_cleanup(&self) -> *mut ngx_http_request_t {
        self.r
    }

    /// Makes [`Self::request`] return `None` from now on.
    pub(super) fn let_go_of_request(&self) {
        self.detached.set(true);
    }

    pub(in crate::nginx) fn location(&self) -> &LocConf {
        // SAFETY: attach(), which everybody has the context from, took it from the request; it lives with the cycle, which a
        // request keeps, and nginx lets go of cycles between two events only.
        unsafe { self.location.as_ref() }
    }
}

/// Returns the context of a request, if it has one.
///
/// # Safety
/// `r` must be a live request of the calling thread.
pub(crate) unsafe fn context_of(r: *const ngx_http_request_t) -> Option<Held> {
    // SAFETY: a request has an entry for every http module; ours is null or a context that the request's pool holds.
    unsafe {
        let context = *(*r).ctx.add((*ptr::addr_of!(ngx_http_wsgi_module)).ctx_index);
        (!context.is_null() && !auth_basic::is_note(context)).then(|| hold(context))
    }
}

/// Returns a reference of the caller's own.
///
/// # Safety
/// `context` must be one that a pool holds at this moment.
pub(in crate::nginx) unsafe fn hold(context: *const c_void) -> Held {
    let context = context.cast::<Context>();
    // SAFETY: it came from an Rc, of which the pool has a reference.
    unsafe {
        Rc::increment_strong_count(context);
        Held(ManuallyDrop::new(Rc::from_raw(context)))
    }
}

/// Runs when the pool of a request is destroyed.
unsafe extern "C" fn let_go(data: *mut c_void) {
    // SAFETY: the pool's own reference, and a pool runs its cleanups once.
    guard((), || drop(Held(ManuallyDrop::new(unsafe { Rc::from_raw(data.cast::<Context>()) }))));
}

/// Attaches a context to a request: an idle one if there is one, else a new one.
///
/// # Safety
/// `r` must be a live request of the calling thread.
pub(super) unsafe fn attach(r: *mut ngx_http_request_t) -> Option<()> {
    let recycled = worker().and_then(|worker| worker.contexts.borrow_mut().pop());
    let mut context = recycled.unwrap_or_else(|| Rc::new(Context::new(r)));
    let own = Rc::get_mut(&mut context)?;
    own.r = r;
    // SAFETY: as the caller vouches.
    own.location = NonNull::from(unsafe { conf::confs_of_request(r) }.1);
    // SAFETY: a live request has a pool and a connection with a log; the context stays where it is until the pool is
    // destroyed, which is after the request's cleanups have run.
    unsafe {
        let letting_go = ngx_pool_cleanup_add((*r).pool, 0).as_mut()?;
        let data = Rc::into_raw(context).cast_mut();
        letting_go.handler = Some(let_go);
        letting_go.data = data.cast();
        let cleanup = ngx_http_cleanup_add(r, 0).as_mut()?;
        cleanup.handler = Some(request_gone);
        cleanup.data = data.cast();
        for (event, handler) in [
            ((*data).delivery_event.get(), delivery_handler as unsafe extern "C" fn(*mut ngx_event_t)),
            ((*data).deadline.get(), deadlines::handler),
        ] {
            (*event).data = data.cast();
            (*event).handler = Some(handler);
            (*event).log = (*(*r).connection).log;
        }
        let place = (*r).ctx.add((*ptr::addr_of!(ngx_http_wsgi_module)).ctx_index);
        (*data).password_is_checked.set(auth_basic::is_note(*place));
        *place = data.cast();
        (*data).detached.set(false);
    }
    Some(())
}
