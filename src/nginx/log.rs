//! nginx's error log, on the event loop. Other threads have [`super::thread_log`].

use std::ffi::c_char;
use std::ptr;

use nginx_sys::*;

use super::ffi::wsgi_log_write;
use crate::exchange::log::Level;

/// What fits into a line of nginx's error log beside its prefix, and the context behind it, in bytes.
const LINE: usize = 1700;

/// Writes one line through `log`, with nginx's prefix for `connection` in front.
///
/// # Safety
/// `log` must be valid, and the calling thread the event loop's.
pub(crate) unsafe fn write_line(level: Level, log: *mut ngx_log_t, connection: u64, line: &[u8]) {
    // A copy without the handler, which would read the request.
    // SAFETY: the caller vouches for `log`.
    let mut copy = unsafe { ptr::read(log) };
    copy.handler = None;
    copy.connection = connection as ngx_atomic_uint_t;
    // SAFETY: the copy is valid for the call, the line has the length given.
    unsafe { wsgi_log_write(level as ngx_uint_t, &mut copy, line.as_ptr(), line.len()) };
}

/// Writes a record as the request's own, with `client: ..., request: ...` behind its last piece.
///
/// # Safety
/// `r` must be a live request of the calling thread, the event loop.
pub(crate) unsafe fn write_for_request(r: *mut ngx_http_request_t, level: Level, record: &[u8]) {
    // SAFETY: a live request has a connection, and that a log.
    unsafe {
        super::ffi::wsgi_set_log_request(r);
        let log = (*(*r).connection).log;
        let mut last: Option<Vec<u8>> = None;
        each_line(record, |line| {
            if let Some(line) = last.replace(line.to_vec()) {
                write_line(level, log, (*log).connection, &line);
            }
        });
        let last = last.unwrap_or_default();
        wsgi_log_write(level as ngx_uint_t, log, last.as_ptr(), last.len());
    }
}

/// Cuts a record into pieces that an error log line takes whole, at line ends where there are some; control
/// characters other than line feed and tab, with which an application could forge or garble lines, are spelt out.
pub(crate) fn each_line(record: &[u8], mut take: impl FnMut(&[u8])) {
    let mut piece = Vec::new();
    for line in record.trim_ascii_end().split(|&byte| byte == b'\n') {
        for part in escaped(line).chunks(LINE) {
            if piece.len() + part.len() >= LINE {
                take(&piece);
                piece.clear();
            } else if !piece.is_empty() {
                piece.push(b'\n');
            }
            piece.extend_from_slice(part);
        }
    }
    take(&piece);
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

/// As [`write()`], at level `alert`: something is wrong with the module itself.
pub(crate) fn alert(message: &str) {
    write(NGX_LOG_ALERT, message);
}

/// As [`write()`], at level `warn`.
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
    use super::each_line;

    fn pieces(record: &[u8]) -> Vec<Vec<u8>> {
        let mut pieces = Vec::new();
        each_line(record, |piece| pieces.push(piece.to_vec()));
        pieces
    }

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
