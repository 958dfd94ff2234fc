//! The response head: the application's fields into nginx's headers_out, where its filters look for them.

use std::{mem, ptr};

use nginx_sys::*;

use super::accel;
use super::conf::LocConf;
use super::ffi::{
    ERROR, OK, copy_to_pool, wsgi_header_multi, wsgi_reading_body, wsgi_send_early_hints, wsgi_set_allow_ranges,
    wsgi_set_disable_not_modified, wsgi_set_header_only, wsgi_set_keepalive, wsgi_set_single_range,
};
use crate::exchange::response::{Fields, Head};

const NO_CONTENT: u16 = NGX_HTTP_NO_CONTENT as u16;
const NOT_MODIFIED: u16 = NGX_HTTP_NOT_MODIFIED as u16;

/// Sets status and headers and sends them.
///
/// # Safety
/// `r` must be a live request of the calling thread whose head has not been sent, and which does not outlive the memory
/// of the fields: nginx points there.
pub(crate) unsafe fn send(r: *mut ngx_http_request_t, head: &Head, location: &LocConf) -> ngx_int_t {
    // SAFETY: as the caller vouches.
    unsafe {
        if set(r, head, location).is_none() {
            return ERROR;
        }
        wsgi_set_disable_not_modified(r, (!may_be_not_modified(r)).into());
        wsgi_set_allow_ranges(r, (location.force_ranges != 0).into());
        wsgi_set_single_range(r, 1); // a part that has gone by cannot be sent again
        announce_close(r);
        ngx_http_send_header(r)
    }
}

/// Has the head of the response say that the connection will be closed, as nginx does when it has not read all of the body
/// by the end.
///
/// # Safety
/// As [`send`].
pub(crate) unsafe fn announce_close(r: *mut ngx_http_request_t) {
    // SAFETY: as the caller vouches.
    unsafe {
        if wsgi_reading_body(r) != 0 && (*r).http_version < NGX_HTTP_VERSION_20 as ngx_uint_t {
            wsgi_set_keepalive(r, 0);
        }
    }
}

/// Whether nginx may answer 304 in the place of a 200. Conditions are looked at after the call: too late for a method that
/// has changed something by then; and a 412 for what the application has answered is not nginx's to give.
///
/// # Safety
/// As [`send`].
unsafe fn may_be_not_modified(r: *mut ngx_http_request_t) -> bool {
    // SAFETY: as the caller vouches.
    let r = unsafe { &*r };
    let (asked, answered) = (&r.headers_in, &r.headers_out);
    let safe = r.method == NGX_HTTP_GET as ngx_uint_t || r.method == NGX_HTTP_HEAD as ngx_uint_t;
    let refusable = !asked.if_match.is_null() || !asked.if_unmodified_since.is_null();
    // To nginx, `*` matches a response without an ETag, too.
    let comparable = asked.if_none_match.is_null() || !answered.etag.is_null();
    safe && !refusable && comparable
}

/// # Safety
/// As [`send`].
unsafe fn set(r: *mut ngx_http_request_t, head: &Head, location: &LocConf) -> Option<()> {
    // SAFETY: as the caller vouches.
    unsafe {
        let out = &mut (*r).headers_out;
        out.status = head.status.into();
        out.status_line = match head.line.as_slice() {
            b"200 OK" => ngx::ngx_string!("200 OK"),
            line => copy_to_pool((*r).pool, line)?,
        };
        for (name, value) in head.fields.iter() {
            if !accel::is_hidden(name, location) {
                set_field(r, name, value)?;
            }
        }
        match head.status {
            // A status line of our own keeps nginx from seeing to these itself.
            NO_CONTENT => {
                wsgi_set_header_only(r, 1);
                out.content_length_n = -1;
                // HTTP/2 and HTTP/3 would leave it out; one field among the others stays.
                let content_type = mem::take(&mut out.content_type);
                if content_type.len != 0 {
                    push(r, ngx::ngx_string!("Content-Type"), content_type)?;
                }
            }
            NOT_MODIFIED => wsgi_set_header_only(r, 1),
            _ => {
                // The body of a response to HEAD may be left out: its absence says nothing of the length.
                let head_without_body = (*r).method == NGX_HTTP_HEAD as ngx_uint_t && head.length == Some(0);
                if let (-1, Some(length), false) = (out.content_length_n, head.length, head_without_body) {
                    out.content_length_n = length as off_t;
                }
            }
        }
        Some(())
    }
}

/// The length of the longest name that [`set_field`] knows.
const LONGEST: usize = 16;

/// A field name in lower case; of a name that is longer than any that matters, nothing.
fn lowered<'a>(name: &[u8], buffer: &'a mut [u8; LONGEST]) -> &'a [u8] {
    let Some(copy) = buffer.get_mut(..name.len()) else { return &[] };
    copy.copy_from_slice(name);
    copy.make_ascii_lowercase();
    copy
}

/// As [`set_field`], of a copy.
///
/// # Safety
/// `r` must be a live request of the calling thread whose head has not been sent.
pub(crate) unsafe fn set_copy(r: *mut ngx_http_request_t, name: &[u8], value: &[u8]) -> Option<()> {
    // SAFETY: as the caller vouches; the copies live with the request.
    unsafe {
        let [name, value] = [copy_to_pool((*r).pool, name)?, copy_to_pool((*r).pool, value)?];
        set_field(r, name.as_bytes(), value.as_bytes())
    }
}

/// Bytes as nginx has them, where they are.
fn text(bytes: &[u8]) -> ngx_str_t {
    ngx_str_t { len: bytes.len(), data: bytes.as_ptr().cast_mut() }
}

/// Sets one field where nginx or its filters expect it. Hop-by-hop fields have been left out before.
///
/// # Safety
/// As [`send`].
unsafe fn set_field(r: *mut ngx_http_request_t, name: &[u8], value: &[u8]) -> Option<()> {
    let mut buffer = [0; LONGEST];
    let lower = lowered(name, &mut buffer);
    // SAFETY: as the caller vouches; `push` gives a header of the response's list, which lives as long as the request.
    unsafe {
        match lower {
            b"content-type" => {
                content_type(&mut (*r).headers_out, value);
                return Some(());
            }
            b"content-length" => {
                // It has been checked to be one that fits.
                let digits = value.iter().filter(|byte| byte.is_ascii_digit());
                (*r).headers_out.content_length_n = digits.fold(0, |sum, &digit| sum * 10 + off_t::from(digit - b'0'));
                return Some(());
            }
            b"connection" => {
                wsgi_set_keepalive(r, 0);
                return Some(());
            }
            _ => {}
        }
        let header = push(r, text(name), text(value))?;
        let out = &mut (*r).headers_out;
        match lower {
            b"server" => out.server = header,
            b"date" => out.date = header,
            b"last-modified" => {
                out.last_modified = header;
                out.last_modified_time = ngx_parse_http_time((*header).value.data, value.len());
            }
            b"etag" => out.etag = header,
            b"expires" => out.expires = header,
            b"content-encoding" => out.content_encoding = header,
            b"content-range" => out.content_range = header,
            b"accept-ranges" => out.accept_ranges = header,
            b"www-authenticate" => out.www_authenticate = header,
            b"cache-control" => return (wsgi_header_multi(r, header, 0) == OK).then_some(()),
            b"link" => return (wsgi_header_multi(r, header, 1) == OK).then_some(()),
            // Location stays in the list alone: nginx makes the one in headers_out absolute.
            _ => {}
        }
        Some(())
    }
}

/// Content-Type as written; nginx's filters go by the media type without its parameters, and by the charset.
fn content_type(out: &mut ngx_http_headers_out_t, value: &[u8]) {
    out.content_type = text(value);
    out.content_type_lowcase = ptr::null_mut();
    out.content_type_len = value.len();
    if let Some(media_type) = value.iter().position(|&byte| byte == b';') {
        out.content_type_len = value[..media_type].trim_ascii_end().len();
        if let Some((start, length)) = charset(value) {
            out.charset = text(&value[start..start + length]);
        }
    }
}

/// Where the charset parameter's value stands in a Content-Type: offset and length.
fn charset(value: &[u8]) -> Option<(usize, usize)> {
    let mut start = 0;
    for parameter in value.split(|&byte| byte == b';') {
        let lead = parameter.len() - parameter.trim_ascii_start().len();
        let name = parameter.trim_ascii_start();
        if name.len() > 8 && name[..8].eq_ignore_ascii_case(b"charset=") && start > 0 {
            let charset = name[8..].trim_ascii_end();
            let quoted = charset.len() > 1 && charset.starts_with(b"\"") && charset.ends_with(b"\"");
            let quote = usize::from(quoted);
            return Some((start + lead + 8 + quote, charset.len() - 2 * quote));
        }
        start += parameter.len() + 1;
    }
    None
}

/// Appends a field to the response's list.
///
/// # Safety
/// As [`send`].
unsafe fn push(r: *mut ngx_http_request_t, key: ngx_str_t, value: ngx_str_t) -> Option<*mut ngx_table_elt_t> {
    // SAFETY: as the caller vouches; a null answer is handled, and every member of the new header is written.
    unsafe {
        let header = ngx_list_push(&mut (*r).headers_out.headers).cast::<ngx_table_elt_t>().as_mut()?;
        ptr::write_bytes(header, 0, 1);
        header.hash = 1;
        header.key = key;
        header.value = value;
        Some(header)
    }
}

/// Sends an interim response (103) with these fields, where nginx can and its directive `early_hints` lets it.
///
/// # Safety
/// As [`send`].
pub(crate) unsafe fn send_hints(r: *mut ngx_http_request_t, fields: &Fields, location: &LocConf) -> ngx_int_t {
    let mut shown = fields.iter().filter(|(name, _)| !accel::is_hidden(name, location)).peekable();
    if shown.peek().is_none() {
        return OK;
    }
    // SAFETY: as the caller vouches. nginx sends what is in the response's list: for the time being, these fields alone.
    unsafe {
        let list = &raw mut (*r).headers_out.headers;
        let kept = list.read();
        if ngx_list_init(list, (*r).pool, fields.len().max(1), size_of::<ngx_table_elt_t>()) != OK {
            list.write(kept);
            return ERROR;
        }
        let pushed = shown.all(|(name, value)| push(r, text(name), text(value)).is_some());
        let rc = if pushed { wsgi_send_early_hints(r) } else { ERROR };
        list.write(kept);
        rc
    }
}

/// Adds `Retry-After`.
///
/// # Safety
/// As [`send`].
pub(crate) unsafe fn retry_later(r: *mut ngx_http_request_t) {
    // SAFETY: as the caller vouches. Without memory for it, the response goes without.
    let _ = unsafe { push(r, ngx::ngx_string!("Retry-After"), ngx::ngx_string!("1")) };
}

#[cfg(test)]
mod tests {
    use super::charset;

    #[test]
    fn charsets() {
        let found = |value: &'static str| charset(value.as_bytes()).map(|(at, length)| &value[at..at + length]);
        assert_eq!(found("text/html; charset=utf-8"), Some("utf-8"));
        assert_eq!(found("text/html;Charset=\"koi8-r\"; x=y"), Some("koi8-r"));
        assert_eq!(found("multipart/x; boundary=b; charset=a "), Some("a"));
        assert_eq!(found("text/html"), None);
        assert_eq!(found("charset=utf-8"), None);
    }
}
