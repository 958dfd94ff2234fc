//! Notes on each request whether auth_basic has accepted its password.
//!
//! nginx keeps no record of that. `$remote_user` is only what the client claims: nginx decodes it whenever something reads
//! it, also where `satisfy any` or a missing `auth_basic_user_file` lets the request through unchecked. So the module
//! replaces auth_basic's handler in the access phase by [`check_and_note`], which calls the original handler and notes
//! a positive answer on the request. An internal redirect clears the note, and nginx runs the access phase again. A subrequest
//! has no access phase, so it never gets a note.

use std::ffi::{CStr, c_void};
use std::ptr;
use std::slice;
use std::sync::OnceLock;

use nginx_sys::*;

use super::ffi::{ERROR, OK, guard};
use super::module::ngx_http_wsgi_module;

type Handler = unsafe extern "C" fn(*mut ngx_http_request_t) -> ngx_int_t;

/// auth_basic's own handler.
static CHECK: OnceLock<Handler> = OnceLock::new();

/// Marks a request: its address stands where the request's context would be.
static NOTE: u8 = 0;

/// Whether this is the note, and no context.
pub(crate) fn is_note(context: *const c_void) -> bool {
    ptr::eq(context, ptr::addr_of!(NOTE).cast())
}

/// Replaces auth_basic's handler by [`check_and_note`], if this nginx has the module.
///
/// # Safety
/// `cf` must be valid, at the end of the http block, where modules that nginx links statically have added their handlers.
pub(crate) unsafe fn install(cf: &mut ngx_conf_t) -> ngx_int_t {
    // SAFETY: as the caller vouches: the http context has the core module's main configuration.
    let handlers = unsafe {
        let context = cf.ctx.cast::<ngx_http_conf_ctx_t>();
        let core = *(*context).main_conf.add((*ptr::addr_of!(ngx_http_core_module)).ctx_index);
        let phase = ngx_http_phases_NGX_HTTP_ACCESS_PHASE as usize;
        &mut (*core.cast::<ngx_http_core_main_conf_t>()).phases[phase].handlers
    };
    // SAFETY: as the caller vouches.
    let Some(add_handlers) = (unsafe { postconfiguration_of(cf, c"ngx_http_auth_basic_module") }) else { return OK };
    // The handler has no symbol of its own. What the module adds when it is asked again is what it has added before.
    let before = handlers.nelts;
    // SAFETY: nginx calls it in the same way; all that it does is to add its handlers.
    if unsafe { add_handlers(cf) } != OK {
        return ERROR;
    }
    // SAFETY: the array of a phase has `nelts` handlers, and nothing else uses it until the configuration has been read.
    let all = unsafe { slice::from_raw_parts_mut(handlers.elts.cast::<ngx_http_handler_pt>(), handlers.nelts) };
    let (all, added) = all.split_at_mut(before);
    handlers.nelts = before;
    let [Some(check)] = *added else { return OK };
    let is_check = |handler: Handler| ptr::fn_addr_eq(handler, check);
    if is_check(*CHECK.get_or_init(|| check)) {
        for handler in all.iter_mut().filter(|handler| handler.is_some_and(is_check)) {
            *handler = Some(check_and_note);
        }
    }
    OK
}

/// # Safety
/// As [`install`].
unsafe fn postconfiguration_of(
    cf: &ngx_conf_t,
    name: &CStr,
) -> Option<unsafe extern "C" fn(*mut ngx_conf_t) -> ngx_int_t> {
    // SAFETY: the cycle has a list of its modules, which have names; the context of an http module is an ngx_http_module_t.
    unsafe {
        let modules = slice::from_raw_parts((*cf.cycle).modules, (*cf.cycle).modules_n);
        let module = &**modules.iter().find(|module| CStr::from_ptr((***module).name) == name)?;
        (*module.ctx.cast::<ngx_http_module_t>()).postconfiguration
    }
}

/// Replaces auth_basic's handler: calls it, and notes that it has accepted the password.
unsafe extern "C" fn check_and_note(r: *mut ngx_http_request_t) -> ngx_int_t {
    guard(NGX_HTTP_INTERNAL_SERVER_ERROR as ngx_int_t, || {
        let Some(check) = CHECK.get() else { return NGX_HTTP_INTERNAL_SERVER_ERROR as ngx_int_t };
        // SAFETY: nginx hands a live request, which has a place for each http module's context; ours has none of this
        // module's yet, which come in the content phase.
        unsafe {
            let rc = check(r);
            if rc == OK {
                let index = (*ptr::addr_of!(ngx_http_wsgi_module)).ctx_index;
                *(*r).ctx.add(index) = ptr::addr_of!(NOTE).cast_mut().cast();
            }
            rc
        }
    })
}
