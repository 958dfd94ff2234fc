//! The header fields of a request, under their names in environ.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::slice;

use nginx_sys::*;
use smallvec::SmallVec;

use super::conf::Param;
use super::ffi::{bytes, list_items};
use crate::exchange::names::{self, Name};
use crate::exchange::request::{Entries, http_name};

/// From this many fields on, repeats are looked for with a map.
const MANY_FIELDS: usize = 32;

/// Fields that have no `HTTP_` key. An HTTP_PROXY is the environment variable that clients obey.
const WITHOUT_KEY: [&[u8]; 4] = [b"content-type", b"content-length", b"transfer-encoding", b"proxy"];

type Params<'a> = [(&'a Param, &'a [u8])];

/// A header field of the request.
struct Field<'a> {
    hash: ngx_uint_t,
    /// In lower case. A name with underscores is owned, and has hyphens in their place: both make one key.
    name: Cow<'a, [u8]>,
    value: &'a [u8],
}

impl<'a> Field<'a> {
    /// # Safety
    /// `header` must be one of a request that outlives `'a`.
    unsafe fn of(header: &ngx_table_elt_t) -> Self {
        let lower = ngx_str_t { len: header.key.len, data: header.lowcase_key };
        // SAFETY: as the caller vouches, the header outlives `'a`, and with it its strings. nginx makes the lower-case key as
        // long as the key.
        let (name, value): (&'a [u8], &'a [u8]) = unsafe { (bytes(lower), bytes(header.value)) };
        let value = trimmed(value);
        if !name.contains(&b'_') {
            return Self { hash: header.hash, name: Cow::Borrowed(name), value };
        }
        let name: Vec<u8> = name.iter().map(|&byte| if byte == b'_' { b'-' } else { byte }).collect();
        // As nginx's macro ngx_hash().
        let hash = name.iter().fold(0, |hash: ngx_uint_t, &byte| hash.wrapping_mul(31).wrapping_add(byte.into()));
        Self { hash, name: Cow::Owned(name), value }
    }
}

/// Pushes the request's header fields, repeats joined: first those that the next request is likely to have, too. Without
/// `all`, only CONTENT_TYPE.
///
/// # Safety
/// `r` must be a live request of the calling thread.
pub(super) unsafe fn push(own: &mut Entries, r: *mut ngx_http_request_t, all: bool, params: &Params<'_>) {
    // SAFETY: as the caller vouches; header lists hold ngx_table_elt_t.
    let (list, authority) = unsafe { (list_items::<ngx_table_elt_t>(&(*r).headers_in.headers), authority(r)) };
    // SAFETY: the list is that of the request, which outlives the fields.
    let field = |header| unsafe { Field::of(header) };
    let mut fields: SmallVec<[Field<'_>; 24]> = list.filter(|header| header.hash != 0).map(field).collect();
    drop_lookalikes(&mut fields);
    let overridden = |name: &[u8]| {
        params.iter().any(|(param, _)| param.name.strip_prefix(b"HTTP_").is_some_and(|rest| same_name(rest, name)))
    };
    let mut repeats = repeats(&fields);
    let mut push = |own: &mut Entries, index: usize, name: Option<Name<'_>>| {
        let lower = &*fields[index].name;
        match repeats.values(&fields, index) {
            Repeated::No => own.push_header(name, lower, &[fields[index].value]),
            Repeated::First(parts) => own.push_header(name, lower, &parts),
            Repeated::Later => {}
        }
    };
    let mut later = SmallVec::<[(usize, Option<Name<'_>>); 16]>::new();
    for (index, field) in fields.iter().enumerate() {
        match &*field.name {
            b"content-type" => push(own, index, Some(names::CONTENT_TYPE)),
            _ if !all => {}
            name if WITHOUT_KEY.contains(&name) || overridden(name) => {}
            b"host" if authority.is_some() => {}
            name => match names::of_header(name) {
                Some(name) if names::is_stable(name) => push(own, index, Some(name)),
                name => later.push((index, name)),
            },
        }
    }
    if let Some(authority) = authority.filter(|_| all && !overridden(b"host")) {
        own.push(names::HTTP_HOST, authority);
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

/// Whether a header's name makes the environ key `HTTP_` + `rest`.
fn same_name(rest: &[u8], lower: &[u8]) -> bool {
    let mut key = Vec::with_capacity(5 + lower.len());
    rest.len() == lower.len() && {
        http_name(lower, &mut key);
        key[5..] == *rest
    }
}

/// Drops each field with an underscore in its name that makes the key of another field: `X_Real_IP` where there is an
/// `X-Real-IP`, which a proxy in front may have set.
fn drop_lookalikes<'a>(fields: &mut SmallVec<[Field<'a>; 24]>) {
    let genuine = |field: &Field<'a>| match field.name {
        Cow::Borrowed(name) => Some(name),
        Cow::Owned(_) => None,
    };
    if fields.iter().all(|field| genuine(field).is_some()) {
        return;
    }
    let names: HashSet<&[u8]> = fields.iter().filter_map(genuine).chain(WITHOUT_KEY).collect();
    fields.retain(|field| genuine(field).is_some() || !names.contains(&*field.name));
}

/// Which fields have others of their name behind them.
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

fn repeats<'a>(all: &'a [Field<'_>]) -> Repeats<'a> {
    if all.len() < MANY_FIELDS {
        return Repeats::Few;
    }
    let mut places: HashMap<&[u8], Vec<usize>> = HashMap::with_capacity(all.len());
    for (index, field) in all.iter().enumerate() {
        places.entry(&*field.name).or_default().push(index);
    }
    Repeats::Many(places)
}

impl Repeats<'_> {
    fn values<'b>(&mut self, all: &[Field<'b>], index: usize) -> Repeated<'b> {
        let Field { hash, name, .. } = &all[index];
        let places = match self {
            Repeats::Few => {
                let same = |other: &Field<'_>| other.hash == *hash && other.name == *name;
                if !all.iter().enumerate().any(|(place, other)| place != index && same(other)) {
                    return Repeated::No;
                }
                all.iter().enumerate().filter(|(_, other)| same(other)).map(|(place, _)| place).collect()
            }
            Repeats::Many(places) => match places.get_mut(&**name) {
                Some(places) if places.len() == 1 => return Repeated::No,
                Some(places) => places.clone(),
                None => return Repeated::Later,
            },
        };
        if places[0] != index {
            return Repeated::Later;
        }
        if let Repeats::Many(map) = self {
            map.remove(&**name); // its later places need no list
        }
        let separator: &[u8] = if **name == *b"cookie" { b"; " } else { b", " };
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

/// The host, with its port, that the request target or `:authority` names, as nginx has parsed it and chosen the server by
/// it. RFC 9112 has it take the place of Host. In HTTP/3, nginx makes no Host field of it.
///
/// # Safety
/// `r` must be a live request of the calling thread.
unsafe fn authority<'a>(r: *mut ngx_http_request_t) -> Option<&'a [u8]> {
    // SAFETY: as the caller vouches. A subrequest does not have these itself. The two pointers are null, or the ends of a
    // string that lives as long as the request.
    unsafe {
        let main = &*(*r).main;
        if main.host_start.is_null() || main.host_end.is_null() {
            return None;
        }
        let length = main.host_end.offset_from(main.host_start) as usize;
        let port = if main.http_version < NGX_HTTP_VERSION_20 as ngx_uint_t { port_behind(main) } else { 0 };
        Some(slice::from_raw_parts(main.host_start, length + port))
    }
}

/// The length of the port, with its colon, behind the host of a request line: nginx remembers where the host ends, and
/// nothing of the port but that it was one.
///
/// # Safety
/// `main` must be an HTTP/1 request whose request line names a host.
unsafe fn port_behind(main: &ngx_http_request_t) -> usize {
    // SAFETY: as the caller vouches: the host is a part of the request line.
    let rest = unsafe {
        let end = main.request_line.data.add(main.request_line.len);
        slice::from_raw_parts(main.host_end, end.offset_from(main.host_end) as usize)
    };
    let digits = rest.strip_prefix(b":").map_or(0, |rest| rest.iter().take_while(|byte| byte.is_ascii_digit()).count());
    if digits > 0 { 1 + digits } else { 0 }
}
