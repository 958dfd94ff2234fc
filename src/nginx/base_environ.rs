//! The base environ: the entries that all requests to a location at one address have in common, created once.

use std::cell::RefCell;
use std::slice;
use std::sync::Arc;

use nginx_sys::*;

use super::ffi::{NGX_WSGI_SOCKADDR_STRLEN, OK, bytes};
use super::request::{core_loc_conf, core_srv_conf};
use crate::exchange::names;
use crate::exchange::request::Entries;

/// Largest number kept for a location. A wildcard `listen` can be reached at any number of addresses.
const MOST_KEPT: usize = 32;

/// The base environs of a location, the most recently used first.
#[derive(Default)]
pub(crate) struct BaseEnvirons(RefCell<Vec<Kept>>);

struct Kept {
    /// The server's address, a `sockaddr`.
    address: Vec<u8>,
    tls: bool,
    entries: Arc<Entries>,
}

impl BaseEnvirons {
    /// Returns the base environ of a request. `None` if memory runs out, or if the address is unknown.
    ///
    /// # Safety
    /// `r` must be a live request of the calling thread, in the location that `self` belongs to.
    pub(crate) unsafe fn get(&self, r: *mut ngx_http_request_t) -> Option<Arc<Entries>> {
        // SAFETY: as the caller vouches; nginx sees to it that the address is known, and this many bytes long.
        let (tls, address) = unsafe {
            let connection = (*r).connection;
            if ngx_connection_local_sockaddr(connection, std::ptr::null_mut(), 0) != OK {
                return None;
            }
            let (local, length) = ((*connection).local_sockaddr.cast::<u8>(), (*connection).local_socklen as usize);
            (!(*connection).ssl.is_null(), slice::from_raw_parts(local, length))
        };
        let mut kept = self.0.borrow_mut();
        match kept.iter().position(|kept| kept.tls == tls && kept.address == address) {
            Some(at) => kept.swap(0, at),
            None => {
                // SAFETY: as above.
                let entries = Arc::new(unsafe { create(r, tls)? });
                kept.truncate(MOST_KEPT - 1);
                kept.insert(0, Kept { address: address.to_vec(), tls, entries });
            }
        }
        kept.first().map(|kept| Arc::clone(&kept.entries))
    }
}

/// Creates the base environ of a request.
///
/// # Safety
/// As [`BaseEnvirons::get`]; nginx knows the server's address by now.
unsafe fn create(r: *mut ngx_http_request_t, tls: bool) -> Option<Entries> {
    let mut entries = Entries::default();
    let mut buffer = [0; NGX_WSGI_SOCKADDR_STRLEN];
    let mut text = ngx_str_t { len: buffer.len(), data: buffer.as_mut_ptr() };
    // SAFETY: as the caller vouches; the text fits into the buffer; configurations live with the cycle.
    let (port, core, name) = unsafe {
        if ngx_connection_local_sockaddr((*r).connection, &mut text, 0) != OK {
            return None;
        }
        (
            ngx_inet_get_port((*(*r).connection).local_sockaddr),
            &*core_loc_conf(r),
            bytes((*core_srv_conf(r)).server_name),
        )
    };
    entries.push(names::REQUEST_SCHEME, if tls { b"https" } else { b"http" });
    if tls {
        entries.push(names::HTTPS, b"on");
    }
    entries.push(names::SERVER_ADDR, &buffer[..text.len]);
    // PEP 3333: neither port nor name is ever empty. A unix socket has no port.
    let port = match port {
        0 if tls => 443,
        0 => 80,
        port => port,
    };
    entries.push_number(names::SERVER_PORT, port.into());
    if is_host(name) {
        entries.push(names::SERVER_NAME, name);
    }
    entries.push_parts(names::SERVER_SOFTWARE, &[b"nginx/", NGINX_VERSION.to_bytes()]);
    if core.root_lengths.is_null() {
        // SAFETY: as above.
        entries.push(names::DOCUMENT_ROOT, unsafe { bytes(core.root) }); // it has no variables
    }
    Some(entries)
}

/// Whether the first name of a server is a host name: neither empty nor a pattern.
pub(super) fn is_host(name: &[u8]) -> bool {
    name.first().is_some_and(|first| !b"*.~_".contains(first)) && !name.ends_with(b"*")
}
