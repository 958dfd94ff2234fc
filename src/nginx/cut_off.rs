//! Responses that are cut short: that they look so to their client.
//!
//! nginx shows that itself where a body has chunks or a Content-Length, and where the response is a stream that it can reset.
//! This module does it for bodies that end where the connection ends.

use std::ptr;

use nginx_sys::*;

use super::ffi::{wsgi_buffered, wsgi_chunked, wsgi_header_only, wsgi_header_sent};

/// Has the connection end by a reset, and on TLS without the record that says that this is the end, if that is where the
/// body ends: in HTTP/1, if it has neither Content-Length nor chunks.
///
/// # Safety
/// `r` must be a live request of the calling thread.
pub(crate) unsafe fn show(r: *mut ngx_http_request_t) {
    // SAFETY: as the caller vouches: its main request and its connection live; the option is copied by the system.
    unsafe {
        let main = (*r).main;
        let by_close = (*main).http_version < NGX_HTTP_VERSION_20 as ngx_uint_t
            && (*main).headers_out.content_length_n == -1
            && wsgi_chunked(main) == 0;
        if by_close && wsgi_header_sent(main) != 0 && wsgi_header_only(main) == 0 {
            let connection = &mut *(*main).connection;
            connection.set_error(1);
            let at_once = libc::linger { l_onoff: 1, l_linger: 0 };
            let length = size_of_val(&at_once) as libc::socklen_t;
            let value = ptr::from_ref(&at_once).cast();
            libc::setsockopt(connection.fd, libc::SOL_SOCKET, libc::SO_LINGER, value, length);
        }
    }
}

/// As [`show`], if the request ends before nginx has sent all that it was given.
///
/// # Safety
/// As [`show`].
pub(crate) unsafe fn show_if_unsent(r: *mut ngx_http_request_t) {
    // SAFETY: as the caller vouches.
    unsafe {
        let main = (*r).main;
        if wsgi_buffered(main) != 0 || !(*main).out.is_null() {
            show(r);
        }
    }
}
