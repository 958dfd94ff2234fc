//! The snapshot of a request that the application's environ is made of.

use std::ptr;

use nginx_sys::*;

use super::accel::split_path;
use super::conf::{LocConf, MainConf, Param};
use super::ffi::{OK, bytes, wsgi_request_body_no_buffering};
use super::handler::Context;
use super::{base_environ, body, fields};
use crate::exchange::body::Body;
use crate::exchange::names::{self, Name};
use crate::exchange::request::{Entries, Request};

/// What entries add to the bytes of a request's head, and what is not from there, in bytes, roughly; and how much room
/// is made for all of them at most before it is known to be needed.
const BESIDE_HEAD: usize = 320;
const MOST_ROOM: usize = 4 << 10;

/// Copies all that the application will see of `r` from nginx's memory into `own`. Returns `None` if memory runs out.
///
/// # Safety
/// `r` must be a live request of the calling thread whose body has been read; the context and the configurations are its own.
pub(crate) unsafe fn snapshot(
    r: *mut ngx_http_request_t,
    context: &Context,
    main: &MainConf,
    location: &LocConf,
    mut own: Entries,
) -> Option<Request> {
    // SAFETY: as the caller vouches; so for the rest of this function.
    unsafe {
        let params = evaluated(r, location.params())?;
        let base_environ = location.base_environs.get(r)?;
        // Of pipelined requests the buffer has several.
        let head = (*r).header_in.as_ref().map_or(0, |head| head.pos.addr() - head.start.addr());
        own.reserve((BESIDE_HEAD + head).min(MOST_ROOM));
        let path_info = method_and_mount(&mut own, r, location)?;
        server_name_and_root(&mut own, &base_environ, r, main)?;
        fields::push(&mut own, r, location.pass_request_headers != 0, &params);
        target(&mut own, r, path_info);
        client(&mut own, r, context.password_is_checked.get());
        let has_body = location.pass_request_body != 0 && wsgi_request_body_no_buffering(r) == 0;
        let body = if has_body { body::take(r)? } else { Body::default() };
        if let Some(length) = body_length(r, body.length()) {
            own.push_number(names::CONTENT_LENGTH, length);
        }
        for (param, value) in params {
            // As with uwsgi_param: an empty HTTP_ parameter takes the header away.
            if !(value.is_empty() && (param.if_not_empty || param.name.starts_with(b"HTTP_"))) {
                own.push(Name::Other(&param.name), value);
            }
        }
        own.is_whole().then_some(Request { base_environ, own, body })
    }
}

/// # Safety
/// As [`snapshot`].
unsafe fn evaluated(r: *mut ngx_http_request_t, params: &[Param]) -> Option<Vec<(&Param, &[u8])>> {
    let mut values = Vec::with_capacity(params.len());
    for param in params {
        // SAFETY: as the caller vouches.
        values.push((param, unsafe { complex_value(r, &param.value)? }));
    }
    Some(values)
}

/// The text of a value with variables; `None` when nginx is out of memory.
///
/// # Safety
/// As [`snapshot`].
unsafe fn complex_value<'a>(r: *mut ngx_http_request_t, value: &ngx_http_complex_value_t) -> Option<&'a [u8]> {
    let mut text = ngx_str_t::default();
    // SAFETY: as the caller vouches; nginx does not write to the value, though its signature says so; the text lives
    // with the request.
    unsafe { (ngx_http_complex_value(r, ptr::from_ref(value).cast_mut(), &mut text) == OK).then(|| bytes(text)) }
}

/// Returns PATH_INFO.
///
/// # Safety
/// As [`snapshot`].
unsafe fn method_and_mount<'a>(own: &mut Entries, r: *mut ngx_http_request_t, location: &LocConf) -> Option<&'a [u8]> {
    // SAFETY: the strings of a request live as long as it does.
    unsafe {
        let mount = location.script_name.as_ref().map_or(Some(&[][..]), |prefix| complex_value(r, prefix))?;
        let (script_name, path_info) = split_path(mount, bytes((*r).uri));
        own.push(names::REQUEST_METHOD, bytes((*r).method_name));
        let protocol = bytes((*r).http_protocol);
        own.push(names::SERVER_PROTOCOL, if protocol.is_empty() { b"HTTP/0.9" } else { protocol });
        push_unless_empty(own, names::SCRIPT_NAME, script_name);
        Some(path_info)
    }
}

/// # Safety
/// As [`snapshot`].
unsafe fn target(own: &mut Entries, r: *mut ngx_http_request_t, path_info: &[u8]) {
    // SAFETY: as above.
    let (query, uri) = unsafe { (bytes((*r).args), bytes((*r).unparsed_uri)) };
    own.push(names::PATH_INFO, path_info);
    own.push(names::REQUEST_URI, uri);
    push_unless_empty(own, names::QUERY_STRING, query);
}

/// Adds an entry that is the empty string where it is not given.
fn push_unless_empty(own: &mut Entries, name: Name<'_>, value: &[u8]) {
    if !value.is_empty() {
        own.push(name, value);
    }
}

/// # Safety
/// As [`snapshot`].
unsafe fn client(own: &mut Entries, r: *mut ngx_http_request_t, password_is_checked: bool) {
    // SAFETY: as above; a request has a connection, and that a client's address.
    unsafe {
        let connection = &*(*r).connection;
        own.push(names::REMOTE_ADDR, bytes(connection.addr_text));
        match ngx_inet_get_port(connection.sockaddr) {
            0 => {} // a unix socket
            port => own.push_number(names::REMOTE_PORT, port.into()),
        }
        if password_is_checked {
            own.push(names::REMOTE_USER, bytes((*r).headers_in.user));
            own.push(names::AUTH_TYPE, b"Basic");
        }
    }
}

/// Adds SERVER_NAME and DOCUMENT_ROOT where they depend on the request, so that the base environ has none.
///
/// # Safety
/// As [`snapshot`].
unsafe fn server_name_and_root(
    own: &mut Entries,
    base_environ: &Entries,
    r: *mut ngx_http_request_t,
    main: &MainConf,
) -> Option<()> {
    // SAFETY: as above; a location's configuration lives with the cycle.
    unsafe {
        if !base_environ::is_host(bytes((*core_srv_conf(r)).server_name)) {
            match (bytes((*r).headers_in.server), base_environ.get(names::SERVER_ADDR)) {
                ([], Some(address)) if address.starts_with(b"unix:") => own.push(names::SERVER_NAME, b"localhost"),
                // An IPv6 address, as it stands in a URL.
                ([], Some(address)) if address.contains(&b':') => {
                    own.push_parts(names::SERVER_NAME, &[b"[", address, b"]"]);
                }
                ([], address) => own.push(names::SERVER_NAME, address.unwrap_or(b"localhost")),
                (host, _) => own.push(names::SERVER_NAME, host),
            }
        }
        if !(*core_loc_conf(r)).root_lengths.is_null() {
            let root = ngx_http_get_indexed_variable(r, main.document_root).as_ref()?;
            own.push(names::DOCUMENT_ROOT, if root.not_found() != 0 { &[] } else { root.as_bytes() });
        }
    }
    Some(())
}

/// The core module's configuration of the request's server.
///
/// # Safety
/// As [`snapshot`].
pub(super) unsafe fn core_srv_conf(r: *const ngx_http_request_t) -> *mut ngx_http_core_srv_conf_t {
    // SAFETY: a request has a server configuration of every http module.
    unsafe { (*(*r).srv_conf.add((*ptr::addr_of!(ngx_http_core_module)).ctx_index)).cast() }
}

/// The core module's configuration of the request's location.
///
/// # Safety
/// As [`snapshot`].
pub(crate) unsafe fn core_loc_conf(r: *const ngx_http_request_t) -> *mut ngx_http_core_loc_conf_t {
    // SAFETY: a request has a location configuration of every http module.
    unsafe { (*(*r).loc_conf.add((*ptr::addr_of!(ngx_http_core_module)).ctx_index)).cast() }
}

/// CONTENT_LENGTH: the length of what `wsgi.input` gives, where the client announced a body; unknown for a chunked
/// body that streams.
///
/// # Safety
/// As [`snapshot`].
unsafe fn body_length(r: *mut ngx_http_request_t, length: u64) -> Option<u64> {
    // SAFETY: as the caller vouches.
    let (headers, streamed) = unsafe { (&(*r).headers_in, wsgi_request_body_no_buffering(r) != 0) };
    if streamed {
        // Of a chunked body nginx counts there what has come so far.
        return if headers.chunked() != 0 { None } else { u64::try_from(headers.content_length_n).ok() };
    }
    (headers.content_length_n >= 0 || headers.chunked() != 0 || length > 0).then_some(length)
}
