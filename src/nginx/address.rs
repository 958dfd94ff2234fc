//! The addresses of a connection as text, without a new piece of text for each request.

use std::cell::RefCell;

use nginx_sys::*;

use super::ffi::{NGX_WSGI_SOCKADDR_STRLEN, OK};

thread_local! {
    /// The server's address of the last request: there are few of them.
    static LAST: RefCell<Known> = RefCell::default();
}

#[derive(Default)]
struct Known {
    /// A `sockaddr`.
    address: Vec<u8>,
    /// As `$server_addr` has it.
    text: Vec<u8>,
}

/// Hands the address at which the client has arrived to `take`: as text without a port, and the port, 0 on a unix socket.
/// `None`: the system does not say.
///
/// # Safety
/// `connection` must be a live one of the calling thread.
pub(crate) unsafe fn of_server<R>(connection: *mut ngx_connection_t, take: impl FnOnce(&[u8], u16) -> R) -> Option<R> {
    // SAFETY: as the caller vouches; nginx sees to it that the address is known, and this many bytes long.
    let (address, port) = unsafe {
        if ngx_connection_local_sockaddr(connection, std::ptr::null_mut(), 0) != OK {
            return None;
        }
        let (local, length) = ((*connection).local_sockaddr, (*connection).local_socklen as usize);
        (std::slice::from_raw_parts(local.cast::<u8>(), length), ngx_inet_get_port(local))
    };
    LAST.with_borrow_mut(|last| {
        if last.address != address {
            let mut buffer = [0; NGX_WSGI_SOCKADDR_STRLEN];
            let mut text = ngx_str_t { len: buffer.len(), data: buffer.as_mut_ptr() };
            // SAFETY: as above; the text fits into the buffer.
            if unsafe { ngx_connection_local_sockaddr(connection, &mut text, 0) } != OK {
                return None;
            }
            *last = Known { address: address.to_vec(), text: buffer[..text.len].to_vec() };
        }
        Some(take(&last.text, port))
    })
}

/// The client's port; 0 where it has none.
///
/// # Safety
/// As [`of_server`].
pub(crate) unsafe fn port_of_client(connection: *const ngx_connection_t) -> u16 {
    // SAFETY: as the caller vouches; a client has an address.
    unsafe { ngx_inet_get_port((*connection).sockaddr) }
}
