//! The deadlines of a call: one nginx timer that fires at the next of them, whatever the threads do.
//!
//! The timer also keeps a worker that quits from leaving before the request is answered.

use std::mem::offset_of;
use std::ptr;

use nginx_sys::*;

use super::handler::{Context, Held, hold, with_request};
use super::worker::worker;
use crate::exchange::log::Level;
use crate::exchange::metrics::Outcome;
use crate::exchange::now;
use crate::exchange::response::Failure;

const SERVICE_UNAVAILABLE: u16 = NGX_HTTP_SERVICE_UNAVAILABLE as u16;
const GATEWAY_TIMEOUT: u16 = NGX_HTTP_GATEWAY_TIME_OUT as u16;

pub(super) unsafe extern "C" fn handler(event: *mut ngx_event_t) {
    // SAFETY: the event is that of a context whose request is alive: it is taken off the tree before that goes.
    unsafe { with_request(event, Context::check_deadlines) };
}

/// Returns the requests of this worker that have a call and have not been answered: those with such a timer.
pub(super) fn all() -> Vec<Held> {
    let mut found = Vec::new();
    // SAFETY: only this thread uses nginx's tree of timers, and nothing here changes it. Its nodes are the field
    // `timer` of an event; our handler's are of a context whose request is alive.
    unsafe {
        let tree = ptr::addr_of_mut!(ngx_event_timer_rbtree);
        let sentinel = (*tree).sentinel;
        let mut node = (*tree).root;
        while node != sentinel && (*node).left != sentinel {
            node = (*node).left;
        }
        while !node.is_null() && node != sentinel {
            let event = node.byte_sub(offset_of!(ngx_event_t, timer)).cast::<ngx_event_t>();
            if (*event).handler.is_some_and(|of_event| of_event as usize == handler as *const () as usize) {
                found.push(hold((*event).data));
            }
            node = ngx_rbtree_next(tree, node);
        }
    }
    found
}

/// Gives up all calls of a pool, or of this worker.
pub(super) fn give_up(pool: Option<usize>, why: &str) {
    for context in all() {
        // An answer may end other requests of its connection.
        let of_pool = context.exchange().is_some_and(|exchange| pool.is_none_or(|pool| exchange.pool() == pool));
        if of_pool && context.request().is_some() {
            // SAFETY: it is not detached, so its request is alive.
            unsafe { with_request(context.deadline.get(), |context| context.give_up(pool.is_none(), why)) };
        }
    }
}

/// Returns the milliseconds since a time of [`now`].
fn since(moment: u64) -> ngx_msec_t {
    (now().saturating_sub(moment) / 1000) as ngx_msec_t
}

impl Context {
    /// Starts the timer when the call has been submitted.
    pub(super) fn watch(&self) {
        // A call may begin at any time without notice, so its own deadlines count from now.
        let location = self.location();
        self.arm(location.queue_timeout.min(location.read_timeout).min(location.whole_timeout()));
    }

    fn check_deadlines(&self) {
        let Some(exchange) = self.exchange() else { return };
        let location = self.location();
        let (read, whole) = (location.read_timeout, location.whole_timeout());
        let Some(began) = exchange.began() else {
            let waited = since(exchange.submitted());
            if waited >= location.queue_timeout {
                let why = format!("the call waited {waited} ms in the queue (wsgi_queue_timeout)");
                return self.refuse(&why, Outcome::QueueTimeout);
            }
            return self.arm((location.queue_timeout - waited).min(read).min(whole));
        };
        if self.out.borrow().is_ending() {
            return self.arm(read); // the call has ended
        }
        let elapsed = since(began);
        if elapsed >= whole {
            let why = format!("the call took {elapsed} ms so far (wsgi_request_timeout)");
            return self.expire(&why, Outcome::RequestTimeout);
        }
        if !self.out.borrow().is_empty() || exchange.inbox().is_some_and(|inbox| inbox.is_awaited()) {
            // The client is the slow side: send_timeout or client_body_timeout watches it.
            self.last_activity.set(now());
            return self.arm(read.min(whole - elapsed));
        }
        let silent = since(self.last_activity.get().max(began));
        if silent >= read {
            let why = format!("the application sent nothing for {silent} ms (wsgi_read_timeout)");
            return self.expire(&why, Outcome::ReadTimeout);
        }
        self.arm((read - silent).min(whole - elapsed));
    }

    fn arm(&self, after: ngx_msec_t) {
        // SAFETY: the event is the context's own and stays put; detach() takes it off the tree before it goes.
        unsafe { ngx_add_timer(self.deadline.get(), after.max(1)) };
    }

    /// Returns when a call that goes on without its request is given up, and whether it is interrupted then.
    pub(super) fn due(&self, began: u64) -> (u64, bool) {
        let location = self.location();
        let after = |moment: u64, timeout: ngx_msec_t| moment.saturating_add((timeout as u64).saturating_mul(1000));
        match location.request_timeout {
            0 => (after(now(), location.read_timeout), false),
            timeout => (after(began, timeout), true),
        }
    }

    /// Answers 503 for a call that waits. Answers 504 for one that runs, if `running` is set.
    fn give_up(&self, running: bool, why: &str) {
        match self.exchange().and_then(|exchange| exchange.began()) {
            None => self.refuse(why, Outcome::QueueTimeout),
            Some(_) if running => self.fail(
                &Failure { status: GATEWAY_TIMEOUT, level: Level::Error, record: why.to_owned() },
                Outcome::ReadTimeout,
            ),
            Some(_) => {}
        }
    }

    /// Answers 504 instead of a call that has run out of time.
    fn expire(&self, why: &str, outcome: Outcome) {
        if let (Some(exchange), Some(worker)) = (self.exchange(), worker()) {
            worker.time_out(exchange, why, outcome == Outcome::RequestTimeout);
        }
        self.fail(&Failure { status: GATEWAY_TIMEOUT, level: Level::Error, record: why.to_owned() }, outcome);
    }

    /// Answers 503 for a call that no thread will take.
    pub(super) fn refuse(&self, why: &str, outcome: Outcome) {
        let record = match worker().and_then(|worker| worker.may_tell_refusal()) {
            Some(0) => why.to_owned(),
            Some(untold) => format!("{why}; {untold} more were refused since the last such line"),
            None => String::new(),
        };
        self.fail(&Failure { status: SERVICE_UNAVAILABLE, level: Level::Warn, record }, outcome);
    }
}
