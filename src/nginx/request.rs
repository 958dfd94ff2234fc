//! The snapshot of a request that the application's environ is made of.

use std::collections::HashMap;
use std::ptr;

use nginx_sys::*;
use smallvec::SmallVec;

use super::accel::split_path;
use super::conf::{LocConf, MainConf, Param};
use super::ffi::{OK, bytes, list_items, wsgi_request_body_no_buffering};
use super::{address, body};
use crate::exchange::names::{self, Name};
use crate::exchange::request::{Request, http_name};

/// From this many headers on, repeats are looked for with a map.
const MANY_HEADERS: usize = 32;

/// Copies all that the application will see of `r` out of nginx's memory. `None`: nginx is out of memory.
///
/// # Safety
/// `r` must be a live request of the calling thread whose body has been read; the configurations are its own.
pub(crate) unsafe fn snapshot(r: *mut ngx_http_request_t, main: &MainConf, location: &LocConf) -> Option<Request> {
    // SAFETY: as the caller vouches; so for the rest of this function.
    unsafe {
        let params = evaluated(r, location.params())?;
        let mut request = Request::with_capacity(1024);
        request_line(&mut request, r, location)?;
        server_and_client(&mut request, r, main)?;
        if location.pass_request_headers != 0 {
            headers(&mut request, r, &params);
        }
        if location.pass_request_body != 0 && wsgi_request_body_no_buffering(r) == 0 {
            request.set_body(body::take(r)?);
        }
        if let Some(length) = body_length(r, request.body().length()) {
            request.push_number(names::CONTENT_LENGTH, length);
        }
        for (param, value) in params {
            // As with uwsgi_param: an empty HTTP_ parameter takes the header away.
            if !(value.is_empty() && (param.if_not_empty || param.name.starts_with(b"HTTP_"))) {
                request.push(Name::Other(&param.name), value);
            }
        }
        Some(request)
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

/// # Safety
/// As [`snapshot`].
unsafe fn request_line(request: &mut Request, r: *mut ngx_http_request_t, location: &LocConf) -> Option<()> {
    // SAFETY: the strings of a request live as long as it does.
    unsafe {
        let mount = location.script_name.as_ref().map_or(Some(&[][..]), |prefix| complex_value(r, prefix))?;
        let (script_name, path_info) = split_path(mount, bytes((*r).uri));
        let r = &*r;
        request.push(names::REQUEST_METHOD, bytes(r.method_name));
        request.push(names::SCRIPT_NAME, script_name);
        request.push(names::PATH_INFO, path_info);
        request.push(names::QUERY_STRING, bytes(r.args));
        request.push(names::REQUEST_URI, bytes(r.unparsed_uri));
        let protocol = bytes(r.http_protocol);
        request.push(names::SERVER_PROTOCOL, if protocol.is_empty() { b"HTTP/0.9" } else { protocol });
        Some(())
    }
}

/// # Safety
/// As [`snapshot`].
unsafe fn server_and_client(request: &mut Request, r: *mut ngx_http_request_t, main: &MainConf) -> Option<()> {
    // SAFETY: as above; a request has a connection and a server's configuration.
    unsafe {
        let connection = &*(*r).connection;
        let tls = !connection.ssl.is_null();
        let scheme: &[u8] = if tls { b"https" } else { b"http" };
        request.push(names::REQUEST_SCHEME, scheme);
        if tls {
            request.push(names::HTTPS, b"on");
        }
        request.push(names::REMOTE_ADDR, bytes(connection.addr_text));
        match address::port_of_client(connection) {
            0 => {}
            port => request.push_number(names::REMOTE_PORT, port.into()),
        }
        address::of_server((*r).connection, |server_addr, port| {
            request.push(names::SERVER_ADDR, server_addr);
            // PEP 3333: neither is ever empty. A unix socket has no port.
            let port = match port {
                0 if tls => 443,
                0 => 80,
                port => port,
            };
            request.push_number(names::SERVER_PORT, port.into());
            request.push(names::SERVER_NAME, server_name(r, server_addr));
        })?;
        request.push_parts(names::SERVER_SOFTWARE, &[b"nginx/", NGINX_VERSION.to_bytes()]);
        request.push(names::DOCUMENT_ROOT, document_root(r, main)?);
        if let Some(user) = authenticated_user(r) {
            request.push(names::REMOTE_USER, user);
            request.push(names::AUTH_TYPE, b"Basic");
        }
        Some(())
    }
}

/// What `$document_root` has; `None` when nginx is out of memory.
///
/// # Safety
/// As [`snapshot`].
unsafe fn document_root<'a>(r: *mut ngx_http_request_t, main: &MainConf) -> Option<&'a [u8]> {
    // SAFETY: as the caller vouches; the value lives in the request's pool, and the location's own with the cycle.
    unsafe {
        let core = &*core_loc_conf(r);
        if core.root_lengths.is_null() {
            return Some(bytes(core.root)); // it has no variables
        }
        let value = ngx_http_get_indexed_variable(r, main.document_root).as_ref()?;
        Some(if value.not_found() != 0 { &[] } else { value.as_bytes() })
    }
}

/// The server's first name; where that is no host name (empty, a pattern), the host that the client asked for,
/// else the address.
///
/// # Safety
/// As [`snapshot`].
unsafe fn server_name(r: *mut ngx_http_request_t, address: &[u8]) -> &[u8] {
    // SAFETY: as the caller vouches.
    unsafe {
        let index = (*ptr::addr_of!(ngx_http_core_module)).ctx_index;
        let server = (*(*r).srv_conf.add(index)).cast::<ngx_http_core_srv_conf_t>();
        let name = bytes((*server).server_name);
        let is_host = name.first().is_some_and(|first| !b"*.~_".contains(first)) && !name.ends_with(b"*");
        match bytes((*r).headers_in.server) {
            _ if is_host => name,
            [] if address.starts_with(b"unix:") => b"localhost",
            [] => address,
            host => host,
        }
    }
}

/// The core module's configuration of the request's location.
///
/// # Safety
/// As [`snapshot`].
pub(crate) unsafe fn core_loc_conf(r: *const ngx_http_request_t) -> *mut ngx_http_core_loc_conf_t {
    // SAFETY: a request has a location configuration of every http module.
    unsafe { (*(*r).loc_conf.add((*ptr::addr_of!(ngx_http_core_module)).ctx_index)).cast() }
}

/// The user whose password auth_basic has checked. The name alone proves nothing: nginx decodes it whenever some
/// directive reads $remote_user, so the location must have auth_basic on, and no check may have failed (which
/// `satisfy any` forgives).
///
/// # Safety
/// As [`snapshot`].
unsafe fn authenticated_user<'a>(r: *mut ngx_http_request_t) -> Option<&'a [u8]> {
    // SAFETY: as the caller vouches.
    unsafe {
        let user = bytes((*r).headers_in.user);
        if user.is_empty() || !(*r).headers_out.www_authenticate.is_null() {
            return None;
        }
        auth_basic_is_on(r).then_some(user)
    }
}

/// # Safety
/// As [`snapshot`].
unsafe fn auth_basic_is_on(r: *mut ngx_http_request_t) -> bool {
    unsafe extern "C" {
        static ngx_http_auth_basic_module: ngx_module_t;
    }
    // SAFETY: nginx links the module statically wherever it has it; its location configuration begins with a pointer
    // to the realm's complex value, null without the directive.
    unsafe {
        let conf = *(*r).loc_conf.add(ngx_http_auth_basic_module.ctx_index);
        let Some(realm) = (*conf.cast::<*const ngx_http_complex_value_t>()).as_ref() else { return false };
        complex_value(r, realm).is_some_and(|realm| realm != b"off")
    }
}

/// The headers under their `HTTP_` names, repeats joined.
///
/// # Safety
/// As [`snapshot`].
unsafe fn headers(request: &mut Request, r: *mut ngx_http_request_t, params: &[(&Param, &[u8])]) {
    // SAFETY: as the caller vouches; header lists hold ngx_table_elt_t.
    let list = unsafe { list_items::<ngx_table_elt_t>(&(*r).headers_in.headers) };
    let all: SmallVec<[Header<'_>; 24]> = list
        .filter(|header| header.hash != 0)
        // SAFETY: a header's strings live as long as the request; the lower-case key is as long as the key.
        .map(|header| unsafe {
            let lower = bytes(ngx_str_t { len: header.key.len, data: header.lowcase_key });
            Header { hash: header.hash, lower, value: trimmed(bytes(header.value)) }
        })
        .collect();
    // SAFETY: as the caller vouches.
    let host = unsafe { absolute_form_host(r) };
    let overridden = |lower: &[u8]| {
        params.iter().any(|(param, _)| param.name.strip_prefix(b"HTTP_").is_some_and(|rest| same_name(rest, lower)))
    };
    let mut repeats = repeats(&all);
    for (index, header) in all.iter().enumerate() {
        match header.lower {
            b"content-type" => request.push(names::CONTENT_TYPE, header.value),
            // The first is the one that nginx went by; Proxy would become HTTP_PROXY, which clients obey.
            b"content-length" | b"transfer-encoding" | b"proxy" => {}
            b"host" if host.is_some() => {}
            lower if overridden(lower) => {}
            lower => match repeats.values(&all, index) {
                Repeated::No => request.push_header(lower, &[header.value]),
                Repeated::First(parts) => request.push_header(lower, &parts),
                Repeated::Later => {}
            },
        }
    }
    if let Some(host) = host {
        request.push(names::HTTP_HOST, host);
    }
}

/// A header value without the white space round it: nginx leaves tabs.
fn trimmed(value: &[u8]) -> &[u8] {
    let white = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = value.iter().position(|byte| !white(byte)).unwrap_or(value.len());
    let end = value.iter().rposition(|byte| !white(byte)).map_or(start, |last| last + 1);
    &value[start..end]
}

struct Header<'a> {
    hash: ngx_uint_t,
    lower: &'a [u8],
    value: &'a [u8],
}

/// Whether a header's name makes the environ key `HTTP_` + `rest`.
fn same_name(rest: &[u8], lower: &[u8]) -> bool {
    let mut key = Vec::with_capacity(5 + lower.len());
    rest.len() == lower.len() && {
        http_name(lower, &mut key);
        key[5..] == *rest
    }
}

/// Which headers have others of their name behind them.
enum Repeats<'a> {
    Few,
    Many(HashMap<&'a [u8], Vec<usize>>),
}

enum Repeated<'a> {
    No,
    /// The values of all of them, with separators between.
    First(Vec<&'a [u8]>),
    Later,
}

fn repeats<'a>(all: &[Header<'a>]) -> Repeats<'a> {
    if all.len() < MANY_HEADERS {
        return Repeats::Few;
    }
    let mut places: HashMap<&[u8], Vec<usize>> = HashMap::with_capacity(all.len());
    for (index, header) in all.iter().enumerate() {
        places.entry(header.lower).or_default().push(index);
    }
    Repeats::Many(places)
}

impl Repeats<'_> {
    fn values<'b>(&mut self, all: &[Header<'b>], index: usize) -> Repeated<'b> {
        let Header { hash, lower, .. } = all[index];
        let places = match self {
            Repeats::Few => {
                let same = |other: &Header<'_>| other.hash == hash && other.lower == lower;
                if !all.iter().enumerate().any(|(place, other)| place != index && same(other)) {
                    return Repeated::No;
                }
                all.iter().enumerate().filter(|(_, other)| same(other)).map(|(place, _)| place).collect()
            }
            Repeats::Many(places) => match places.get_mut(lower) {
                Some(places) if places.len() == 1 => return Repeated::No,
                Some(places) => places.clone(),
                None => return Repeated::Later,
            },
        };
        if places[0] != index {
            return Repeated::Later;
        }
        if let Repeats::Many(map) = self {
            map.remove(lower); // its later places need no list
        }
        let separator: &[u8] = if lower == b"cookie" { b"; " } else { b", " };
        let mut parts = Vec::with_capacity(places.len() * 2);
        for place in places {
            if !parts.is_empty() {
                parts.push(separator);
            }
            parts.push(all[place].value);
        }
        Repeated::First(parts)
    }
}

/// The authority of a request target in absolute form, port and all: RFC 9112 has it take the place of Host.
///
/// # Safety
/// As [`snapshot`].
unsafe fn absolute_form_host<'a>(r: *mut ngx_http_request_t) -> Option<&'a [u8]> {
    // SAFETY: as the caller vouches; the request line lives as long as the request.
    let (version, line) = unsafe { ((*r).http_version, bytes((*r).request_line)) };
    if version >= NGX_HTTP_VERSION_20 as ngx_uint_t {
        return None; // :authority is a Host header by now
    }
    let target = line.split(|&byte| byte == b' ').nth(1)?;
    if target.first() == Some(&b'/') {
        return None;
    }
    let authority = &target[target.windows(3).position(|three| three == b"://")? + 3..];
    let end = authority.iter().position(|byte| b"/?#".contains(byte)).unwrap_or(authority.len());
    let authority = &authority[..end];
    let authority = authority.iter().rposition(|&byte| byte == b'@').map_or(authority, |at| &authority[at + 1..]);
    Some(authority).filter(|authority| !authority.is_empty())
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
