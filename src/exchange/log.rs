//! Log records from any thread; the nginx side provides the sink.

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
    /// The sink's own mark for the error log of the request's location; 0: the main one.
    pub log: usize,
}

/// Writes records. Called from any thread but with the GIL released or not: it must not block for long.
pub trait Sink: Send + Sync {
    /// Writes one record, which may have many lines.
    fn write(&self, level: Level, origin: Origin, record: &[u8]);
}

static SINK: OnceLock<Box<dyn Sink>> = OnceLock::new();

/// Installs the sink, once in a process; a second one is ignored.
pub fn install(sink: Box<dyn Sink>) {
    let _ = SINK.set(sink);
}

/// Writes a record; to stderr when there is no sink.
pub fn write(level: Level, origin: Origin, record: &[u8]) {
    match SINK.get() {
        Some(sink) => sink.write(level, origin, record),
        None => eprintln!("[{level:?}] {}", String::from_utf8_lossy(record)),
    }
}
