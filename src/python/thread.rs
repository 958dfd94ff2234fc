//! A pool thread's Python side.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;
use std::{mem, ptr};

use pyo3_ffi as ffi;

use super::call::{self, PerThread};
use super::closing::Notify;
use super::interpreter::{Interpreter, Python};
use super::object::Attached;
use super::switch_interval::Wait;
use super::{attach_guard, errors};
use crate::exchange::Job;
use crate::exchange::log::Level;
use crate::exchange::response::{End, Failure};

/// A thread that runs calls. It has one thread state for all its life, so that thread-locals last.
pub struct Thread {
    interpreter: Arc<Interpreter>,
    /// Null without an interpreter.
    state: *mut ffi::PyThreadState,
    ident: u64,
    attached: bool,
    /// How the thread got the GIL, if it has run no call since.
    wait: Wait,
    /// Number of calls that had begun when the thread asked for the GIL.
    calls: u64,
    per_thread: PerThread,
    /// Makes the type neither `Send` nor `Sync`.
    here: PhantomData<*mut ()>,
}

impl std::fmt::Debug for Thread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Thread").field("ident", &self.ident).field("attached", &self.attached).finish_non_exhaustive()
    }
}

impl Thread {
    /// Creates a thread state for the current thread. It is not attached yet.
    pub fn new(interpreter: &Arc<Interpreter>) -> Self {
        attach_guard::check();
        let state = match &interpreter.python {
            // SAFETY: the interpreter lives until python-main has joined this thread.
            Ok(python) => unsafe { ffi::PyThreadState_New(python.state.0) },
            Err(_) => ptr::null_mut(),
        };
        // SAFETY: asks for the number of this very thread.
        let ident = unsafe { ffi::PyThread_get_thread_ident() };
        let interpreter = Arc::clone(interpreter);
        let mut thread = Self {
            interpreter,
            state,
            ident,
            attached: false,
            wait: Wait::default(),
            calls: 0,
            per_thread: PerThread::default(),
            here: PhantomData,
        };
        thread.prepare();
        thread
    }

    /// Gives the Python thread the name of the system's.
    fn prepare(&mut self) {
        let current = std::thread::current();
        self.attach();
        let Ok(python) = &self.interpreter.python else { return };
        if !self.attached {
            return;
        }
        // SAFETY: attached, until the end of this function.
        let py = unsafe { Attached::assume() };
        let _ = py
            .text(current.name().unwrap_or("wsgi"))
            .and_then(|name| python.functions.name_thread.get(py).call(&[&name]));
        self.detach();
    }

    /// Attaches the thread: waits for the GIL.
    #[inline]
    pub fn attach(&mut self) {
        attach_guard::check();
        if !self.attached && !self.state.is_null() {
            self.calls = self.interpreter.python.as_ref().map_or(0, |python| python.switch_interval.calls());
            // SAFETY: this thread's own state, which is not attached.
            unsafe { ffi::PyEval_RestoreThread(self.state) };
            self.attached = true;
        }
    }

    /// Whether the GIL may have been taken from another thread by force, if [`Self::attach`] has waited for `waited`.
    #[inline]
    pub fn was_forced(&mut self, waited: Duration) -> bool {
        let wait = |python: &Python| python.switch_interval.wait(waited, self.calls);
        self.wait = self.interpreter.python.as_ref().map_or_else(|_| Wait::default(), wait);
        self.wait.forced
    }

    /// Notes that the last call of [`Self::run`] is over. The thread is attached.
    #[inline]
    pub fn note_call(&mut self) {
        let wait = mem::take(&mut self.wait);
        if let (Ok(python), true) = (&self.interpreter.python, self.attached) {
            // SAFETY: attached, until after this function at least.
            let py = unsafe { Attached::assume() };
            python.switch_interval.note_call(py, &python.functions, wait);
        }
    }

    /// Detaches the thread: releases the GIL.
    #[inline]
    pub fn detach(&mut self) {
        if self.attached {
            // SAFETY: attached; what it returns is `self.state`.
            unsafe { ffi::PyEval_SaveThread() };
            self.attached = false;
        }
    }

    /// Sets how this thread is made to call [`Self::close_sent`] when there is something to close.
    pub fn set_notify(&mut self, notify: Notify) {
        self.per_thread.closings.borrow_mut().set_notify(notify);
    }

    /// Closes the responses whose files nginx has finished with. The thread is attached.
    pub fn close_sent(&mut self) {
        if let (Ok(python), true) = (&self.interpreter.python, self.attached) {
            // SAFETY: attached, until after this function at least.
            close_due(unsafe { Attached::assume() }, python, &self.per_thread);
        }
    }

    /// Runs a call, unless it has been cancelled. The thread is attached afterwards.
    pub fn run(&mut self, job: Job) {
        let exchange = job.exchange();
        if !exchange.begin() {
            return;
        }
        self.attach();
        let python = match &self.interpreter.python {
            Ok(python) if self.attached => python,
            failed => {
                let reason = failed.as_ref().err().map_or("out of memory", String::as_str);
                let record = format!("Python could not be initialised: {reason}");
                return exchange.end(End::Failed(Failure { status: 500, level: Level::Error, record }));
            }
        };
        // SAFETY: attached just now, until after this function at least.
        let py = unsafe { Attached::assume() };
        python.switch_interval.begin_call(py);
        exchange.set_thread(self.ident);
        if exchange.was_interrupted() {
            py.interrupt(self.ident, python.request_timeout.get(py));
        }
        self.interpreter.deferred.release_all(py);
        call::run(py, python, &self.interpreter.deferred, &mut self.per_thread, exchange);
        if exchange.was_interrupted() {
            py.clear_interrupt(self.ident);
        }
        close_due(py, python, &self.per_thread);
        self.interpreter.deferred.release_all(py);
        if let Some(stray) = py.stray() {
            errors::write(Level::Alert, python.describe(py, "", "an exception was left behind", &stray).as_bytes());
        }
    }
}

fn close_due(py: Attached<'_>, python: &Python, per_thread: &PerThread) {
    // Closing may take long, and other responses may become due before it ends.
    let due = per_thread.closings.borrow_mut().due();
    due.into_iter().for_each(|unclosed| call::close_sent(py, python, unclosed));
}

impl Drop for Thread {
    fn drop(&mut self) {
        if self.state.is_null() {
            return;
        }
        self.attach();
        // SAFETY: attached with this thread's own state, which ends here; Clear needs the interpreter, DeleteCurrent
        // lets it go.
        unsafe {
            let py = Attached::assume();
            self.interpreter.deferred.release_all(py);
            if let Ok(python) = &self.interpreter.python {
                let rest = self.per_thread.closings.borrow_mut().all();
                rest.into_iter().for_each(|unclosed| call::close_sent(py, python, unclosed));
                drop(python.functions.forget_thread.get(py).call(&[]));
            }
            mem::take(&mut self.per_thread).release(py);
            ffi::PyThreadState_Clear(self.state);
            ffi::PyThreadState_DeleteCurrent();
        }
    }
}
