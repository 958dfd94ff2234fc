//! Log records from any thread; the nginx side provides the sinks.

use std::fmt::Debug;
use std::sync::OnceLock;

/// nginx's log levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// `emerg`
    Emerg = 1,
    /// `alert`
    Alert,
    /// `crit`
    Crit,
    /// `error`
    Error,
    /// `warn`
    Warn,
    /// `notice`
    Notice,
    /// `info`
    Info,
    /// `debug`
    Debug,
}

/// Where a record belongs: the request whose call wrote it, or none.
#[derive(Clone, Copy, Debug, Default)]
pub struct Origin {
    /// nginx's connection number (the `*1` of an error log line); 0: none.
    pub connection: u64,
    /// The error log of the request's location; `None`: the main one.
    pub sink: Option<&'static dyn Sink>,
}

/// An error log. Any thread may write to it, with or without the GIL: it must not block for long.
pub trait Sink: Debug + Send + Sync {
    /// Writes one record, which may have many lines, of that connection.
    fn write(&'static self, level: Level, connection: u64, record: &[u8]);
}

/// The main error log.
static MAIN: OnceLock<&'static dyn Sink> = OnceLock::new();

/// Installs the main error log, once in a process; a second one is ignored.
pub fn install(sink: &'static dyn Sink) {
    let _ = MAIN.set(sink);
}

/// Writes a record; to stderr when there is no error log.
pub fn write(level: Level, origin: Origin, record: &[u8]) {
    match origin.sink.or_else(|| MAIN.get().copied()) {
        Some(sink) => sink.write(level, origin.connection, record),
        None => eprintln!("[{level:?}] {}", String::from_utf8_lossy(record)),
    }
}
