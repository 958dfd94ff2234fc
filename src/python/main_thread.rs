//! python-main: the thread that initialises the interpreter, imports the applications, and finalises.

use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use pyo3_ffi as ffi;

use super::deferred_decref::DeferredDecref;
use super::interpreter::{self, Interpreter, Python};
use super::object::Attached;
use super::{attach_guard, errors, fork, init, signals};
use crate::exchange::Exchange;
use crate::exchange::log::{self, Level, Origin};
use crate::exchange::spec::Spec;

/// Stack size, in bytes: that of a process's first thread, which Python programs expect.
const STACK: usize = 8 * 1024 * 1024;
/// Additional time for a finalisation that has begun, since it cannot be stopped.
const LAST_GRACE: Duration = Duration::from_secs(2);

/// Serving; the interpreter may be finalised.
const RUNNING: u8 = 0;
/// Being finalised.
const FINALISING: u8 = 1;
/// Given up: the interpreter is never finalised.
const ABANDONED: u8 = 2;

/// What the build of the module determined.
#[derive(Clone, Debug)]
pub struct BuildInfo {
    /// The python that `sys.executable` names, unless there is a virtual environment.
    pub executable: PathBuf,
}

enum Command {
    /// Release the deferred references.
    ReleaseDeferred,
    /// Run the application's handlers of signals that have come.
    Signals,
    /// Log the stack of a call.
    LogStack(Arc<Exchange>, String),
    /// Raise an exception in a call.
    Interrupt(Arc<Exchange>),
    /// Start more threads.
    Spawn(Spawn),
    /// Join the threads, and finalise before the deadline.
    Stop(Instant),
}

/// Starts threads of a pool.
pub type Spawn = Box<dyn FnOnce(&Arc<Interpreter>) -> Vec<JoinHandle<()>> + Send>;

/// The event loop's handle on python-main.
#[derive(Debug)]
pub struct Main {
    commands: Sender<Command>,
    done: Receiver<()>,
    phase: Arc<AtomicU8>,
    thread: Option<JoinHandle<()>>,
}

impl Main {
    /// Starts python-main, which initialises CPython, imports the applications in their order and logs what fails,
    /// then calls `ready`, which starts the threads of the pools. Returns at once.
    pub fn start(
        spec: Spec,
        build: BuildInfo,
        ready: impl FnOnce(&Arc<Interpreter>) -> Vec<JoinHandle<()>> + Send + 'static,
    ) -> io::Result<Self> {
        let (commands, inbox) = mpsc::channel();
        let (finished, done) = mpsc::channel();
        let phase = Arc::new(AtomicU8::new(RUNNING));
        let (release, look) = (commands.clone(), commands.clone());
        let deferred = DeferredDecref::new(Box::new(move || {
            let _ = release.send(Command::ReleaseDeferred);
        }));
        let for_main = Arc::clone(&phase);
        let thread = thread::Builder::new().name("python-main".into()).stack_size(STACK).spawn(move || {
            fork::watch();
            signals::set_look(move || {
                let _ = look.send(Command::Signals);
            });
            let (main, interpreter) = MainThread::initialise(&spec, &build, deferred);
            let mut threads = ready(&interpreter);
            let deadline = main.serve(&interpreter, &inbox, &mut threads);
            for thread in threads {
                let _ = thread.join();
            }
            main.end(interpreter, deadline, &for_main);
            let _ = finished.send(());
        })?;
        Ok(Self { commands, done, phase, thread: Some(thread) })
    }

    /// Makes python-main log the stack of a call, in a record that begins with `why`. Never blocks.
    pub fn log_stack(&self, exchange: Arc<Exchange>, why: String) {
        let _ = self.commands.send(Command::LogStack(exchange, why));
    }

    /// Makes python-main raise `ngx_wsgi.RequestTimeout` in a call, if a thread still runs it then. Never blocks.
    pub fn interrupt(&self, exchange: Arc<Exchange>) {
        let _ = self.commands.send(Command::Interrupt(exchange));
    }

    /// Makes python-main start more threads, which it joins at the end as those of [`Self::start`]. Never blocks.
    pub fn spawn(&self, spawn: Spawn) {
        let _ = self.commands.send(Command::Spawn(spawn));
    }

    /// Joins the threads and finalises the interpreter. The pools must have been stopped before. Returns false if that
    /// takes longer than `within`: Python code may still run then, so leave the process by `_exit`.
    pub fn stop(&mut self, within: Duration) -> bool {
        let Some(thread) = self.thread.take() else { return false };
        let _ = self.commands.send(Command::Stop(Instant::now() + within));
        let mut in_time = self.done.recv_timeout(within).is_ok();
        if !in_time && self.abandon() == Err(FINALISING) {
            in_time = self.done.recv_timeout(LAST_GRACE).is_ok();
        }
        if in_time {
            let _ = thread.join();
        }
        in_time
    }

    fn abandon(&self) -> Result<u8, u8> {
        self.phase.compare_exchange(RUNNING, ABANDONED, Ordering::AcqRel, Ordering::Acquire)
    }
}

impl Drop for Main {
    fn drop(&mut self) {
        let _ = self.abandon();
    }
}

/// The state of python-main. Null without an interpreter.
struct MainThread {
    state: *mut ffi::PyThreadState,
}

impl MainThread {
    fn initialise(spec: &Spec, build: &BuildInfo, deferred: Arc<DeferredDecref>) -> (Self, Arc<Interpreter>) {
        let (executable, virtualenvs) = interpreter::executable(spec, &build.executable);
        let mut main = Self { state: std::ptr::null_mut() };
        let python = init::initialise(executable.as_deref()).and_then(|()| {
            // SAFETY: Py_InitializeFromConfig attaches the thread that calls it.
            let py = unsafe { Attached::assume() };
            let made = panic::catch_unwind(AssertUnwindSafe(|| Python::new(py, spec, &virtualenvs)));
            let python = match made {
                Ok(Ok(python)) => Ok(python),
                Ok(Err(raised)) => Err(raised.summary()),
                Err(_) => Err("panic in nginx-wsgi".into()),
            };
            // SAFETY: attached since the initialisation.
            main.state = unsafe { ffi::PyEval_SaveThread() };
            python
        });
        if let Err(reason) = &python {
            let record = format!("Python could not be initialised: {reason}");
            log::write(Level::Alert, Origin::default(), record.as_bytes());
        }
        (main, Arc::new(Interpreter { python, deferred }))
    }

    /// Runs `work` attached.
    fn attached<R>(&self, work: impl for<'py> FnOnce(Attached<'py>) -> R) -> R {
        struct Detach;
        impl Drop for Detach {
            fn drop(&mut self) {
                // SAFETY: attached below; a panic in `work` ends here, too.
                unsafe { ffi::PyEval_SaveThread() };
            }
        }
        // SAFETY: this thread's own state, which is not attached.
        unsafe { ffi::PyEval_RestoreThread(self.state) };
        let _detach = Detach;
        // SAFETY: as just done.
        work(unsafe { Attached::assume() })
    }

    /// Runs commands until one of them is to stop. Returns the deadline of that one.
    fn serve(
        &self,
        interpreter: &Arc<Interpreter>,
        inbox: &Receiver<Command>,
        threads: &mut Vec<JoinHandle<()>>,
    ) -> Instant {
        loop {
            match inbox.recv() {
                Ok(Command::ReleaseDeferred) if !self.state.is_null() => {
                    self.attached(|py| interpreter.deferred.release_all(py));
                }
                Ok(Command::ReleaseDeferred) => {}
                Ok(Command::Signals) => self.handle_signals(interpreter),
                Ok(Command::LogStack(exchange, why)) => self.log_stack(interpreter, &exchange, &why),
                Ok(Command::Interrupt(exchange)) => self.interrupt(interpreter, &exchange),
                Ok(Command::Spawn(spawn)) => threads.extend(spawn(interpreter)),
                Ok(Command::Stop(deadline)) => return deadline,
                // All senders are gone: the handle, and that of `DeferredDecref`.
                Err(_) => loop {
                    thread::park();
                },
            }
        }
    }

    fn handle_signals(&self, interpreter: &Interpreter) {
        let Ok(python) = &interpreter.python else { return };
        self.attached(|py| {
            if let Err(raised) = py.check_signals() {
                let text = python.functions.describe.get(py).call(&[raised.value()]).and_then(|text| text.to_text());
                let text = text.unwrap_or_else(|_| raised.value().type_name());
                errors::write(Level::Error, format!("exception in a signal handler\n{text}").as_bytes());
            }
            errors::flush_lines();
        });
    }

    fn log_stack(&self, interpreter: &Interpreter, exchange: &Exchange, why: &str) {
        let stack = match &interpreter.python {
            // While this thread is attached, the call cannot end, and its thread cannot begin another.
            Ok(python) => self.attached(|py| python.stack(py, exchange.thread()?)),
            Err(_) => None,
        };
        let record = match stack {
            Some(stack) => format!("{why}\n{stack}"),
            None => why.to_owned(),
        };
        log::write(Level::Error, exchange.origin(), record.as_bytes());
    }

    fn interrupt(&self, interpreter: &Interpreter, exchange: &Exchange) {
        let Ok(python) = &interpreter.python else { return };
        self.attached(|py| {
            // As above. If the call ends first, its thread clears the exception before the next call.
            exchange.set_interrupted();
            // A thread that has taken the call but is not attached yet raises the exception itself.
            if let Some(ident) = exchange.thread() {
                py.interrupt(ident, python.request_timeout.get(py));
            }
        });
    }

    /// Finalises the interpreter, unless the event loop has given up by then.
    fn end(&self, interpreter: Arc<Interpreter>, deadline: Instant, phase: &AtomicU8) {
        if self.state.is_null() {
            return;
        }
        if let Ok(python) = &interpreter.python {
            self.attached(|py| drop(python.functions.shut_down.get(py).call(&[])));
        }
        errors::flush_lines();
        let all_back = attach_guard::close(deadline.saturating_duration_since(Instant::now()));
        let mine = phase.compare_exchange(RUNNING, FINALISING, Ordering::AcqRel, Ordering::Acquire).is_ok();
        if !(all_back && mine) {
            loop {
                thread::park();
            }
        }
        // SAFETY: this thread initialised the interpreter; no other of ours can come back into it.
        unsafe {
            ffi::PyEval_RestoreThread(self.state);
            let py = Attached::assume();
            interpreter.deferred.release_all(py);
            if let Some(Interpreter { python: Ok(python), .. }) = Arc::into_inner(interpreter) {
                python.release(py);
            }
            ffi::Py_FinalizeEx();
        }
    }
}
