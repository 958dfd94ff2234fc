//! One request on the event loop: from the content handler to its end.
//!
//! context.rs holds the module's state of a request; delivery.rs sends the application's response to the client.

mod context;
mod delivery;

use std::ffi::c_void;
use std::ptr;
use std::sync::Arc;

use nginx_sys::*;

use crate::exchange::inbox::Inbox;
use crate::exchange::log::{Level, Origin};
use crate::exchange::metrics::{Outcome, PoolMetrics};
use crate::exchange::response::{End, Failure};
use crate::exchange::{CallParams, Exchange, now};
use crate::nginx::abandoned::ALL_LOST;
use crate::nginx::conf;
use crate::nginx::ffi::{
    DONE, ERROR, OK, guard, wsgi_count, wsgi_discard_body, wsgi_request_body_no_buffering, wsgi_set_count,
    wsgi_set_keepalive, wsgi_set_log_request, wsgi_set_request_body_no_buffering,
};
use crate::nginx::worker::{Worker, worker};
use crate::nginx::{body, cut_off, headers, log, request, waker};
use context::attach;
pub(in crate::nginx) use context::hold;
pub(crate) use context::{Context, Held, context_of};

const INTERNAL_SERVER_ERROR: ngx_int_t = NGX_HTTP_INTERNAL_SERVER_ERROR as ngx_int_t;
const SERVICE_UNAVAILABLE: u16 = NGX_HTTP_SERVICE_UNAVAILABLE as u16;

/// The content handler of a location with `wsgi_pass`.
pub(crate) unsafe extern "C" fn content_handler(r: *mut ngx_http_request_t) -> ngx_int_t {
    // SAFETY: nginx hands a live request.
    guard(INTERNAL_SERVER_ERROR, || unsafe { start(r) })
}

/// # Safety
/// `r` must be a live request of the calling thread, in its content phase.
unsafe fn start(r: *mut ngx_http_request_t) -> ngx_int_t {
    if worker().is_none() {
        // SAFETY: as the caller vouches.
        unsafe { log::write_for_request(r, Level::Error, b"this process serves no applications") };
        return INTERNAL_SERVER_ERROR;
    }
    // SAFETY: as the caller vouches; the handler takes the body from `r` alone.
    unsafe {
        if attach(r).is_none() {
            return INTERNAL_SERVER_ERROR;
        }
        let location = conf::confs_of_request(r).1;
        if location.pass_request_body == 0 {
            return without_body(r);
        }
        if body::is_lost(r) {
            log::write_for_request(
                r,
                Level::Error,
                b"another module has read the request body: the call cannot be made",
            );
            return INTERNAL_SERVER_ERROR;
        }
        if location.request_buffering == 0 {
            wsgi_set_request_body_no_buffering(r, 1);
        }
        match ngx_http_read_client_request_body(r, Some(body_ready)) {
            rc if rc >= NGX_HTTP_SPECIAL_RESPONSE as ngx_int_t => rc,
            _ => DONE,
        }
    }
}

/// Handles `wsgi_pass_request_body off`: the application sees no body, and nginx discards it.
///
/// # Safety
/// As [`start`].
unsafe fn without_body(r: *mut ngx_http_request_t) -> ngx_int_t {
    // SAFETY: as the caller vouches; the count is the one that reading the body would have taken.
    unsafe {
        match ngx_http_discard_request_body(r) {
            OK => {}
            rc => return rc,
        }
        wsgi_set_count((*r).main, wsgi_count((*r).main) + 1);
        body_ready(r);
    }
    DONE
}

/// Runs when the request ends, or when its client has left.
unsafe extern "C" fn request_gone(data: *mut c_void) {
    // SAFETY: this is the cleanup, installed with the context, which the pool still holds.
    guard((), || unsafe { hold(data).client_gone() });
}

/// Runs when nginx has the whole body.
unsafe extern "C" fn body_ready(r: *mut ngx_http_request_t) {
    guard((), || {
        // SAFETY: nginx hands the live request whose body it has read.
        unsafe {
            let (Some(context), Some(worker)) = (context_of(r), worker()) else {
                return ngx_http_finalize_request(r, INTERNAL_SERVER_ERROR);
            };
            if submit(r, &context, worker).is_none() {
                context.finish(INTERNAL_SERVER_ERROR);
            }
        }
    });
}

/// Takes the snapshot and submits the call to its pool. Returns `None` if memory runs out.
///
/// # Safety
/// `r` must be the live request of `context`.
unsafe fn submit(r: *mut ngx_http_request_t, context: &Context, worker: &Worker) -> Option<()> {
    // SAFETY: as the caller vouches; configurations live with the cycle.
    unsafe {
        let (main, location) = conf::confs_of_request(r);
        let pass = main.pass(location)?;
        let connection = (*r).connection;
        let core = request::core_loc_conf(r);
        let streamed = wsgi_request_body_no_buffering(r) != 0;
        let params = CallParams {
            app: pass.app,
            pool: pass.pool,
            window: location.buffers as u64,
            origin: Origin { connection: (*connection).number, sink: Some(worker.log.sink((*core).error_log)) },
            inbox: streamed.then(|| Box::new(Inbox::new(location.buffers))),
            owner: ptr::from_ref(context).expose_provenance(),
        };
        let entries = worker.recycler.borrow_mut().entries();
        let request = request::snapshot(r, context, main, location, entries)?;
        let exchange = worker.recycler.borrow_mut().exchange(request, params, &worker.completions);
        let _ = context.exchange.set(Arc::clone(&exchange));
        if let Err(exchange) = worker.submit(exchange) {
            let pool = &main.spec.pools[exchange.pool()];
            let full = || format!("the queue of pool \"{}\" is full: queue={}", pool.name, pool.queue);
            let why = if worker.abandoned.has_lost_all(exchange.pool()) { ALL_LOST.to_owned() } else { full() };
            context.refuse(&why, Outcome::QueueFull);
            return Some(());
        }

        (*r).write_event_handler = Some(write_handler);
        context.watch();
        match context.exchange().and_then(|exchange| exchange.inbox()) {
            Some(inbox) => {
                (*r).read_event_handler = Some(body::read_handler);
                body::pump(r, context, inbox);
            }
            None => context.body_is_whole(),
        }
    }
    Some(())
}

/// Posts the delivery event of the request of `exchange`, if the request still exists.
pub(crate) fn post(exchange: &Exchange) {
    let owner = exchange.owner();
    if owner != 0 {
        // SAFETY: the owner is set to the context before the exchange is submitted and cleared, by this thread,
        // before the context goes.
        unsafe { waker::post((*ptr::with_exposed_provenance::<Context>(owner)).delivery_event.get()) };
    }
}

unsafe extern "C" fn delivery_handler(event: *mut ngx_event_t) {
    // SAFETY: the event is that of a context whose request is alive: detach() deletes it from the queue.
    unsafe {
        with_request(event, |context| {
            let Some(exchange) = context.exchange.get() else { return };
            context.turn(exchange.take());
            match (context.request(), exchange.inbox()) {
                (Some(r), Some(inbox)) if inbox.resume() => body::pump(r, context, inbox),
                _ => {}
            }
        });
    }
}

/// # Safety
/// `event` must be one of a context whose request is alive.
pub(super) unsafe fn with_request(event: *mut ngx_event_t, body: impl FnOnce(&Context)) {
    // SAFETY: as the caller vouches; the connection outlives the request, and tells when it is done for.
    unsafe {
        let context = hold((*event).data);
        let Some(r) = context.request() else { return };
        let connection = (*r).connection;
        wsgi_set_log_request(r);
        guard((), || body(&context));
        ngx_http_run_posted_requests(connection);
    }
}

/// Runs when the client takes more of the response, or when it has taken too long.
unsafe extern "C" fn write_handler(r: *mut ngx_http_request_t) {
    guard((), || {
        // SAFETY: nginx hands a live request.
        if let Some(context) = unsafe { context_of(r) } {
            context.client_writable();
        }
    });
}

impl Context {
    /// The exchange, once the call has been submitted.
    pub(crate) fn exchange(&self) -> Option<&Arc<Exchange>> {
        self.exchange.get()
    }

    /// The metrics of the call's pool, once the call has been submitted.
    pub(super) fn metrics(&self) -> Option<&'static PoolMetrics> {
        Some(worker()?.metrics(self.exchange.get()?.pool()))
    }

    fn count(&self, outcome: Outcome) {
        if let Some(metrics) = self.metrics() {
            metrics.count(outcome);
        }
    }

    /// Counts a response with this status.
    pub(super) fn count_response(&self, status: usize) {
        if let Some(metrics) = self.metrics() {
            metrics.count_response(status);
        }
    }

    /// Notes that the whole body has been read. From now on the read event says whether the client has left.
    pub(crate) fn body_is_whole(&self) {
        let Some(r) = self.request() else { return };
        let ignore_abort = self.location().ignore_client_abort != 0;
        // SAFETY: the request lives, and with it its connection: nothing here ends it.
        unsafe {
            if wsgi_discard_body(r) != 0 {
                return; // nginx's own handler reads on
            }
            (*r).read_event_handler = Some(if ignore_abort { ngx_http_block_reading } else { ngx_http_test_reading });
            let read = (*(*r).connection).read;
            if !ignore_abort && (*read).ready() != 0 {
                waker::post(read); // bytes, or an end of file, that came meanwhile
            }
        }
    }

    /// Ends a request whose call failed: with an error response, or by cutting the response off visibly.
    pub(super) fn fail(&self, failure: &Failure, outcome: Outcome) {
        let Some(r) = self.request() else { return };
        self.count(outcome);
        if !failure.record.is_empty() {
            // SAFETY: the request lives, until end().
            unsafe { log::write_for_request(r, failure.level, failure.record.as_bytes()) };
        }
        if self.head_sent.get() {
            return self.end(ERROR);
        }
        self.close_if_paused();
        self.count_response(failure.status.into());
        if failure.status == SERVICE_UNAVAILABLE {
            // SAFETY: as above.
            unsafe { headers::retry_later(r) };
        }
        self.end(ngx_int_t::from(failure.status as i16));
    }

    /// Finalises the request with `rc`: it has been answered, nginx is to answer it, or its client has left. Nobody may
    /// use it afterwards.
    pub(crate) fn finish(&self, rc: ngx_int_t) {
        if rc == ERROR || rc == NGX_HTTP_REQUEST_TIME_OUT as ngx_int_t {
            self.count(Outcome::Aborted);
        } else if rc >= NGX_HTTP_SPECIAL_RESPONSE as ngx_int_t && !self.head_sent.get() {
            self.count_response(rc as usize);
        }
        self.end(rc);
    }

    /// Turns keep-alive off while this worker leaves new connections to its siblings.
    pub(super) fn close_if_paused(&self) {
        if let (true, Some(r)) = (worker().is_some_and(|worker| worker.accept.is_paused()), self.request()) {
            // SAFETY: the request lives.
            unsafe { wsgi_set_keepalive(r, 0) };
        }
    }

    fn end(&self, rc: ngx_int_t) {
        let Some(r) = self.request() else { return };
        // An error response is no longer possible behind a head: cut the connection or the stream.
        let rc = if self.head_sent.get() && rc >= NGX_HTTP_SPECIAL_RESPONSE as ngx_int_t { ERROR } else { rc };
        if rc == ERROR && self.head_sent.get() {
            // SAFETY: the request lives.
            unsafe { cut_off::show(r) };
        }
        if !self.head_sent.get() {
            // SAFETY: as above.
            unsafe { headers::announce_close(r) };
        }
        self.detach();
        // SAFETY: detach() has not ended the request, and nobody uses it after this; the count that
        // read_client_request_body took is given back.
        unsafe { ngx_http_finalize_request(r, rc) };
    }

    /// Handles the end of a request whose call may still run.
    ///
    /// # Safety
    /// To be called by the request's cleanup.
    unsafe fn client_gone(&self) {
        let Some(r) = self.request() else {
            // SAFETY: as the caller vouches, nginx is about to free the request.
            return unsafe { cut_off::show_if_unsent(self.request_in_cleanup()) };
        };
        // SAFETY: the request lives.
        unsafe { cut_off::show(r) };
        self.count(Outcome::Aborted);
        let interrupt = self.location().interrupt_on_abort != 0;
        if let (true, Some(exchange), Some(worker)) = (interrupt, self.exchange.get(), worker()) {
            worker.interrupt(exchange);
            if exchange.is_running() {
                worker.abandoned.add(exchange, now(), false);
            }
        }
        self.detach();
    }

    /// Abandons the exchange, and removes the events from nginx's lists.
    fn detach(&self) {
        let Some(r) = self.request() else { return };
        self.let_go_of_request();
        if let (Some(exchange), Some(worker)) = (self.exchange.get(), worker()) {
            // Only if a thread took the call: a call that was refused or cancelled has freed no thread.
            if let Some(began) = exchange.began() {
                if exchange.is_running() {
                    let (due, interrupt) = self.due(began);
                    worker.abandoned.add(exchange, due, interrupt);
                } else {
                    worker.accept.ended(exchange.pool());
                }
                let until = exchange.ended().unwrap_or_else(now);
                let (queue_time, app_time) = (began.saturating_sub(exchange.submitted()), until.saturating_sub(began));
                worker.metrics(exchange.pool()).observe(queue_time, app_time);
            }
            let (dropped, end) = exchange.abandon();
            if dropped {
                worker.forget(exchange.pool());
            }
            if let Some(End::Failed(failure)) = end {
                // SAFETY: the request still lives: whoever ends it does so after this, and cleanups run before it goes.
                unsafe { log::write_for_request(r, failure.level, failure.record.as_bytes()) };
            }
        }
        // SAFETY: the events are the context's own; nginx's lists are this thread's.
        unsafe {
            for event in [self.deadline.get(), self.delivery_event.get()] {
                if (*event).timer_set() != 0 {
                    ngx_del_timer(event);
                }
            }
            if (*self.delivery_event.get()).posted() != 0 {
                ngx_delete_posted_event(self.delivery_event.get());
            }
        }
    }
}
