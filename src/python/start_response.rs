//! `start_response` and the `write` that it returns. Both are one object, which checks the head and sends the response:
//! called with one argument it is `write`, with more it is `start_response`.

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

/// The result of sending part of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// It was sent, and there is room for more.
    Room,
    /// It was sent. Wait for room before sending more.
    Full,
    /// It was sent, and has ended the response, since Content-Length is reached.
    Complete,
    /// The response had already ended.
    Over,
    /// `start_response` has not been called.
    NotStarted,
    /// The client is gone.
    Gone,
}

/// The progress of a response.
#[derive(Default)]
struct State {
    /// The head, if it has been given and not yet sent.
    head: Option<Head>,
    /// `start_response` has been called.
    started: bool,
    /// The head has been sent.
    head_sent: bool,
    /// The value of Content-Length.
    declared: Option<u64>,
    /// The status is 204 or 304, which have no body.
    status_without_body: bool,
    /// Number of body bytes sent.
    sent: u64,
    /// The application has given more bytes than Content-Length says.
    overlong: bool,
    /// The end has been sent, or nothing may be sent any more.
    over: bool,
    /// The client is gone.
    gone: bool,
}

/// The value of a `start_response` object.
pub(super) struct Response {
    exchange: Arc<Exchange>,
    deferred: Arc<DeferredDecref>,
    /// The name of the application, for messages.
    app: Arc<str>,
    /// The method is HEAD: no body is sent, whatever the application returns.
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

    /// Locks the state. No Python code runs under the lock, so its holder never waits for the GIL.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether `start_response` has been called, so that somebody may have `write`.
    fn is_started(&self) -> bool {
        self.state().started
    }

    /// Whether the head has been sent.
    pub(super) fn is_head_sent(&self) -> bool {
        self.state().head_sent
    }

    /// Whether the end has been sent.
    pub(super) fn is_over(&self) -> bool {
        self.state().over
    }

    /// Whether `length` more bytes reach Content-Length.
    pub(super) fn is_completed_by(&self, length: u64) -> bool {
        let state = self.state();
        let without_body = self.is_head || state.status_without_body || length == 0;
        !without_body && state.declared.is_some_and(|declared| state.sent + length >= declared)
    }

    /// Number of bytes until Content-Length is reached.
    pub(super) fn allowance(&self) -> u64 {
        let state = self.state();
        state.declared.map_or(u64::MAX, |declared| declared.saturating_sub(state.sent))
    }

    /// Forbids sending from now on, also to those who still have `write`.
    pub(super) fn close(&self) {
        let mut state = self.state();
        state.over = true;
        state.head = None;
    }

    /// Cuts a batch to what may be sent, and logs what is cut off.
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

    /// Sends part of a response, with the head if it has not been sent yet. Sends nothing without a head.
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

    /// Sends the last part of a response with its end. Returns the problem, without sending anything, if there is one.
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
        // The Content-Length that a response to GET would have.
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

    /// Whether the client is still there. For an application that sends nothing, and so would not notice.
    pub(super) fn is_heard(&self) -> bool {
        let gone = self.exchange.is_gone();
        if gone {
            self.state().gone = true;
        }
        !gone
    }

    /// Waits until there is room again. Returns false if the client is gone.
    pub(super) fn wait_room(&self, py: Attached<'_>) -> bool {
        let listening = py.detach(|| self.exchange.wait_room()).is_ok();
        // Closes what nginx has sent by now; otherwise python-main would have to do it.
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

/// Returns the exception in an `exc_info`, with its traceback.
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

/// `wsgi.early_hints(headers)`: sends an interim response, unless the head has been sent.
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
