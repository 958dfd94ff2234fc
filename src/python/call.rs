//! One call from its job to its end: the application, its result, `close()`.

use std::cell::RefCell;
use std::mem;
use std::sync::Arc;

use super::bytes::Batch;
use super::class::{self, Empty, Instance};
use super::closing::{Closings, Unclosed};
use super::deferred_decref::DeferredDecref;
use super::environ_cache::EnvironCache;
use super::errors::{self, InCall};
use super::file_wrapper;
use super::fork;
use super::interpreter::Python;
use super::object::{Attached, Context, Object, Raised, Result};
use super::start_response::{Response, Sent};
use crate::exchange::Exchange;
use crate::exchange::log::Level;
use crate::exchange::response::{End, Failure, OnDrop};

/// Largest number of copied bytes in one message. A longer body is sent in several messages, at the client's pace.
const MOST_COPIED: usize = 1024 * 1024;

/// Why a response is missing or incomplete.
enum Problem<'py> {
    /// An exception, and where it was raised.
    Raised(&'static str, Raised<'py>),
    /// The application violated WSGI.
    Misuse(String),
}

type Outcome<'py, T> = std::result::Result<T, Problem<'py>>;

/// What a thread keeps from one call to the next.
#[derive(Default)]
pub(super) struct PerThread {
    pub(super) environ_cache: EnvironCache,
    pub(super) closings: RefCell<Closings>,
    /// The last call's start_response, if there is no other reference to it.
    response: Option<Empty<Response>>,
}

impl PerThread {
    pub(super) fn release(self, py: Attached<'_>) {
        self.environ_cache.release(py);
        self.response.into_iter().for_each(|response| response.release(py));
    }
}

/// Runs a call that has begun until it ends.
pub(super) fn run(
    py: Attached<'_>,
    python: &Python,
    deferred: &Arc<DeferredDecref>,
    per_thread: &mut PerThread,
    exchange: &Arc<Exchange>,
) {
    let app = &python.apps[exchange.app()];
    let Some(application) = &app.callable else {
        let record = format!("application \"{}\" could not be imported, see above", app.name);
        return exchange.end(End::Failed(failure(record)));
    };
    let _in_call = InCall::new(exchange.origin());
    let context = &py.fresh_context();
    if let Err(raised) = call(py, python, deferred, per_thread, exchange, application.get(py), context) {
        let record = python.describe(py, &app.name, "exception before the call", &raised);
        exchange.end(End::Failed(failure(record)));
    }
}

/// Prepares environ and start_response, and calls the application with them. Fails if it could not be called.
fn call<'py>(
    py: Attached<'py>,
    python: &Python,
    deferred: &Arc<DeferredDecref>,
    per_thread: &mut PerThread,
    exchange: &Arc<Exchange>,
    application: &Object<'py>,
    context: &Option<Context<'py>>,
) -> Result<'py, ()> {
    let app = &python.apps[exchange.app()].name;
    let pool_environ = python.templates[exchange.pool()].get(py);
    let (template, others) =
        per_thread.environ_cache.template(&python.keys, pool_environ, &exchange.request.base_environ)?;
    let objects = template.lend(py, python, deferred, exchange)?;
    let environ = python.keys.environ(py, &exchange.request, template, others)?;
    let response = Response::new(exchange.clone(), deferred.clone(), app.clone(), environ.is_head);
    let start_response = match per_thread.response.take() {
        Some(empty) => empty.fill(py, response),
        None => class::instantiate(python.classes.response.get(py), response)?,
    };
    if let Some(early_hints) = python.early_hints {
        environ.dict.set_item(python.keys.early_hints.get(py), &early_hints.to(&start_response)?)?;
    }
    let closings = &per_thread.closings;
    let call = Call { py, python, deferred, closings, context, exchange, app, start_response: &start_response };
    call.run(application, environ.dict);
    drop(call);
    per_thread.response = start_response.empty(0);
    // The call is over, so there is nobody to report a lack of memory to.
    let _ = template.take_back(&python.keys, objects);
    Ok(())
}

fn failure(record: String) -> Failure {
    Failure { status: 500, level: Level::Error, record }
}

/// A call that runs.
struct Call<'a, 'py> {
    py: Attached<'py>,
    python: &'a Python,
    deferred: &'a Arc<DeferredDecref>,
    closings: &'a RefCell<Closings>,
    context: &'a Option<Context<'py>>,
    exchange: &'a Arc<Exchange>,
    app: &'a str,
    start_response: &'a Instance<'py, Response>,
}

impl Drop for Call<'_, '_> {
    fn drop(&mut self) {
        // Also after a panic, nothing may be sent after the end.
        self.response().close();
    }
}

impl<'py> Call<'_, 'py> {
    fn response(&self) -> &Response {
        self.start_response.value()
    }

    fn run(&self, application: &Object<'py>, environ: Object<'py>) {
        let result = application.call(&[&environ, self.start_response]);
        // The application owns it now.
        drop(environ);
        let result = result.map_err(|raised| Problem::Raised("exception in the call", raised));
        self.leave_if_child(result.as_ref().err());
        match result {
            Ok(result) => {
                let mut delivered = self.deliver(&result);
                self.leave_if_child(delivered.as_ref().err());
                let outcome = match delivered.as_mut().ok().and_then(Batch::file_done) {
                    Some(done) => {
                        *done = self.close_when_sent(&result);
                        delivered
                    }
                    None => self.close(&result, delivered),
                };
                self.leave_if_child(outcome.as_ref().err());
                self.finish(outcome);
            }
            Err(problem) => self.finish(Err(problem)),
        }
    }

    /// Sends what the application returned, except the last part, which it returns to be sent with the end.
    fn deliver(&self, result: &Object<'py>) -> Outcome<'py, Batch> {
        if result.is_plain_sequence() {
            return self.gather(result);
        }
        if result.is_exactly(self.python.classes.file_wrapper.get(self.py)) {
            let part = file_wrapper::part(self.py, self.python, result, self.response().allowance());
            if let Some(part) = part.map_err(|raised| Problem::Raised("exception in wsgi.file_wrapper", raised))? {
                let mut batch = Batch::default();
                batch.push_file(part);
                return Ok(batch);
            }
        }
        if !result.is_iterable() {
            return Err(Problem::Misuse(format!("it returned {}, which is not iterable", result.type_name())));
        }
        let iterator = result.iter().map_err(in_step)?;
        // The rest of a list is available at once, whichever iterator wraps it.
        if iterator.is_plain_iterator() {
            let batch = self.gather_rest(&iterator)?;
            // A response that reaches its Content-Length need not wait for close().
            if self.response().is_completed_by(batch.length()) {
                self.send(batch)?;
                return Ok(Batch::default());
            }
            return Ok(batch);
        }
        self.stream(&iterator)
    }

    /// Adds all chunks of a list or a tuple.
    fn gather(&self, chunks: &Object<'py>) -> Outcome<'py, Batch> {
        let mut batch = Batch::default();
        let Some(sequence) = chunks.sequence() else { return Ok(batch) };
        let mut index = 0;
        while let Some(chunk) = sequence.item(index) {
            index += 1;
            if !self.gather_one(&mut batch, &chunk)? {
                break;
            }
        }
        Ok(batch)
    }

    /// Adds all remaining chunks of an iterator over a list or a tuple.
    fn gather_rest(&self, iterator: &Object<'py>) -> Outcome<'py, Batch> {
        let mut batch = Batch::default();
        while let Some(chunk) = iterator.next().map_err(in_step)? {
            if !self.gather_one(&mut batch, &chunk)? {
                break;
            }
        }
        Ok(batch)
    }

    /// Adds a chunk. Returns false if no more are wanted.
    fn gather_one(&self, batch: &mut Batch, chunk: &Object<'py>) -> Outcome<'py, bool> {
        self.add(batch, chunk)?;
        if batch.copied() < MOST_COPIED { Ok(true) } else { self.send(mem::take(batch)) }
    }

    /// Sends each chunk as it comes.
    fn stream(&self, iterator: &Object<'py>) -> Outcome<'py, Batch> {
        while let Some(chunk) = iterator.next().map_err(in_step)? {
            let mut batch = Batch::default();
            self.add(&mut batch, &chunk)?;
            drop(chunk);
            let wanted = if batch.length() > 0 { self.send(batch)? } else { self.response().is_heard() };
            if !wanted {
                break;
            }
        }
        Ok(Batch::default())
    }

    fn add(&self, batch: &mut Batch, chunk: &Object<'py>) -> Outcome<'py, ()> {
        if batch.push(chunk, self.deferred) {
            return Ok(());
        }
        Err(Problem::Misuse(format!("it gave a chunk of type {}; only bytes may be sent", chunk.type_name())))
    }

    /// Sends part of the response. Returns false if no more is wanted.
    fn send(&self, batch: Batch) -> Outcome<'py, bool> {
        match self.response().send(batch) {
            // An application may go on after the response is complete. That is an error only if it sends more.
            Sent::Room | Sent::Complete => Ok(true),
            Sent::Full => Ok(self.response().wait_room(self.py)),
            Sent::Over | Sent::Gone => Ok(false),
            Sent::NotStarted => Err(Problem::Misuse("it gave a chunk before it called start_response".into())),
        }
    }

    /// Calls the result's `close()` once, whatever happened before.
    fn close(&self, result: &Object<'py>, delivered: Outcome<'py, Batch>) -> Outcome<'py, Batch> {
        if result.is_plain_sequence() {
            return delivered;
        }
        let closed = close(self.py, self.python, result).map_err(in_close);
        match (delivered, closed) {
            (delivered, Ok(())) => delivered,
            (Ok(_), Err(problem)) => Err(problem),
            (Err(first), Err(second)) => {
                self.log(&second);
                Err(first)
            }
        }
    }

    /// Defers the result's `close()` until the returned value is dropped.
    fn close_when_sent(&self, result: &Object<'py>) -> OnDrop {
        let context = self.context.as_ref().map(Context::object);
        self.closings.borrow_mut().keep(result.clone(), context, self.exchange)
    }

    /// Sends the end.
    fn finish(&self, outcome: Outcome<'py, Batch>) {
        let problem = match outcome {
            Ok(batch) => match self.response().finish(batch) {
                Ok(()) => return,
                Err(misuse) => Problem::Misuse(misuse),
            },
            Err(problem) => problem,
        };
        let response = self.response();
        if response.is_over() {
            // The client has the whole response.
            return self.log(&problem);
        }
        // An application may give up after write() or wsgi.input told it that the client had gone. An interrupted one
        // must.
        let is_expected = self.exchange.is_gone()
            && (self.exchange.was_interrupted()
                || matches!(&problem, Problem::Raised(_, raised) if raised.tells_client_gone()));
        self.exchange.end(if is_expected { End::Complete } else { End::Failed(failure(self.record(&problem))) });
    }

    /// Logs a problem that cannot change the response any more.
    fn log(&self, problem: &Problem<'py>) {
        errors::write(Level::Error, (self.record(problem) + &self.exchange.context()).as_bytes());
    }

    fn record(&self, problem: &Problem<'py>) -> String {
        match problem {
            Problem::Raised(place, raised) => self.python.describe(self.py, self.app, place, raised),
            Problem::Misuse(message) => format!("application \"{}\": {message}", self.app),
        }
    }

    /// Ends a fork of the worker after the application's code has ended in it.
    fn leave_if_child(&self, problem: Option<&Problem<'py>>) {
        if fork::is_child() {
            let raised = match problem {
                Some(Problem::Raised(_, raised)) => Some(raised),
                _ => None,
            };
            self.python.leave_child(self.py, raised);
        }
    }
}

/// Closes a response whose file nginx has finished with, in the context of its call.
pub(super) fn close_sent(py: Attached<'_>, python: &Python, unclosed: Unclosed) {
    let Unclosed { response, context, exchange, .. } = unclosed;
    let _in_call = InCall::new(exchange.origin());
    let _context = context.and_then(|context| py.enter(context.release(py)));
    let closed = close(py, python, &response.release(py));
    if fork::is_child() {
        python.leave_child(py, closed.as_ref().err());
    }
    if let Err(raised) = closed {
        let record = python.describe(py, &python.apps[exchange.app()].name, "exception in close()", &raised);
        errors::write(Level::Error, (record + &exchange.context()).as_bytes());
    }
}

/// Calls `close()` if there is one.
fn close<'py>(py: Attached<'py>, python: &Python, result: &Object<'py>) -> Result<'py, ()> {
    match result.attr_or_none(python.names.close.get(py))? {
        Some(close) => close.call(&[]).map(drop),
        None => Ok(()),
    }
}

fn in_close(raised: Raised<'_>) -> Problem<'_> {
    Problem::Raised("exception in close()", raised)
}

fn in_step(raised: Raised<'_>) -> Problem<'_> {
    Problem::Raised("exception in a step of its response", raised)
}
