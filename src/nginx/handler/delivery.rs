//! From the exchange to the client: what the application has sent, and a client that takes it.

use std::ffi::c_void;

use nginx_sys::*;

use super::Context;
use crate::exchange::metrics::Outcome;
use crate::exchange::response::{End, Head};
use crate::exchange::{Delivery, now};
use crate::nginx::accel::{self, Wishes};
use crate::nginx::ffi::{ERROR, OK, wsgi_flush, wsgi_header_only, wsgi_header_sent};
use crate::nginx::{headers, output, request, waker};

impl Context {
    /// Sends what the application has sent to the client.
    fn deliver(&self, delivery: Delivery) {
        let Some(r) = self.request() else { return };
        let Delivery { hints, head, parts, end } = delivery;
        if end.is_none() {
            self.last_activity.set(now());
        }
        for fields in hints {
            self.credit(fields.held());
            // SAFETY: the request lives; nginx sends none for a subrequest.
            self.hinted.set(unsafe { r == (*r).main });
            // SAFETY: the request lives, and its head has not been sent.
            if unsafe { headers::send_hints(r, &fields, self.location()) } == ERROR {
                return self.finish(ERROR);
            }
        }
        let mut small: &[u8] = &[];
        if let Some(head) = head {
            // Before nginx points into it.
            let head = self.head.get_or_init(|| head);
            let Some(rc) = self.send_head(head) else { return };
            if rc == ERROR || rc > OK {
                return self.finish(rc);
            }
            // SAFETY: the request lives: where send_head() has ended it, this is not reached.
            self.discard.set(unsafe { wsgi_header_only(r) } != 0);
            small = head.fields.body();
        }
        let end = match end {
            Some(End::Failed(failure)) if !self.head_sent.get() => return self.fail(&failure, Outcome::Failed),
            end => end,
        };
        let complete = matches!(end, Some(End::Complete));
        let over = if self.discard.get() {
            self.credit(parts.iter().map(|part| part.held()).sum());
            complete.then_some(OK)
        } else if complete && !small.is_empty() {
            // SAFETY: as above.
            Some(unsafe { output::send_whole(r, small) })
        } else {
            // SAFETY: as above.
            unsafe { output::send(r, self, self.location(), parts, complete) }
        };
        match end {
            Some(End::Failed(failure)) => self.fail(&failure, Outcome::Failed),
            _ => self.finish_or_wait(over),
        }
    }

    /// Finishes the request if its output is complete or has failed; otherwise waits for the client to take more.
    fn finish_or_wait(&self, over: Option<ngx_int_t>) {
        match over {
            Some(rc) => self.finish(rc),
            None => self.wait_for_client(),
        }
    }

    /// Sends the head. Returns `None` if nginx answers instead of the application.
    fn send_head(&self, head: &Head) -> Option<ngx_int_t> {
        let r = self.request()?;
        let location = self.location();
        let wishes = Wishes::of(head, location);
        // SAFETY: the request lives.
        if unsafe { wishes.apply(r) }.is_none() {
            return Some(ERROR);
        }
        if let Some(target) = wishes.redirect {
            self.count_response(head.status.into());
            self.detach();
            // SAFETY: detach() has not ended the request, and nobody uses it after this; the count is given back.
            unsafe { ngx_http_finalize_request(r, accel::redirect(r, head, target)) };
            return None;
        }
        // SAFETY: the request lives.
        if unsafe { accel::intercepts(r, head, location) } {
            self.finish(head.status as ngx_int_t);
            return None;
        }
        self.close_if_paused();
        self.buffering.set(wishes.buffering.unwrap_or(location.buffering != 0));
        // SAFETY: as above.
        let rc = unsafe {
            accel::limit_as_configured(r, location);
            headers::send(r, head, location)
        };
        // A filter may have answered otherwise (416) before it got so far.
        // SAFETY: as above.
        self.head_sent.set(unsafe { wsgi_header_sent(r) } != 0);
        if self.head_sent.get() {
            self.count_response(head.status.into());
        }
        Some(rc)
    }

    /// Whether the response of a slow client may go to disk.
    pub(crate) fn buffering(&self) -> bool {
        self.buffering.get()
    }

    /// Handles a client that takes more, or that has not done so for too long.
    pub(super) fn client_writable(&self) {
        let Some(r) = self.request() else { return };
        // SAFETY: the request lives, until this ends it, and with it its connection and events.
        let write = unsafe { &mut *(*(*r).connection).write };
        if write.timedout() != 0 {
            // SAFETY: as above.
            unsafe { (*(*r).connection).set_timedout(1) };
            return self.finish(NGX_HTTP_REQUEST_TIME_OUT as ngx_int_t);
        }
        if !self.head_sent.get() {
            // Nothing is pending but what others send on this connection, or an interim response.
            // SAFETY: as above.
            if self.hinted.get() && unsafe { wsgi_flush(r) } == ERROR {
                self.finish(ERROR);
            }
            return;
        }
        if self.discard.get() {
            return;
        }
        let mut over = None;
        if write.delayed() == 0 {
            self.last_activity.set(now());
            // SAFETY: as above.
            over = unsafe { output::flush(r, self, self.location()) };
        }
        self.finish_or_wait(over);
    }

    /// Continues the output in the next turn of the event loop.
    pub(crate) fn go_on(&self) {
        if self.request().is_some() {
            // SAFETY: the event is the context's own, and stays until detach() has deleted it.
            unsafe { waker::post_next(self.delivery_event.get()) };
        }
    }

    /// Continues the output after `after` microseconds.
    pub(crate) fn look_again(&self, after: u64) {
        // SAFETY: as in go_on(); detach() takes it off the tree.
        unsafe {
            if self.request().is_some() && (*self.delivery_event.get()).timer_set() == 0 {
                ngx_add_timer(self.delivery_event.get(), (after / 1000 + 1) as ngx_msec_t);
            }
        }
    }

    /// Handles the delivery event: sends what the application has sent, or continues the output.
    pub(super) fn turn(&self, delivery: Delivery) {
        if !delivery.is_empty() {
            return self.deliver(delivery);
        }
        let Some(r) = self.request() else { return };
        if !self.discard.get() && !self.out.borrow().is_empty() {
            // SAFETY: the request lives.
            self.finish_or_wait(unsafe { output::flush(r, self, self.location()) });
        }
    }

    /// While output is pending, arms send_timeout and waits until the client can take more.
    fn wait_for_client(&self) {
        let Some(r) = self.request() else { return };
        // SAFETY: the request lives, until this ends it, and with it its connection, events and configuration.
        unsafe {
            let connection = (*r).connection;
            let write = (*connection).write;
            let core = request::core_loc_conf(r);
            if (*connection).data == r.cast::<c_void>() && ngx_handle_write_event(write, (*core).send_lowat) != OK {
                return self.finish(ERROR);
            }
            if (*write).delayed() != 0 {
                return; // limit_rate: nginx's own timer runs
            }
            if (*write).active() != 0 && (*write).ready() == 0 {
                ngx_add_timer(write, (*core).send_timeout);
            } else if (*write).timer_set() != 0 {
                ngx_del_timer(write);
            }
        }
    }

    /// Credits the exchange with `bytes` that it no longer holds.
    pub(crate) fn credit(&self, bytes: u64) {
        if let (1.., Some(exchange)) = (bytes, self.exchange.get()) {
            exchange.credit(bytes);
        }
    }

    /// As [`Self::credit`], for bytes that the client has taken.
    pub(crate) fn taken(&self, bytes: u64) {
        if let (1.., Some(exchange)) = (bytes, self.exchange.get()) {
            exchange.taken(bytes);
        }
    }
}
