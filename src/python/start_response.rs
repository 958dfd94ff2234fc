//! `start_response` and the `write` that it returns: one object, which checks the head and sends what follows. It is
//! called with one argument as `write`, with more as `start_response`.

use std::ffi::CStr;
use std::ptr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyo3_ffi as ffi;

use super::bytes::Batch;
use super::class::{self, Behaviour, Bound, Class, Method};
use super::deferred_decref::DeferredDecref;
use super::head::{self, Start};
use super::object::{Attached, Borrowed, CLIENT_GONE, Kind, Object, Raised, Result, callback};
use super::shim::{Call, method};
use super::{errors, fork};
use crate::exchange::log::Level;
use crate::exchange::response::{End, Head};
use crate::exchange::{Exchange, Gone};

/// What the exchange said to something sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// Go on.
    Room,
    /// Wait for room before the next.
    Full,
    /// Content-Length is reached, and the response has been ended with this message.
    Complete,
    /// It had been ended before.
    Over,
    /// `start_response` has not been called.
    NotStarted,
    /// Nobody listens any more.
    Gone,
}

/// How far a response has come.
#[derive(Default)]
struct State {
    /// Given, and not yet sent.
    head: Option<Head>,
    /// `start_response` has been called.
    started: bool,
    /// The head is out.
    head_sent: bool,
    /// What Content-Length promises.
    declared: Option<u64>,
    /// 204 and 304 have no body.
    status_without_body: bool,
    /// Body bytes sent.
    sent: u64,
    /// More came than Content-Length promises.
    overlong: bool,
    /// The end has been sent, or must not be any more.
    over: bool,
    /// Nobody listens.
    gone: bool,
}

/// The value in a `start_response`.
pub(super) struct Response {
    exchange: Arc<Exchange>,
    deferred: Arc<DeferredDecref>,
    /// The name of the application, for messages.
    app: Arc<str>,
    /// A HEAD request: whatever the application gives, no body is sent.
    is_head: bool,
    state: Mutex<State>,
}

impl Response {
    pub(super) fn new(exchange: Arc<Exchange>, deferred: Arc<DeferredDecref>, app: Arc<str>, is_head: bool) -> Self {
        Self { exchange, deferred, app, is_head, state: Mutex::default() }
    }

    /// `wsgi.early_hints`, to be bound to each response.
    pub(super) fn early_hints_method() -> &'static Bound {
        Bound::new(&method!(Response, c"early_hints", early_hints, c"Send a 103 response with these headers."))
    }

    /// Never held while waiting for the interpreter, as no Python code runs under it.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether somebody may have been given `write`.
    fn is_started(&self) -> bool {
        self.state().started
    }

    /// Whether something has been sent that cannot be taken back.
    pub(super) fn is_head_sent(&self) -> bool {
        self.state().head_sent
    }

    /// Whether the end has been sent.
    pub(super) fn is_over(&self) -> bool {
        self.state().over
    }

    /// Whether Content-Length is reached with so many bytes more.
    pub(super) fn is_completed_by(&self, length: u64) -> bool {
        let state = self.state();
        let without_body = self.is_head || state.status_without_body || length == 0;
        !without_body && state.declared.is_some_and(|declared| state.sent + length >= declared)
    }

    /// How many bytes Content-Length still has room for.
    pub(super) fn allowance(&self) -> u64 {
        let state = self.state();
        state.declared.map_or(u64::MAX, |declared| declared.saturating_sub(state.sent))
    }

    /// Nothing may be sent any more, by whoever still has `write`.
    pub(super) fn close(&self) {
        let mut state = self.state();
        state.over = true;
        state.head = None;
    }

    /// Cuts a batch to what may be sent, and notes what is cut off.
    fn admit(&self, state: &mut State, batch: &mut Batch) {
        if self.is_head || state.status_without_body {
            if !self.is_head && batch.length() > 0 && !state.overlong {
                state.overlong = true;
                self.warn(Level::Error, "a response of this status has no body; what the application gave is dropped");
            }
            return batch.clear();
        }
        let Some(declared) = state.declared else { return };
        let room = declared - state.sent;
        if batch.length() > room {
            self.note_overlong(state, declared);
            batch.truncate(room);
        }
    }

    fn note_overlong(&self, state: &mut State, declared: u64) {
        if !state.overlong {
            state.overlong = true;
            let message = format!("the response is longer than its Content-Length of {declared}; the rest is dropped");
            self.warn(Level::Error, &message);
        }
    }

    fn warn(&self, level: Level, message: &str) {
        let record = format!("application \"{}\": {message}{}", self.app, self.exchange.context());
        errors::write_at(level, self.exchange.origin(), record.as_bytes());
    }

    /// Sends part of a response, the head first if it is not out yet. Without a head there is nothing to send.
    pub(super) fn send(&self, mut batch: Batch) -> Sent {
        let mut state = self.state();
        if state.gone || fork::is_child() {
            return Sent::Gone;
        }
        if state.over {
            if let (Some(declared), 1..) = (state.declared, batch.length()) {
                self.note_overlong(&mut state, declared);
            }
            return Sent::Over;
        }
        if !state.started {
            return Sent::NotStarted;
        }
        self.admit(&mut state, &mut batch);
        let mut head = state.head.take();
        let length = batch.length();
        if head.is_none() && length == 0 {
            return Sent::Room;
        }
        state.head_sent = true;
        state.sent += length;
        let complete = length > 0 && state.declared == Some(state.sent);
        state.over = complete;
        let parts = if complete { batch.into_parts_beside(&mut head) } else { batch.into_parts() };
        match self.exchange.send_all(head, parts, complete.then_some(End::Complete)) {
            Ok(_) if complete => Sent::Complete,
            Ok(true) => Sent::Room,
            Ok(false) => Sent::Full,
            Err(Gone) => {
                state.gone = true;
                Sent::Gone
            }
        }
    }

    /// Sends the last of a response with its end. Err: what is wrong with it, and nothing was sent.
    pub(super) fn finish(&self, mut batch: Batch) -> std::result::Result<(), String> {
        let mut state = self.state();
        if fork::is_child() {
            return Ok(());
        }
        if state.over {
            if let (Some(declared), 1..) = (state.declared, batch.length()) {
                self.note_overlong(&mut state, declared);
            }
            return Ok(());
        }
        if state.gone {
            self.exchange.end(End::Complete);
            return Ok(());
        }
        if !state.started {
            return Err("it has returned without calling start_response".into());
        }
        let whole = (!state.head_sent).then(|| batch.length());
        self.admit(&mut state, &mut batch);
        let sent = state.sent + batch.length();
        let without_body = self.is_head || state.status_without_body;
        if let Some(declared) = state.declared.filter(|&declared| sent < declared && !without_body) {
            return Err(format!("the response ends after {sent} of the {declared} bytes of its Content-Length"));
        }
        // What GET would say of a response that is complete at once: its length.
        if let (Some(length @ 1..), true, None, Some(head)) = (whole, self.is_head, state.declared, &mut state.head) {
            head.fields.push(b"Content-Length", length.to_string().as_bytes());
        }
        state.over = true;
        state.head_sent = true;
        state.sent = sent;
        let mut head = state.head.take();
        if let Some(head) = &mut head {
            head.length = Some(batch.length());
        }
        let parts = batch.into_parts_beside(&mut head);
        state.gone = self.exchange.send_all(head, parts, Some(End::Complete)) == Err(Gone);
        Ok(())
    }

    /// Whether somebody still listens; for an application that has nothing to say, and so would not learn of it.
    pub(super) fn is_heard(&self) -> bool {
        let gone = self.exchange.is_gone();
        if gone {
            self.state().gone = true;
        }
        !gone
    }

    /// Waits until there is room again. False: nobody listens any more.
    pub(super) fn wait_room(&self, py: Attached<'_>) -> bool {
        let listening = py.detach(|| self.exchange.wait_room()).is_ok();
        // What has gone out meanwhile; else python-main would have to.
        self.deferred.release_all(py);
        if !listening {
            self.state().gone = true;
        }
        listening
    }
}

/// `start_response(status, headers, exc_info=None)`.
fn start<'py>(
    py: Attached<'py>,
    this: &Response,
    status: &Object<'py>,
    headers: &Object<'py>,
    exc_info: Option<&Object<'py>>,
) -> Result<'py, ()> {
    let exc_info = exc_info.filter(|exc_info| !exc_info.is_none());
    {
        let state = this.state();
        if state.over {
            return Err(Raised::new(py, Kind::Assertion, "start_response was called after the call had ended"));
        }
        if state.started && exc_info.is_none() {
            // The same object is `write`.
            let (kind, message) = if status.is_text() {
                (Kind::Assertion, "start_response was called a second time, without exc_info")
            } else {
                (Kind::Type, "write() takes exactly one argument (2 given)")
            };
            return Err(Raised::new(py, kind, message));
        }
    }
    if let Some(exc_info) = exc_info {
        let value = exception_of(py, exc_info)?;
        if this.is_head_sent() {
            return Err(Raised::from_value(py, &value));
        }
    }
    let Start { head, declared, dropped } = head::check(py, status, headers, this.exchange.memory())?;
    for name in dropped {
        this.warn(Level::Warn, &format!("the hop-by-hop header {name} is the server's to set; it is dropped"));
    }
    let mut state = this.state();
    if state.head_sent {
        return Err(Raised::new(py, Kind::Assertion, "start_response was called while the head was sent"));
    }
    state.started = true;
    state.declared = declared;
    state.status_without_body = matches!(head.status, 204 | 304);
    state.head = Some(head);
    Ok(())
}

/// The exception in an `exc_info`, with its traceback.
fn exception_of<'py>(py: Attached<'py>, exc_info: &Object<'py>) -> Result<'py, Object<'py>> {
    let value = exc_info.sequence().filter(|sequence| !sequence.list && sequence.len() == 3);
    match value.and_then(|sequence| sequence.item(1)) {
        Some(value) => Ok(value),
        None => Err(Raised::new(py, Kind::Type, "exc_info must be a tuple as sys.exc_info() returns it")),
    }
}

/// `write(data)`.
fn write<'py>(py: Attached<'py>, response: &Response, data: &Object<'py>) -> Result<'py, Object<'py>> {
    let mut batch = Batch::default();
    if !batch.push(data, &response.deferred) {
        let message = format!("write() takes bytes, not {}", data.type_name());
        return Err(Raised::new(py, Kind::Type, &message));
    }
    {
        let state = response.state();
        let exhausted = state.declared.is_some_and(|declared| declared == state.sent);
        if state.over && !exhausted {
            return Err(Raised::new(py, Kind::Runtime, "write() was called after the call had ended"));
        }
    }
    match response.send(batch) {
        Sent::Full if !response.wait_room(py) => Err(gone(py)),
        Sent::Gone => Err(gone(py)),
        _ => Ok(py.none()),
    }
}

/// `wsgi.early_hints(headers)`: an interim response. Behind the head it is nothing.
fn early_hints<'py>(call: &Call<'_, 'py, Response>) -> Result<'py, Object<'py>> {
    let (py, response) = (call.py, call.this);
    fork::refuse_child(py)?;
    let fields = head::check_hints(py, call.only("early_hints")?)?;
    let sent = {
        let state = response.state();
        if state.head_sent || state.over || fields.is_empty() {
            return Ok(py.none());
        }
        response.exchange.send_hints(fields)
    };
    match sent {
        Ok(true) => Ok(py.none()),
        Ok(false) if response.wait_room(py) => Ok(py.none()),
        _ => Err(gone(py)),
    }
}

fn gone(py: Attached<'_>) -> Raised<'_> {
    Raised::new(py, Kind::BrokenPipe, CLIENT_GONE)
}

unsafe extern "C" fn call(
    slf: *mut ffi::PyObject,
    arguments: *const *mut ffi::PyObject,
    flagged_count: usize,
    keywords: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: CPython calls an instance of `Response`'s type by the vectorcall protocol: the positional arguments,
    // then those whose names are in the tuple `keywords`.
    unsafe {
        callback(ptr::null_mut(), |py| {
            let object = Borrowed::new(py, slf);
            let positional = ffi::PyVectorcall_NARGS(flagged_count) as usize;
            let named = if keywords.is_null() { 0 } else { ffi::PyTuple_Size(keywords) as usize };
            let arguments = Borrowed::array(py, arguments, positional + named);
            let by_name = (named == 1).then(|| Borrowed::new(py, ffi::PyTuple_GetItem(keywords, 0)));
            let is_exc_info = by_name.is_some_and(|name| name.as_latin1() == Ok(b"exc_info"));
            let this: &Response = class::value(&object)?;
            fork::refuse_child(py)?;
            match (arguments, named) {
                ([status, headers], 0) => start(py, this, status, headers, None)?,
                ([status, headers, exc_info], 0) => start(py, this, status, headers, Some(exc_info))?,
                ([status, headers, exc_info], 1) if is_exc_info => start(py, this, status, headers, Some(exc_info))?,
                ([data], 0) if this.is_started() => return write(py, this, data).map(Object::into_ptr),
                ([], 0) if this.is_started() => {
                    return Err(Raised::new(py, Kind::Type, "write() takes exactly one argument (0 given)"));
                }
                _ => {
                    let message =
                        "start_response takes two arguments, status and headers, and then exc_info if need be";
                    return Err(Raised::new(py, Kind::Type, message));
                }
            }
            Ok(object.clone().into_ptr())
        })
    }
}

impl Class for Response {
    const NAME: &'static CStr = c"ngx_wsgi.StartResponse";
    const DOC: &'static CStr =
        c"start_response(status, headers, exc_info=None): begin the response; return write(data), which sends bytes.";

    fn methods() -> Vec<Method> {
        Vec::new()
    }

    fn behaviour() -> Behaviour {
        Behaviour { call: Some(call), ..Behaviour::default() }
    }
}
