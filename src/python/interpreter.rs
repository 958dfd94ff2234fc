//! An interpreter, with all Python objects that Rust refers to. No static refers to a Python object.

use std::ffi::CStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pyo3_ffi as ffi;

use super::app::{self, App};
use super::class::{self, Bound};
use super::client::Disconnected;
use super::deferred_decref::DeferredDecref;
use super::environ::{Common, Keys};
use super::errors;
use super::file_wrapper::FileWrapper;
use super::fork;
use super::init;
use super::input::Input;
use super::object::{Attached, Object, Py, Raised, Result};
use super::start_response::Response;
use super::switch_interval::SwitchInterval;
use super::virtualenv::unreadable;
use crate::exchange::spec::{self, Spec};

/// File name of bootstrap.py and loading.py in tracebacks.
const BOOTSTRAP: &CStr = c"<ngx_wsgi>";
const SCRIPT: &str = concat!(include_str!("bootstrap.py"), include_str!("loading.py"), "\0");
const SOURCE: &CStr = match CStr::from_bytes_with_nul(SCRIPT.as_bytes()) {
    Ok(source) => source,
    Err(_) => panic!("bootstrap.py or loading.py has a NUL"),
};

/// An interpreter, or the reason why there is none, with which every call is then answered.
pub struct Interpreter {
    pub(super) python: std::result::Result<Python, String>,
    pub(super) deferred: Arc<DeferredDecref>,
}

impl fmt::Debug for Interpreter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Interpreter").field("failure", &self.python.as_ref().err()).finish_non_exhaustive()
    }
}

/// The types whose instances applications use.
pub(super) struct Classes {
    pub(super) response: Py,
    pub(super) input: Py,
    pub(super) file_wrapper: Py,
    pub(super) disconnected: Py,
}

/// Names of attributes.
pub(super) struct Names {
    pub(super) close: Py,
}

/// Functions of bootstrap.py and loading.py.
pub(super) struct Functions {
    pub(super) add_virtualenv: Py,
    pub(super) change_switch_interval: Py,
    pub(super) describe: Py,
    pub(super) exit_code: Py,
    pub(super) flush: Py,
    pub(super) forget_thread: Py,
    pub(super) load_or_explain: Py,
    pub(super) name_thread: Py,
    pub(super) sendable: Py,
    pub(super) shut_down: Py,
    pub(super) stack: Py,
}

/// The interpreter's state, for [`ffi::PyThreadState_New`].
#[derive(Clone, Copy)]
pub(super) struct State(pub(super) *mut ffi::PyInterpreterState);

// SAFETY: an address that only functions of CPython follow.
unsafe impl Send for State {}
// SAFETY: as above.
unsafe impl Sync for State {}

/// A running interpreter.
pub(super) struct Python {
    pub(super) state: State,
    /// By their index in [`Spec::apps`].
    pub(super) apps: Vec<App>,
    /// The templates of environ, by the index of the pool.
    pub(super) templates: Vec<Py>,
    pub(super) keys: Keys,
    pub(super) classes: Classes,
    pub(super) names: Names,
    /// The exception that interrupts a call.
    pub(super) request_timeout: Py,
    pub(super) functions: Functions,
    pub(super) switch_interval: SwitchInterval,
    /// `None` if nginx cannot send any.
    pub(super) early_hints: Option<&'static Bound>,
}

impl Python {
    /// Prepares an interpreter that has just been initialised, and imports the applications.
    pub(super) fn new<'py>(py: Attached<'py>, spec: &Spec, virtualenvs: &[&Path]) -> Result<'py, Self> {
        let module = bootstrap(py)?;
        let function = |name: &str| Ok(module.named(name)?.keep());
        let functions = Functions {
            add_virtualenv: function("add_virtualenv")?,
            change_switch_interval: function("change_switch_interval")?,
            describe: function("describe")?,
            exit_code: function("exit_code")?,
            flush: function("flush")?,
            forget_thread: function("forget_thread")?,
            load_or_explain: function("load_or_explain")?,
            name_thread: function("name_thread")?,
            sendable: function("sendable")?,
            shut_down: function("shut_down")?,
            stack: function("stack")?,
        };
        let classes = Classes {
            response: class::create::<Response>(py)?.keep(),
            input: class::create::<Input>(py)?.keep(),
            file_wrapper: class::create::<FileWrapper>(py)?.keep(),
            disconnected: class::create::<Disconnected>(py)?.keep(),
        };
        let keys = Keys::new(py)?;
        let (errors, no_early_hints) = (module.named("errors")?, module.named("no_early_hints")?);
        let template = |threads: usize| {
            let file_wrapper = classes.file_wrapper.get(py);
            let (multithread, multiprocess) = (threads > 1, spec.multiprocess);
            let (errors, early_hints) = (&errors, &no_early_hints);
            let common = Common { errors, early_hints, file_wrapper, multithread, multiprocess };
            Ok(keys.template(py, &common)?.keep())
        };
        let templates = spec.pools.iter().map(|pool| template(pool.threads)).collect::<Result<_>>()?;
        if let spec::SwitchInterval::Fixed(interval) = spec.switch_interval {
            module.named("set_switch_interval")?.call(&[&py.int(interval.into())?])?;
        }
        // The packages of the first application come first.
        for virtualenv in virtualenvs.iter().rev() {
            app::add_virtualenv(py, &functions, virtualenv);
        }
        let apps = app::load_all(py, &functions, spec);
        Ok(Self {
            state: State(init::current()),
            apps,
            templates,
            keys,
            request_timeout: module.named("RequestTimeout")?.keep(),
            names: Names { close: py.interned("close")?.keep() },
            early_hints: spec.early_hints.then(Response::early_hints_method),
            classes,
            functions,
            switch_interval: SwitchInterval::new(spec.switch_interval),
        })
    }

    /// Releases everything, at the end of the interpreter.
    pub(super) fn release(self, py: Attached<'_>) {
        let Self { apps, templates, keys, classes, names, request_timeout, functions, .. } = self;
        let Classes { response, input, file_wrapper, disconnected } = classes;
        let Functions {
            add_virtualenv,
            change_switch_interval,
            describe,
            exit_code,
            flush,
            forget_thread,
            load_or_explain,
            name_thread,
            sendable,
            shut_down,
            stack,
        } = functions;
        let functions = [add_virtualenv, describe, exit_code, flush, forget_thread, load_or_explain, name_thread];
        let others = [change_switch_interval, sendable, shut_down, stack, names.close, request_timeout];
        let classes = [response, input, file_wrapper, disconnected];
        let callables = apps.into_iter().filter_map(|app| app.callable);
        let all = functions.into_iter().chain(others).chain(classes).chain(callables).chain(templates);
        for reference in all.chain(keys.into_all()) {
            drop(reference.release(py));
        }
    }

    /// Returns a log record about an exception.
    pub(super) fn describe<'py>(&self, py: Attached<'py>, app: &str, place: &str, raised: &Raised<'py>) -> String {
        let text = self.functions.describe.get(py).call(&[raised.value()]).and_then(|text| text.to_text());
        let text = text.unwrap_or_else(|_| raised.value().type_name());
        format!("application \"{app}\": {place}\n{text}")
    }

    /// Ends a fork of the worker in which the application has returned, or raised that.
    pub(super) fn leave_child<'py>(&self, py: Attached<'py>, raised: Option<&Raised<'py>>) -> ! {
        let none = py.none();
        let error = raised.map_or(&none, Raised::value);
        let code = self.functions.exit_code.get(py).call(&[error]).and_then(|code| code.to_index());
        let _ = self.functions.flush.get(py).call(&[]);
        errors::flush_lines();
        fork::leave(code.ok().flatten().unwrap_or(1) as i32);
    }

    /// Returns the stack of a thread, by its `threading.get_ident()`.
    pub(super) fn stack(&self, py: Attached<'_>, ident: u64) -> Option<String> {
        let stack = self.functions.stack.get(py).call(&[&py.int(ident).ok()?]).ok()?;
        stack.is_text().then(|| stack.to_text().ok()).flatten()
    }
}

/// Runs bootstrap.py, and loading.py behind it, in a module of its own.
fn bootstrap(py: Attached<'_>) -> Result<'_, Object<'_>> {
    let module = py.add_module(c"_ngx_wsgi")?;
    class::add_functions(&module, errors::functions())?;
    py.run(SOURCE, BOOTSTRAP, &module)?;
    Ok(module)
}

/// Returns the value of `sys.executable`: the virtual environment's python if the applications agree on one.
pub(super) fn executable<'a>(spec: &'a Spec, built_with: &'a Path) -> (Option<PathBuf>, Vec<&'a Path>) {
    let mut virtualenvs: Vec<&Path> = Vec::new();
    for virtualenv in spec.apps.iter().filter_map(|app| app.virtualenv.as_deref()) {
        if !virtualenvs.contains(&virtualenv) {
            virtualenvs.push(virtualenv);
        }
    }
    if let [only] = virtualenvs[..] {
        let python = only.join("bin/python");
        if python.is_file() {
            return (Some(python), Vec::new());
        }
    }
    (built_with.is_file().then(|| built_with.to_path_buf()), virtualenvs)
}

/// What this process cannot read of the files that the applications' Python needs.
pub fn unreadable_python(spec: &Spec) -> Option<String> {
    let (executable, virtualenvs) = executable(spec, Path::new(env!("WSGI_PYTHON_EXECUTABLE")));
    unreadable(executable.as_deref(), &virtualenvs)
}
