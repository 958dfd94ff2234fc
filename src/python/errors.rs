//! What Python code writes: `wsgi.errors`, `sys.stderr`, `sys.stdout` and `logging`, as records of the error log.
//!
//! The stream objects are in bootstrap.py; here is what is under them. A stream gathers what a thread writes
//! until a line ends. Records of a call carry its [`Origin`].

use std::cell::{Cell, RefCell};
use std::mem;

use super::class::Method;
use super::object::{Attached, Borrowed, Kind, Object, Raised, Result};
use super::shim::function;
use super::{fork, signals};
use crate::exchange::log::{self, Level, Origin};

/// `sys.stdout`, then `sys.stderr` and `wsgi.errors`: the numbers that bootstrap.py uses.
const LEVELS: [Level; 2] = [Level::Notice, Level::Error];
/// A line that is longer goes out in pieces, so that it cannot fill the memory.
const LONGEST_LINE: usize = 256 * 1024;

thread_local! {
    /// The call that this thread is in.
    static ORIGIN: Cell<Option<Origin>> = const { Cell::new(None) };
    /// The unfinished lines of the streams.
    static LINES: RefCell<Lines> = const { RefCell::new(Lines([Vec::new(), Vec::new()])) };
}

struct Lines([Vec<u8>; 2]);

impl Drop for Lines {
    /// What a thread of the application's leaves unfinished when it ends.
    fn drop(&mut self) {
        for (line, level) in self.0.iter().zip(LEVELS) {
            if !line.is_empty() {
                write_at(level, Origin::default(), line);
            }
        }
    }
}

/// While it lives, records of this thread belong to a call.
pub(super) struct InCall(());

impl InCall {
    pub(super) fn new(origin: Origin) -> Self {
        ORIGIN.set(Some(origin));
        Self(())
    }
}

impl Drop for InCall {
    fn drop(&mut self) {
        flush_lines();
        ORIGIN.set(None);
    }
}

/// Writes a record of this thread's.
pub(super) fn write(level: Level, record: &[u8]) {
    write_at(level, ORIGIN.get().unwrap_or_default(), record);
}

/// Writes a record; in a fork of the worker, to its standard error.
pub(super) fn write_at(level: Level, origin: Origin, record: &[u8]) {
    if fork::is_child() {
        fork::write_stderr(&[record, b"\n"].concat());
    } else {
        log::write(level, origin, record);
    }
}

/// Writes out the unfinished lines of this thread.
pub(super) fn flush_lines() {
    for stream in 0..LEVELS.len() {
        flush_line(stream);
    }
}

fn flush_line(stream: usize) {
    let line = LINES.with_borrow_mut(|lines| mem::take(&mut lines.0[stream]));
    if line.is_empty() {
        return;
    }
    if fork::is_child() {
        // As it was written: without an end of the line.
        fork::write_stderr(&line);
    } else {
        write(LEVELS[stream], &line);
    }
}

/// Adds text to a stream, and writes out the lines that it completes as one record.
fn write_text(stream: usize, text: &[u8]) {
    let complete = LINES.with_borrow_mut(|lines| {
        let line = &mut lines.0[stream];
        let Some(end) = text.iter().rposition(|&byte| byte == b'\n') else {
            line.extend_from_slice(text);
            return (line.len() >= LONGEST_LINE).then(|| mem::take(line));
        };
        let mut complete = mem::take(line);
        complete.extend_from_slice(&text[..end]);
        line.extend_from_slice(&text[end + 1..]);
        Some(complete)
    });
    // An empty line alone is no record.
    if let Some(record) = complete.filter(|record| !record.is_empty()) {
        write(LEVELS[stream], &record);
    }
}

/// The functions that bootstrap.py builds on.
pub(super) fn functions() -> Vec<Method> {
    vec![
        function!(c"_write", write_function, c"Add text or bytes to stream 0 (stdout) or 1 (stderr)."),
        function!(c"_flush", flush_function, c"Write out the unfinished line of a stream."),
        function!(c"_watch_signals", signals::watch_function, c"The descriptor for signal.set_wakeup_fd."),
        function!(c"_log", log_function, c"Write a record at one of nginx's levels, 1 (emerg) to 8 (debug)."),
    ]
}

type Arguments<'a, 'py> = &'a [Borrowed<'a, 'py>];

fn number<'py>(arguments: Arguments<'_, 'py>) -> Result<'py, Option<isize>> {
    arguments.first().map_or(Ok(None), |argument| argument.to_index())
}

fn stream<'py>(py: Attached<'py>, arguments: Arguments<'_, 'py>) -> Result<'py, usize> {
    match number(arguments)? {
        Some(stream @ 0..=1) => Ok(stream as usize),
        _ => Err(Raised::new(py, Kind::Value, "no such stream")),
    }
}

/// The second argument: UTF-8 of a str, or the bytes themselves.
fn text<'py>(py: Attached<'py>, arguments: Arguments<'_, 'py>) -> Result<'py, Vec<u8>> {
    let Some(argument) = arguments.get(1) else {
        return Err(Raised::new(py, Kind::Type, "write() takes exactly one argument (0 given)"));
    };
    match argument.as_bytes() {
        Some(bytes) => Ok(bytes.to_vec()),
        None if argument.is_text() => argument.to_utf8(),
        None => {
            let message = format!("write() argument must be str, not {}", argument.type_name());
            Err(Raised::new(py, Kind::Type, &message))
        }
    }
}

fn write_function<'py>(py: Attached<'py>, arguments: Arguments<'_, 'py>) -> Result<'py, Object<'py>> {
    write_text(stream(py, arguments)?, &text(py, arguments)?);
    Ok(py.none())
}

fn flush_function<'py>(py: Attached<'py>, arguments: Arguments<'_, 'py>) -> Result<'py, Object<'py>> {
    flush_line(stream(py, arguments)?);
    Ok(py.none())
}

fn log_function<'py>(py: Attached<'py>, arguments: Arguments<'_, 'py>) -> Result<'py, Object<'py>> {
    let level = match number(arguments)? {
        Some(1) => Level::Emerg,
        Some(2) => Level::Alert,
        Some(3) => Level::Crit,
        Some(4) => Level::Error,
        Some(5) => Level::Warn,
        Some(6) => Level::Notice,
        Some(7) => Level::Info,
        _ => Level::Debug,
    };
    write(level, &text(py, arguments)?);
    Ok(py.none())
}
