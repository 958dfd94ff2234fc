//! The module's variables: `$wsgi_app`, `$wsgi_pool`, `$wsgi_queue_length` and the times of a call.

use std::ptr;

use nginx_sys::*;

use super::conf;
use super::ffi::{ERROR, OK, copy_to_pool, guard};
use super::handler::context_of;
use super::worker::worker;
use ngx::ngx_string;

/// What a variable shows.
#[derive(Clone, Copy)]
enum Shows {
    App,
    Pool,
    QueueLength,
    Active,
    QueueTime,
    AppTime,
    ResponseTime,
}

const VARIABLES: [(ngx_str_t, Shows); 7] = [
    (ngx_string!("wsgi_app"), Shows::App),
    (ngx_string!("wsgi_pool"), Shows::Pool),
    (ngx_string!("wsgi_queue_length"), Shows::QueueLength),
    (ngx_string!("wsgi_active"), Shows::Active),
    (ngx_string!("wsgi_queue_time"), Shows::QueueTime),
    (ngx_string!("wsgi_app_time"), Shows::AppTime),
    (ngx_string!("wsgi_response_time"), Shows::ResponseTime),
];

pub(crate) unsafe extern "C" fn add_variables(cf: *mut ngx_conf_t) -> ngx_int_t {
    guard(ERROR, || {
        for (index, (mut name, _)) in VARIABLES.into_iter().enumerate() {
            let flags = NGX_HTTP_VAR_NOCACHEABLE as ngx_uint_t;
            // SAFETY: nginx hands a valid `cf`; a null answer is handled.
            let Some(variable) = (unsafe { ngx_http_add_variable(cf, &mut name, flags).as_mut() }) else {
                return ERROR;
            };
            variable.get_handler = Some(get);
            variable.data = index;
        }
        OK
    })
}

unsafe extern "C" fn get(r: *mut ngx_http_request_t, value: *mut ngx_variable_value_t, data: usize) -> ngx_int_t {
    guard(ERROR, || {
        // SAFETY: nginx hands a live request and the value to be set; `data` is the index given above.
        unsafe {
            let text = text(r, VARIABLES[data].1).unwrap_or_else(|| "-".into());
            let Some(copy) = copy_to_pool((*r).pool, text.as_bytes()) else { return ERROR };
            ptr::write_bytes(value, 0, 1);
            (*value).set_len(copy.len as u32);
            (*value).set_valid(1);
            (*value).set_no_cacheable(1);
            (*value).data = copy.data;
            OK
        }
    })
}

/// # Safety
/// `r` must be a live request of the calling thread.
unsafe fn text(r: *mut ngx_http_request_t, shows: Shows) -> Option<String> {
    // SAFETY: as the caller vouches.
    let ((main, location), context) = unsafe { (conf::confs_of_request(r), context_of(r)) };
    let exchange = context.as_ref().and_then(|context| context.exchange());
    let pass = main.pass(location);
    match shows {
        Shows::App => pass.map(|pass| main.spec.apps[pass.app].name.clone()),
        Shows::Pool => pass.map(|pass| main.spec.pools[pass.pool].name.clone()),
        Shows::QueueLength => Some(worker()?.queued(pass?.pool).to_string()),
        Shows::Active => worker().map(|worker| worker.active().to_string()),
        Shows::QueueTime => seconds(exchange?.submitted(), exchange?.began()?),
        Shows::AppTime => seconds(exchange?.began()?, exchange?.ended()?),
        Shows::ResponseTime => seconds(exchange?.submitted(), exchange?.ended()?),
    }
}

/// A span of two moments in microseconds, as nginx writes times: seconds and milliseconds.
fn seconds(from: u64, to: u64) -> Option<String> {
    let milliseconds = to.saturating_sub(from) / 1000;
    Some(format!("{}.{:03}", milliseconds / 1000, milliseconds % 1000))
}
