//! The module as nginx sees it: its tables and what it does when a process starts and ends.

use std::ffi::c_void;
use std::ptr;

use nginx_sys::*;

use super::ffi::{OK, guard};
use super::{conf, respawn, variables, worker};

static CONTEXT: ngx_http_module_t = ngx_http_module_t {
    preconfiguration: Some(variables::add_variables),
    postconfiguration: Some(conf::postconfiguration),
    create_main_conf: Some(conf::create_main_conf),
    init_main_conf: None,
    create_srv_conf: None,
    merge_srv_conf: None,
    create_loc_conf: Some(conf::create_loc_conf),
    merge_loc_conf: Some(conf::merge_loc_conf),
};

ngx::ngx_modules!(ngx_http_wsgi_module);

/// The module; nginx writes its indices.
#[unsafe(no_mangle)]
#[cfg_attr(not(test), used)]
#[allow(non_upper_case_globals, unreachable_pub)]
pub static mut ngx_http_wsgi_module: ngx_module_t = ngx_module_t {
    ctx: ptr::addr_of!(CONTEXT).cast_mut().cast::<c_void>(),
    commands: ptr::addr_of_mut!(conf::COMMANDS).cast::<ngx_command_t>(),
    type_: NGX_HTTP_MODULE as ngx_uint_t,
    init_module: Some(init_module),
    init_process: Some(init_process),
    exit_process: Some(exit_process),
    ..ngx_module_t::default()
};

unsafe extern "C" fn init_module(cycle: *mut ngx_cycle_t) -> ngx_int_t {
    // SAFETY: nginx hands the cycle whose configuration it has read.
    guard((), || respawn::watch(unsafe { &*cycle }));
    OK
}

unsafe extern "C" fn init_process(cycle: *mut ngx_cycle_t) -> ngx_int_t {
    // SAFETY: nginx hands the cycle of the process that starts; it outlives all that the module does.
    guard((), || worker::start(unsafe { &mut *cycle }));
    OK
}

unsafe extern "C" fn exit_process(_cycle: *mut ngx_cycle_t) {
    guard((), worker::stop);
}
