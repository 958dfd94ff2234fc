//! `wsgi_status`: the event loop reports the state of all workers and their pools from the scoreboard.

mod html;
mod json;
mod prometheus;
mod report;

use std::mem;

use nginx_sys::*;
use ngx::ngx_string;

use super::conf;
use super::ffi::{copy_to_pool, guard};
use super::worker::{Worker, worker};
pub(crate) use report::Report;

/// What it looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Json,
    Prometheus,
    Html,
}

impl Format {
    fn content_type(self) -> ngx_str_t {
        match self {
            Format::Json => ngx_string!("application/json"),
            Format::Prometheus => ngx_string!("text/plain; version=0.0.4; charset=utf-8"),
            Format::Html => ngx_string!("text/html; charset=utf-8"),
        }
    }

    fn render(self, report: &Report<'_>) -> String {
        match self {
            Format::Json => json::render(report),
            Format::Prometheus => prometheus::render(report),
            Format::Html => html::render(report),
        }
    }
}

/// The content handler of a location with `wsgi_status`.
pub(crate) unsafe extern "C" fn content_handler(r: *mut ngx_http_request_t) -> ngx_int_t {
    const INTERNAL_SERVER_ERROR: ngx_int_t = NGX_HTTP_INTERNAL_SERVER_ERROR as ngx_int_t;
    // SAFETY: nginx hands a live request.
    guard(INTERNAL_SERVER_ERROR, || unsafe { answer(r) }.unwrap_or(INTERNAL_SERVER_ERROR))
}

/// # Safety
/// `r` must be a live request of the calling thread, in its content phase.
unsafe fn answer(r: *mut ngx_http_request_t) -> Option<ngx_int_t> {
    // SAFETY: as the caller vouches; the response is in the request's pool, and nginx copies the other two.
    unsafe {
        if (*r).method as u32 & (NGX_HTTP_GET | NGX_HTTP_HEAD) == 0 {
            return Some(NGX_HTTP_NOT_ALLOWED as ngx_int_t);
        }
        let format = conf::confs_of_request(r).1.status?;
        // A process that serves no applications has nothing to tell.
        let report = worker().map_or_else(Report::default, Worker::report);
        let mut content_type = format.content_type();
        let mut body: ngx_http_complex_value_t = mem::zeroed();
        body.value = copy_to_pool((*r).pool, format.render(&report).as_bytes())?;
        Some(ngx_http_send_response(r, NGX_HTTP_OK as ngx_uint_t, &mut content_type, &mut body))
    }
}
