//! From the exchange to the client: what the application has sent, and a client that takes it.

use std::ffi::c_void;

use nginx_sys::*;

use super::Context;
use crate::exchange::response::{End, Head};
use crate::exchange::tally::Outcome;
use crate::exchange::{Delivery, now};
use crate::nginx::accel::{self, Wishes};
use crate::nginx::ffi::{ERROR, OK, wsgi_flush, wsgi_header_only, wsgi_header_sent};
use crate::nginx::{headers, output, request};

// SAFETY of this impl: its methods are called while the request lives, and with it its connection and configuration.
impl Context {
    /// Hands on what the application has sent.
    pub(super) fn deliver(&self, delivery: Delivery) {
        if self.detached.get() || delivery.is_empty() {
            return;
        }
        let Delivery { hints, head, parts, end } = delivery;
        if end.is_none() {
            self.last_activity.set(now());
        }
        for fields in hints {
            self.credit(fields.size());
            // SAFETY: the request lives; nginx sends none for a subrequest.
            self.hinted.set(unsafe { self.r == (*self.r).main });
            // SAFETY: the request lives, and its head has not been sent.
            if unsafe { headers::send_hints(self.r, &fields, self.location()) } == ERROR {
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
            // SAFETY: as above.
            self.discard.set(unsafe { wsgi_header_only(self.r) } != 0);
            small = head.fields.body();
        }
        let end = match end {
            Some(End::Failed(failure)) if !self.head_sent.get() => return self.fail(&failure, Outcome::Failed),
            end => end,
        };
        let complete = matches!(end, Some(End::Complete));
        let rc = if self.discard.get() {
            self.credit(parts.iter().map(|part| part.held()).sum());
            OK
        } else if complete && !small.is_empty() {
            // SAFETY: as above.
            unsafe { output::send_whole(self.r, small) }
        } else {
            // SAFETY: as above.
            unsafe { output::send(self.r, self, self.location(), parts, complete) }
        };
        match end {
            Some(End::Complete) => self.finish(rc),
            Some(End::Failed(failure)) => self.fail(&failure, Outcome::Failed),
            None if rc == ERROR => self.finish(ERROR),
            None => self.wait_for_client(),
        }
    }

    /// Sends the head; `None`: nginx answers in the application's place.
    fn send_head(&self, head: &Head) -> Option<ngx_int_t> {
        let location = self.location();
        let wishes = Wishes::of(head, location);
        // SAFETY: the request lives.
        if unsafe { wishes.apply(self.r) }.is_none() {
            return Some(ERROR);
        }
        if let Some(target) = wishes.redirect {
            self.count_response(head.status.into());
            self.detach();
            // SAFETY: the request lives, and the exchange has been cut off; the count is given back.
            unsafe { ngx_http_finalize_request(self.r, accel::redirect(self.r, head, target)) };
            return None;
        }
        // SAFETY: the request lives.
        if unsafe { accel::intercepts(self.r, head, location) } {
            self.finish(head.status as ngx_int_t);
            return None;
        }
        self.buffering.set(wishes.buffering.unwrap_or(location.buffering != 0));
        // SAFETY: as above.
        let rc = unsafe {
            accel::limit_as_configured(self.r, location);
            headers::send(self.r, head, location)
        };
        // A filter may have answered otherwise (416) before it got so far.
        // SAFETY: as above.
        self.head_sent.set(unsafe { wsgi_header_sent(self.r) } != 0);
        if self.head_sent.get() {
            self.count_response(head.status.into());
        }
        Some(rc)
    }

    /// Whether a slow client's response may go to disk.
    pub(crate) fn buffering(&self) -> bool {
        self.buffering.get()
    }

    /// The client takes more, or has not done so for too long.
    pub(super) fn client_writable(&self) {
        // SAFETY: the request lives, and with it its connection and events.
        let write = unsafe { &mut *(*(*self.r).connection).write };
        if write.timedout() != 0 {
            // SAFETY: as above.
            unsafe { (*(*self.r).connection).set_timedout(1) };
            return self.finish(NGX_HTTP_REQUEST_TIME_OUT as ngx_int_t);
        }
        if !self.head_sent.get() {
            // Nothing is pending but what others send on this connection, or an interim response.
            // SAFETY: as above.
            if self.hinted.get() && unsafe { wsgi_flush(self.r) } == ERROR {
                self.finish(ERROR);
            }
            return;
        }
        if self.discard.get() {
            return;
        }
        if write.delayed() == 0 {
            // SAFETY: as above.
            if unsafe { output::flush(self.r, self) } == ERROR {
                return self.finish(ERROR);
            }
            self.last_activity.set(now());
        }
        self.wait_for_client();
    }

    /// Arms the client's send_timeout while output is pending, and asks to be told when it takes more.
    fn wait_for_client(&self) {
        // SAFETY: the request lives, and with it its connection, events and configuration.
        unsafe {
            let connection = (*self.r).connection;
            let write = (*connection).write;
            let core = request::core_loc_conf(self.r);
            if (*connection).data == self.r.cast::<c_void>() && ngx_handle_write_event(write, (*core).send_lowat) != OK
            {
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

    /// Tells the exchange that `bytes` are off its hands.
    pub(crate) fn credit(&self, bytes: u64) {
        if let (1.., Some(exchange)) = (bytes, self.exchange.get()) {
            exchange.credit(bytes);
        }
    }

    /// As [`Self::credit`]; the client has taken them.
    pub(crate) fn taken(&self, bytes: u64) {
        if let (1.., Some(exchange)) = (bytes, self.exchange.get()) {
            exchange.taken(bytes);
        }
    }
}
