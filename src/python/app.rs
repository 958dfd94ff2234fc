//! The applications of an interpreter: imported once, on python-main.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use super::errors;
use super::interpreter::Functions;
use super::object::{Attached, Object, Py, Result};
use crate::exchange::log::{self, Level, Origin};
use crate::exchange::spec::{self, Source, Spec};

/// An application.
pub(super) struct App {
    pub(super) name: Arc<str>,
    /// `None`: it could not be imported.
    pub(super) callable: Option<Py>,
}

/// Imports all applications, in their order. Whatever one of them does, the next has its turn.
pub(super) fn load_all(py: Attached<'_>, functions: &Functions, spec: &Spec) -> Vec<App> {
    let load = |app: &spec::App| {
        let _watch = watch(app);
        let callable = match load(py, functions, app) {
            Ok(Ok(callable)) => Some(callable.keep()),
            Ok(Err(problem)) => {
                report(app, &problem);
                None
            }
            Err(raised) => {
                let text = functions.describe.get(py).call(&[raised.value()]).and_then(|text| text.to_text());
                report(app, &text.unwrap_or_else(|_| raised.summary()));
                None
            }
        };
        errors::flush_lines();
        App { name: app.name.as_str().into(), callable }
    };
    spec.apps.iter().map(load).collect()
}

/// How long an import may take before the log says that it is under way; each further word takes twice as long to come.
const LONG: Duration = Duration::from_secs(5);

/// Watches the import of an application until what it returns is dropped.
fn watch(app: &spec::App) -> Option<Sender<()>> {
    let (until, watching) = mpsc::channel();
    let name = format!("application \"{}\" (in {})", app.name, app.origin);
    let tell = move |seconds| {
        let record = format!("{name} is still being imported after {seconds} s");
        log::write(Level::Notice, Origin::default(), record.as_bytes());
    };
    let thread = thread::Builder::new().name("import-watch".into());
    thread.spawn(move || tell_while(&watching, LONG, tell)).ok().map(|_| until)
}

/// Tells how many seconds it has been, after `patience`, twice that and so on, until the other end of the channel is gone.
fn tell_while(watching: &Receiver<()>, mut patience: Duration, mut tell: impl FnMut(u64)) {
    let begun = Instant::now();
    while watching.recv_timeout(patience) == Err(RecvTimeoutError::Timeout) {
        tell(begun.elapsed().as_secs());
        patience *= 2;
    }
}

fn report(app: &spec::App, problem: &str) {
    let record = format!("application \"{}\" (in {}) could not be imported: {problem}", app.name, app.origin);
    errors::write(Level::Error, record.as_bytes());
}

fn load<'py>(
    py: Attached<'py>,
    functions: &Functions,
    app: &spec::App,
) -> Result<'py, std::result::Result<Object<'py>, String>> {
    let (is_file, place) = match &app.target.source {
        Source::Module(name) => (false, py.text(name)?),
        Source::File(path) => (true, os_text(py, path.as_os_str())?),
    };
    let path = app.path.iter().map(|folder| os_text(py, folder.as_os_str())).collect::<Result<Vec<_>>>()?;
    let variable = |(name, value): &(String, String)| py.pair(&py.text(name)?, &py.text(value)?);
    let environment = app.env.iter().map(variable).collect::<Result<Vec<_>>>()?;
    let outcome = functions.load_or_explain.get(py).call(&[
        &py.bool(is_file),
        &place,
        &py.text(&app.target.callable)?,
        &py.bool(app.target.factory),
        &py.list(path)?,
        &py.list(environment)?,
    ])?;
    let item = |index| outcome.sequence().and_then(|pair| pair.item(index)).unwrap_or_else(|| py.none());
    let problem = item(1);
    if problem.is_none() { Ok(Ok(item(0))) } else { Ok(Err(problem.to_text()?)) }
}

/// Has the packages of a virtual environment found.
pub(super) fn add_virtualenv(py: Attached<'_>, functions: &Functions, folder: &Path) {
    let added = os_text(py, folder.as_os_str()).and_then(|text| functions.add_virtualenv.get(py).call(&[&text]));
    if let Err(raised) = added {
        let record = format!("the virtualenv \"{}\" cannot be used: {}", folder.display(), raised.summary());
        errors::write(Level::Error, record.as_bytes());
    }
}

/// A path as Python has it.
fn os_text<'py>(py: Attached<'py>, text: &OsStr) -> Result<'py, Object<'py>> {
    py.file_name(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_import_is_told_of_at_growing_intervals_until_it_is_over() {
        let (until, watching) = mpsc::channel::<()>();
        let (mut until, mut told, begun) = (Some(until), Vec::new(), Instant::now());
        tell_while(&watching, Duration::from_millis(20), |seconds| {
            assert_eq!(seconds, begun.elapsed().as_secs());
            told.push(begun.elapsed());
            if told.len() == 3 {
                until.take();
            }
        });
        let least = [20, 60, 140].map(Duration::from_millis);
        assert!(told.len() == 3 && told.iter().zip(least).all(|(at, least)| *at >= least), "{told:?}");
    }
}
