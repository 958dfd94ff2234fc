//! The snapshot of a request that the application's environ is made of.

use std::collections::HashMap;
use std::ptr;

use nginx_sys::*;
use smallvec::SmallVec;

use super::accel::split_path;
use super::conf::{LocConf, MainConf, Param};
use super::ffi::{OK, bytes, list_items, wsgi_request_body_no_buffering};
use super::{body, setting};
use crate::exchange::body::Body;
use crate::exchange::names::{self, Name};
use crate::exchange::request::{Entries, Request, http_name};

/// From this many headers on, repeats are looked for with a map.
const MANY_HEADERS: usize = 32;

/// What entries add to the bytes of a request's head, and what is not from there, in bytes, roughly; and how much room
/// is made for all of them at most before it is known to be needed.
const BESIDE_HEAD: usize = 320;
const MOST_ROOM: usize = 4 << 10;

/// Copies all that the application will see of `r` out of nginx's memory, into `own`. `None`: nginx is out of memory.
///
/// # Safety
/// `r` must be a live request of the calling thread whose body has been read; the configurations are its own.
pub(crate) unsafe fn snapshot(
    r: *mut ngx_http_request_t,
    main: &MainConf,
    location: &LocConf,
    mut own: Entries,
) -> Option<Request> {
    // SAFETY: as the caller vouches; so for the rest of this function.
    unsafe {
        let params = evaluated(r, location.params())?;
        let setting = location.settings.of(r)?;
        // Of pipelined requests the buffer has several.
        let head = (*r).header_in.as_ref().map_or(0, |head| head.pos.addr() - head.start.addr());
        own.reserve((BESIDE_HEAD + head).min(MOST_ROOM));
        let path_info = method_and_mount(&mut own, r, location)?;
        not_in_setting(&mut own, &setting, r, main)?;
        if location.pass_request_headers != 0 {
            headers(&mut own, r, &params);
        } else {
            own.end_stable();
        }
        target(&mut own, r, path_info);
        client(&mut own, r);
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
        Some(Request { setting, own, body })
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
unsafe fn client(own: &mut Entries, r: *mut ngx_http_request_t) {
    // SAFETY: as above; a request has a connection, and that a client's address.
    unsafe {
        let connection = &*(*r).connection;
        own.push(names::REMOTE_ADDR, bytes(connection.addr_text));
        match ngx_inet_get_port(connection.sockaddr) {
            0 => {} // a unix socket
            port => own.push_number(names::REMOTE_PORT, port.into()),
        }
        if let Some(user) = authenticated_user(r) {
            own.push(names::REMOTE_USER, user);
            own.push(names::AUTH_TYPE, b"Basic");
        }
    }
}

/// What is the same for all requests in most locations, and not in this one.
///
/// # Safety
/// As [`snapshot`].
unsafe fn not_in_setting(
    own: &mut Entries,
    setting: &Entries,
    r: *mut ngx_http_request_t,
    main: &MainConf,
) -> Option<()> {
    // SAFETY: as above; a location's configuration lives with the cycle.
    unsafe {
        if !setting::is_host(bytes((*core_srv_conf(r)).server_name)) {
            let name = match bytes((*r).headers_in.server) {
                [] => match setting.get(names::SERVER_ADDR) {
                    Some(address) if !address.starts_with(b"unix:") => address,
                    _ => b"localhost",
                },
                host => host,
            };
            own.push(names::SERVER_NAME, name);
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

/// The headers under their `HTTP_` names, repeats joined: those that the next request is likely to have, too, first.
///
/// # Safety
/// As [`snapshot`].
unsafe fn headers(own: &mut Entries, r: *mut ngx_http_request_t, params: &[(&Param, &[u8])]) {
    // SAFETY: as the caller vouches; header lists hold ngx_table_elt_t.
    let list = unsafe { list_items::<ngx_table_elt_t>(&(*r).headers_in.headers) };
    let mut all = SmallVec::<[Header<'_>; 24]>::new();
    for header in list.filter(|header| header.hash != 0) {
        // SAFETY: a header's strings live as long as the request; the lower-case key is as long as the key.
        let (lower, value) = unsafe {
            (bytes(ngx_str_t { len: header.key.len, data: header.lowcase_key }), trimmed(bytes(header.value)))
        };
        all.push(Header { hash: header.hash, lower, value });
    }
    // SAFETY: as the caller vouches.
    let host = unsafe { absolute_form_host(r) };
    let overridden = |lower: &[u8]| {
        params.iter().any(|(param, _)| param.name.strip_prefix(b"HTTP_").is_some_and(|rest| same_name(rest, lower)))
    };
    let mut repeats = repeats(&all);
    let mut push = |own: &mut Entries, index: usize, name: Option<Name<'_>>| {
        let Header { lower, value, .. } = all[index];
        match repeats.values(&all, index) {
            Repeated::No => own.push_header(name, lower, &[value]),
            Repeated::First(parts) => own.push_header(name, lower, &parts),
            Repeated::Later => {}
        }
    };
    let mut later = SmallVec::<[(usize, Option<Name<'_>>); 16]>::new();
    for (index, header) in all.iter().enumerate() {
        match header.lower {
            b"content-type" => own.push(names::CONTENT_TYPE, header.value),
            // The first is the one that nginx went by; Proxy would become HTTP_PROXY, which clients obey.
            b"content-length" | b"transfer-encoding" | b"proxy" => {}
            b"host" if host.is_some() => {}
            lower if overridden(lower) => {}
            lower => match names::of_header(lower) {
                Some(name) if names::is_stable(name) => push(own, index, Some(name)),
                name => later.push((index, name)),
            },
        }
    }
    if let Some(host) = host {
        own.push(names::HTTP_HOST, host);
    }
    own.end_stable();
    for &(index, name) in &later {
        push(own, index, name);
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
    let (version, line, method) = unsafe { ((*r).http_version, bytes((*r).request_line), (*r).method_name.len) };
    // From 2.0 on, :authority is a Host header by now.
    if version >= NGX_HTTP_VERSION_20 as ngx_uint_t || line.get(method + 1) == Some(&b'/') {
        return None;
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
