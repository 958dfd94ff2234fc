//! nginx's error log, from the event loop and from other threads.
//!
//! A thread writes by itself where every writer of the log is a plain file: nginx then makes one `write()` of one
//! local buffer. Any other log (syslog opens connections) is written by the event loop, to which the record goes.

use std::ffi::c_char;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use nginx_sys::*;

use super::ffi::{wsgi_log_is_plain, wsgi_log_write};
use crate::exchange::log::{Level, Origin, Sink};
use crate::pool::completions::Completions;

/// What fits into a line of nginx's error log beside its prefix, and the context behind it, in bytes.
const LINE: usize = 1700;

/// A record on its way to the event loop.
#[derive(Debug)]
pub(crate) struct Record {
    level: Level,
    origin: Origin,
    text: Vec<u8>,
}

/// Records that other threads could not write themselves.
pub(crate) type Records = Completions<Record>;

/// The sink of all threads.
struct ErrorLog {
    main: *mut ngx_log_t,
    /// Held while a thread writes, so that a record's lines stay together and none is written once closed.
    open: Mutex<bool>,
    deferred: Arc<Records>,
}

// SAFETY: `main` is the cycle's log; it is read under the lock and only while the log is open, which `close` ends
// before the cycle goes.
unsafe impl Send for ErrorLog {}
// SAFETY: as above.
unsafe impl Sync for ErrorLog {}

static CLOSED: AtomicBool = AtomicBool::new(false);

impl Sink for ErrorLog {
    fn write(&self, level: Level, origin: Origin, record: &[u8]) {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if !*open || CLOSED.load(Ordering::Acquire) {
            return;
        }
        let log = self.log_of(origin);
        // SAFETY: the log lives as long as the cycle, which is there while the sink is open.
        if super::is_event_loop() || unsafe { wsgi_log_is_plain(log) } != 0 {
            // SAFETY: as above; only plain files are written from other threads.
            unsafe { write_lines(level, log, origin.connection, record) };
        } else {
            self.deferred.push(Record { level, origin, text: record.to_vec() });
        }
    }
}

impl ErrorLog {
    fn log_of(&self, origin: Origin) -> *mut ngx_log_t {
        if origin.log == 0 { self.main } else { ptr::with_exposed_provenance_mut(origin.log) }
    }
}

/// Handle on the installed sink, for the event loop.
pub(crate) struct Installed(&'static ErrorLog);

/// Makes `cycle`'s error log the sink of all threads.
pub(crate) fn install(cycle: &ngx_cycle_t, deferred: Arc<Records>) -> Installed {
    struct Shared(&'static ErrorLog);
    impl Sink for Shared {
        fn write(&self, level: Level, origin: Origin, record: &[u8]) {
            self.0.write(level, origin, record);
        }
    }
    let sink: &'static ErrorLog = Box::leak(Box::new(ErrorLog { main: cycle.log, open: Mutex::new(true), deferred }));
    crate::exchange::log::install(Box::new(Shared(sink)));
    Installed(sink)
}

impl Installed {
    /// Writes what other threads have handed over.
    pub(crate) fn write_deferred(&self) {
        self.0.deferred.drain(|record| {
            // SAFETY: the event loop may use any log of its cycle.
            unsafe { write_lines(record.level, self.0.log_of(record.origin), record.origin.connection, &record.text) };
        });
    }

    /// The cycle is about to go: nothing is written from now on.
    pub(crate) fn close(&self) {
        self.write_deferred();
        *self.0.open.lock().unwrap_or_else(PoisonError::into_inner) = false;
        CLOSED.store(true, Ordering::Release);
    }
}

/// Writes a record of any length through `log`, with nginx's prefix for `connection` in front of each piece.
///
/// # Safety
/// `log` must be valid, and plain unless this is the event loop.
unsafe fn write_lines(level: Level, log: *mut ngx_log_t, connection: u64, record: &[u8]) {
    // A copy without the handler, which would read the request.
    // SAFETY: the caller vouches for `log`.
    let mut copy = unsafe { ptr::read(log) };
    copy.handler = None;
    copy.connection = connection as ngx_atomic_uint_t;
    for piece in pieces(record) {
        // SAFETY: the copy is valid for the call, the piece has the length given.
        unsafe { wsgi_log_write(level as ngx_uint_t, &mut copy, piece.as_ptr(), piece.len()) };
    }
}

/// Writes a record as the request's own, with `client: ..., request: ...` behind its last piece.
///
/// # Safety
/// `r` must be a live request of the calling thread, the event loop.
pub(crate) unsafe fn write_for_request(r: *mut ngx_http_request_t, level: Level, record: &[u8]) {
    let pieces = pieces(record);
    let Some((last, first)) = pieces.split_last() else { return };
    // SAFETY: a live request has a connection, and that a log.
    unsafe {
        super::ffi::wsgi_set_log_request(r);
        let log = (*(*r).connection).log;
        let mut bare = ptr::read(log);
        bare.handler = None;
        for piece in first {
            wsgi_log_write(level as ngx_uint_t, &mut bare, piece.as_ptr(), piece.len());
        }
        wsgi_log_write(level as ngx_uint_t, log, last.as_ptr(), last.len());
    }
}

/// Cuts a record into pieces that an error log line takes whole, at line ends where there are some; control
/// characters other than line feed and tab, with which an application could forge or garble lines, are spelt out.
fn pieces(record: &[u8]) -> Vec<Vec<u8>> {
    let mut pieces = vec![Vec::new()];
    for line in record.trim_ascii_end().split(|&byte| byte == b'\n') {
        for part in escaped(line).chunks(LINE) {
            let piece = pieces.last_mut().expect("never empty");
            if piece.len() + part.len() >= LINE {
                pieces.push(part.to_vec());
            } else {
                if !piece.is_empty() {
                    piece.push(b'\n');
                }
                piece.extend_from_slice(part);
            }
        }
    }
    pieces
}

fn escaped(line: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(line.len());
    for &byte in line {
        match byte {
            b'\t' => out.push(byte),
            0..0x20 | 0x7f => out.extend_from_slice(format!("\\x{byte:02x}").as_bytes()),
            _ => out.push(byte),
        }
    }
    out
}

/// Writes one line to the error log of the current cycle; event-loop thread only.
pub(crate) fn write(level: u32, message: &str) {
    // SAFETY: there is a cycle with a log whenever nginx runs code of ours.
    unsafe { wsgi_log_write(level as ngx_uint_t, (*ngx_cycle).log, message.as_ptr(), message.len()) };
}

/// As [`write`], at level `alert`: something is wrong with the module itself.
pub(crate) fn alert(message: &str) {
    write(NGX_LOG_ALERT, message);
}

/// As [`write`], at level `warn`.
pub(crate) fn warn(message: &str) {
    write(NGX_LOG_WARN, message);
}

/// In `nginx -t`: says which CPython the module was built with.
pub(crate) fn tell_versions() {
    // SAFETY: set before the configuration is read, never written later.
    if unsafe { ngx_test_config } == 0 {
        return;
    }
    let message = format!("nginx-wsgi {}, built with CPython {}\0", env!("CARGO_PKG_VERSION"), crate::python_version());
    // SAFETY: a format string with one argument of its kind, terminated.
    unsafe { ngx_log_stderr(0, c"%s".as_ptr(), message.as_ptr().cast::<c_char>()) };
}

#[cfg(test)]
mod tests {
    use super::pieces;

    #[test]
    fn long_records_are_cut_at_line_ends() {
        let record: Vec<u8> = (0..100).flat_map(|n| format!("line {n:090}\n").into_bytes()).collect();
        let pieces = pieces(&record);
        assert!(pieces.len() > 4 && pieces.iter().all(|piece| piece.len() <= 1700));
        assert!(pieces.iter().all(|piece| piece.starts_with(b"line ")));
        assert_eq!(pieces.join(&b'\n'), record.trim_ascii_end());
    }

    #[test]
    fn control_characters_are_spelt_out() {
        assert_eq!(pieces(b"a\x1b[0m\tb\rc\r\n"), [b"a\\x1b[0m\tb\\x0dc".to_vec()]);
    }
}
