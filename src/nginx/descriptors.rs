//! Keeps nginx's descriptors from the programs that applications start.
//!
//! nginx opens sockets and files without close-on-exec: a worker of its own starts no programs. `subprocess` closes what
//! it finds open; `os.system`, `os.posix_spawn` and `popen()` of C libraries do not. A child that has a client's socket
//! keeps that client waiting after nginx has closed it. So each descriptor gets the flag as soon as the module can know of it:
//!
//! * what is open when the worker starts (listening sockets, logs): in [`keep_from_children`];
//! * a client's socket: when nginx hands the connection to the handler of its listening socket, whatever it is for;
//! * a socket that nginx connects (to a proxied server): when it is added to the event loop;
//! * a request body's temporary file: when the filter that has created it returns.
//!
//! A program that is started between `accept()` and the handler has the socket all the same; nginx's own temporary files
//! of proxied responses and files that it serves are regular files, which no peer waits for, and are left as they are.

use std::cell::OnceCell;
use std::os::fd::RawFd;

use nginx_sys::*;

use super::ffi::ERROR;

/// The functions of nginx that this module has replaced.
struct Replaced {
    listening: *const ngx_listening_t,
    /// By the index of the listening socket.
    handlers: Vec<ngx_connection_handler_pt>,
    add_connection: Option<unsafe extern "C" fn(*mut ngx_connection_t) -> ngx_int_t>,
    body_filter: ngx_http_request_body_filter_pt,
}

thread_local! {
    /// Of the event loop's thread.
    static REPLACED: OnceCell<Replaced> = const { OnceCell::new() };
}

/// Has every descriptor of this worker closed in programs that it starts, from now on.
pub(crate) fn keep_from_children(cycle: &mut ngx_cycle_t) {
    let open = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let numbers: Vec<RawFd> = open.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    numbers.into_iter().filter(|&fd| fd > libc::STDERR_FILENO).for_each(close_on_exec);

    // SAFETY: this is the event loop's thread, before it has had any event: nginx's arrays have `nelts` elements, and
    // nginx calls what it finds in these variables with the arguments that it would give its own functions.
    unsafe {
        let listening: *mut ngx_listening_t = cycle.listening.elts.cast();
        let each = || (0..cycle.listening.nelts).map(|index| listening.add(index));
        let replaced = Replaced {
            listening,
            handlers: each().map(|each| (*each).handler).collect(),
            add_connection: ngx_event_actions.add_conn,
            body_filter: ngx_http_top_request_body_filter,
        };
        if REPLACED.with(|slot| slot.set(replaced)).is_ok() {
            each().for_each(|each| (*each).handler = Some(accepted));
            ngx_event_actions.add_conn = ngx_event_actions.add_conn.map(|_| added as _);
            ngx_http_top_request_body_filter = Some(filter_body);
        }
    }
}

/// Sets the flag of one descriptor.
pub(crate) fn close_on_exec(fd: RawFd) {
    // SAFETY: a plain system call; a descriptor that is not open is an error without consequence.
    unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
}

/// What `take` finds there. It cannot panic: nginx's C code is the caller.
fn replaced<T>(take: impl FnOnce(&Replaced) -> Option<T>) -> Option<T> {
    REPLACED.try_with(|slot| slot.get().and_then(take)).ok().flatten()
}

/// nginx has accepted a connection.
unsafe extern "C" fn accepted(c: *mut ngx_connection_t) {
    // SAFETY: nginx hands a live connection, whose listening socket is one of the array that was read above.
    unsafe {
        close_on_exec((*c).fd);
        let listening: *const ngx_listening_t = (*c).listening;
        let index = |replaced: &Replaced| listening.offset_from(replaced.listening) as usize;
        if let Some(handler) = replaced(|replaced| *replaced.handlers.get(index(replaced))?) {
            handler(c);
        }
    }
}

/// nginx adds a connection to the event loop.
unsafe extern "C" fn added(c: *mut ngx_connection_t) -> ngx_int_t {
    // SAFETY: nginx hands a live connection.
    unsafe {
        close_on_exec((*c).fd);
        match replaced(|replaced| replaced.add_connection) {
            Some(add) => add(c),
            None => ERROR,
        }
    }
}

/// A part of a request's body has come, and goes to memory or to a temporary file.
unsafe extern "C" fn filter_body(r: *mut ngx_http_request_t, chain: *mut ngx_chain_t) -> ngx_int_t {
    // SAFETY: nginx hands a live request, the body of which it reads.
    unsafe {
        let before = temporary_file(r);
        let Some(next) = replaced(|replaced| replaced.body_filter) else { return ERROR };
        let status = next(r, chain);
        let after = temporary_file(r);
        if after != -1 && after != before {
            close_on_exec(after);
        }
        status
    }
}

/// The descriptor of the temporary file that has the body; -1: there is none.
///
/// # Safety
/// `r` must be a live request.
unsafe fn temporary_file(r: *mut ngx_http_request_t) -> RawFd {
    // SAFETY: as the caller vouches; null where there is no such thing.
    unsafe {
        let file = (*r).request_body.as_ref().and_then(|body| body.temp_file.as_ref());
        file.map_or(-1, |file| file.file.fd)
    }
}
