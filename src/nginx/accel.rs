//! What the application's head asks of nginx instead of the client: X-Accel-* fields, intercepted errors.

use std::rc::Rc;

use nginx_sys::*;

use super::conf::LocConf;
use super::ffi::{DONE, ERROR, OK, copy_to_pool, wsgi_limit_rate_set, wsgi_set_limit_rate_set};
use super::headers;
use super::request::core_loc_conf;
use crate::exchange::response::Head;

/// Fields of the application's own that go to the client along with an internal redirect.
const KEPT: [&[u8]; 5] = [b"content-type", b"set-cookie", b"content-disposition", b"cache-control", b"expires"];

/// Header fields that `wsgi_ignore_headers` can take their meaning from; each is a bit.
pub(crate) const IGNORABLE: [&str; 9] = [
    "X-Accel-Redirect",
    "X-Accel-Limit-Rate",
    "X-Accel-Buffering",
    "X-Accel-Charset",
    "X-Accel-Expires",
    "Expires",
    "Cache-Control",
    "Set-Cookie",
    "Vary",
];

/// What the head asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Wishes<'a> {
    /// An internal redirect in place of the response: a URI, or the name of a location.
    pub(crate) redirect: Option<&'a [u8]>,
    /// Whether a slow client's response may be taken off the application's hands.
    pub(crate) buffering: Option<bool>,
    /// Bytes per second; 0 lifts a limit.
    limit_rate: Option<usize>,
    charset: Option<&'a [u8]>,
}

impl<'a> Wishes<'a> {
    /// Reads the X-Accel-* fields that `location` does not ignore.
    pub(crate) fn of(head: &'a Head, location: &LocConf) -> Self {
        let mut wishes = Self::default();
        for (name, value) in head.fields.iter() {
            let Some(which) = ignorable(name).filter(|&which| location.ignored & (1 << which) == 0) else { continue };
            match IGNORABLE[which] {
                "X-Accel-Redirect" => wishes.redirect = Some(value),
                "X-Accel-Buffering" => {
                    wishes.buffering = match value {
                        yes if yes.eq_ignore_ascii_case(b"yes") => Some(true),
                        no if no.eq_ignore_ascii_case(b"no") => Some(false),
                        _ => wishes.buffering,
                    }
                }
                "X-Accel-Limit-Rate" => {
                    wishes.limit_rate = std::str::from_utf8(value).ok().and_then(|n| n.parse().ok())
                }
                "X-Accel-Charset" => wishes.charset = Some(value),
                _ => {}
            }
        }
        wishes
    }

    /// Sets what concerns the response, be it the application's or, after a redirect, nginx's own.
    ///
    /// # Safety
    /// `r` must be a live request of the calling thread.
    pub(crate) unsafe fn apply(&self, r: *mut ngx_http_request_t) -> Option<()> {
        // SAFETY: as the caller vouches; a null answer is handled.
        unsafe {
            if let Some(rate) = self.limit_rate {
                limit_rate(r, rate);
            }
            if let Some(charset) = self.charset {
                let copy = ngx_palloc((*r).pool, size_of::<ngx_str_t>()).cast::<ngx_str_t>().as_mut()?;
                *copy = copy_to_pool((*r).pool, charset)?;
                (*r).headers_out.override_charset = copy;
            }
        }
        Some(())
    }
}

/// Has `wsgi_limit_rate` hold for the application's own response, unless something else has set a limit.
///
/// # Safety
/// `r` must be a live request of the calling thread.
pub(crate) unsafe fn limit_as_configured(r: *mut ngx_http_request_t, location: &LocConf) {
    // SAFETY: as the caller vouches.
    unsafe {
        if location.limit_rate > 0 && wsgi_limit_rate_set(r) == 0 {
            limit_rate(r, location.limit_rate);
        }
    }
}

/// # Safety
/// `r` must be a live request of the calling thread.
unsafe fn limit_rate(r: *mut ngx_http_request_t, rate: usize) {
    // SAFETY: as the caller vouches.
    unsafe {
        (*r).limit_rate = rate;
        wsgi_set_limit_rate_set(r, 1);
    }
}

fn ignorable(name: &[u8]) -> Option<usize> {
    if !matches!(name.first()?, b'x' | b'X') {
        return None; // the others are of no meaning to this module
    }
    IGNORABLE.iter().position(|ignorable| ignorable.as_bytes().eq_ignore_ascii_case(name))
}

/// Redirects `r` inside nginx; the application's body is dropped. Returns what the request is to be finalised with.
///
/// # Safety
/// `r` must be a live request of the calling thread whose head has not been sent, and nothing of the module's may
/// wait for it any more.
pub(crate) unsafe fn redirect(r: *mut ngx_http_request_t, head: &Head, target: &[u8]) -> ngx_int_t {
    const NOT_FOUND: ngx_int_t = NGX_HTTP_NOT_FOUND as ngx_int_t;
    // SAFETY: as the caller vouches.
    unsafe {
        for (name, value) in head.fields.iter() {
            let kept = KEPT.iter().any(|kept| kept.eq_ignore_ascii_case(name));
            if kept && headers::set_copy(r, name, value).is_none() {
                return ERROR;
            }
        }
        let Some(mut uri) = copy_to_pool((*r).pool, target) else { return ERROR };
        if target.starts_with(b"@") {
            ngx_http_named_location(r, &mut uri);
            return DONE;
        }
        let mut args = ngx_str_t::default();
        let mut flags = NGX_HTTP_LOG_UNSAFE as ngx_uint_t;
        if ngx_http_parse_unsafe_uri(r, &mut uri, &mut args, &mut flags) != OK {
            return NOT_FOUND;
        }
        if (*r).method != NGX_HTTP_HEAD as ngx_uint_t {
            (*r).method = NGX_HTTP_GET as ngx_uint_t;
            (*r).method_name = ngx::ngx_string!("GET");
        }
        ngx_http_internal_redirect(r, &mut uri, &mut args);
        DONE
    }
}

/// Whether `wsgi_intercept_errors` has nginx's error_page answer in place of the application.
///
/// # Safety
/// `r` must be a live request of the calling thread.
pub(crate) unsafe fn intercepts(r: *mut ngx_http_request_t, head: &Head, location: &LocConf) -> bool {
    if location.intercept_errors == 0 || head.status < NGX_HTTP_SPECIAL_RESPONSE as u16 {
        return false;
    }
    // SAFETY: as the caller vouches; `error_pages` is null or an array of them.
    unsafe {
        let pages = (*core_loc_conf(r)).error_pages.as_ref();
        let named = |pages: &ngx_array_t| {
            pages
                .as_slice::<ngx_http_err_page_t>()
                .iter()
                .any(|page| page.status == ngx_int_t::from(head.status as i16))
        };
        if !pages.is_some_and(named) {
            return false;
        }
        if head.status == NGX_HTTP_UNAUTHORIZED as u16 {
            for (name, value) in head.fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case(b"www-authenticate")) {
                let _ = headers::set_copy(r, name, value);
            }
        }
    }
    true
}

/// The path of a request split at the point where the application is mounted: SCRIPT_NAME and PATH_INFO.
pub(crate) fn split_path<'a>(mount: &'a [u8], path: &'a [u8]) -> (&'a [u8], &'a [u8]) {
    let mount = mount.strip_suffix(b"/").unwrap_or(mount);
    match path.strip_prefix(mount) {
        Some(rest) if rest.is_empty() || rest[0] == b'/' => (mount, rest),
        _ => (b"", path),
    }
}

/// Whether a field of the application's stays inside nginx.
pub(crate) fn is_hidden(name: &[u8], location: &LocConf) -> bool {
    let named = |list: &Option<Rc<Vec<Vec<u8>>>>| {
        list.as_ref().is_some_and(|list| list.iter().any(|other| other.eq_ignore_ascii_case(name)))
    };
    let by_default = match name.first() {
        Some(b's' | b'S') => name.eq_ignore_ascii_case(b"status"),
        Some(b'x' | b'X') => ignorable(name).is_some(),
        _ => false,
    };
    (by_default || named(&location.hide_headers)) && !named(&location.pass_headers)
}

#[cfg(test)]
mod tests {
    use super::split_path;

    #[test]
    fn paths_are_split_at_whole_segments() {
        let split = |mount: &'static str, path: &'static str| split_path(mount.as_bytes(), path.as_bytes());
        assert_eq!(split("/blog", "/blog/a"), (&b"/blog"[..], &b"/a"[..]));
        assert_eq!(split("/blog/", "/blog/a"), (&b"/blog"[..], &b"/a"[..]));
        assert_eq!(split("/blog", "/blog"), (&b"/blog"[..], &b""[..]));
        assert_eq!(split("/blog", "/blogs"), (&b""[..], &b"/blogs"[..]));
        assert_eq!(split("", "/a"), (&b""[..], &b"/a"[..]));
        assert_eq!(split("/", "/a"), (&b""[..], &b"/a"[..]));
    }
}
