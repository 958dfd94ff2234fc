//! The table of the directives.

use std::ffi::{c_char, c_void};
use std::mem::offset_of;
use std::ptr;

use nginx_sys::*;
use ngx::ngx_string;

use super::{LocConf, MainConf, app_block, setters};

const MAIN: ngx_uint_t = NGX_HTTP_MAIN_CONF as ngx_uint_t;
const LOCATION: ngx_uint_t = NGX_HTTP_LOC_CONF as ngx_uint_t;
const ANYWHERE: ngx_uint_t = (NGX_HTTP_MAIN_CONF | NGX_HTTP_SRV_CONF | NGX_HTTP_LOC_CONF) as ngx_uint_t;
const IN_IF_AND_LIMIT: ngx_uint_t = (NGX_HTTP_LIF_CONF | NGX_HTTP_LMT_CONF) as ngx_uint_t;
const TAKE01: ngx_uint_t = (NGX_CONF_NOARGS | NGX_CONF_TAKE1) as ngx_uint_t;
const TAKE1: ngx_uint_t = NGX_CONF_TAKE1 as ngx_uint_t;
const FLAG: ngx_uint_t = NGX_CONF_FLAG as ngx_uint_t;
const TAKE1234: ngx_uint_t = NGX_CONF_TAKE1234 as ngx_uint_t;
const TAKE12: ngx_uint_t = NGX_CONF_TAKE12 as ngx_uint_t;
const TAKE23: ngx_uint_t = NGX_CONF_TAKE23 as ngx_uint_t;
const ONE_OR_MORE: ngx_uint_t = NGX_CONF_1MORE as ngx_uint_t;
const TWO_OR_MORE: ngx_uint_t = NGX_CONF_2MORE as ngx_uint_t;
const BLOCK: ngx_uint_t = NGX_CONF_BLOCK as ngx_uint_t;

type Setter = unsafe extern "C" fn(*mut ngx_conf_t, *mut ngx_command_t, *mut c_void) -> *mut c_char;

const fn main_command(name: ngx_str_t, args: ngx_uint_t, set: Setter) -> ngx_command_t {
    ngx_command_t {
        name,
        type_: MAIN | args,
        set: Some(set),
        conf: NGX_HTTP_MAIN_CONF_OFFSET,
        offset: 0,
        post: ptr::null_mut(),
    }
}

const fn location_command(name: ngx_str_t, where_and_args: ngx_uint_t, set: Setter, offset: usize) -> ngx_command_t {
    ngx_command_t {
        name,
        type_: where_and_args,
        set: Some(set),
        conf: NGX_HTTP_LOC_CONF_OFFSET,
        offset,
        post: ptr::null_mut(),
    }
}

/// Every directive of the module; docs/directives.md has an entry for each.
pub(crate) static mut COMMANDS: [ngx_command_t; 29] = [
    location_command(ngx_string!("wsgi_pass"), LOCATION | IN_IF_AND_LIMIT | TAKE12, setters::pass, 0),
    main_command(ngx_string!("wsgi_app"), BLOCK | TAKE1, app_block::app),
    main_command(ngx_string!("wsgi_pool"), TWO_OR_MORE, setters::pool),
    main_command(ngx_string!("wsgi_path"), ONE_OR_MORE, setters::path),
    main_command(ngx_string!("wsgi_virtualenv"), TAKE1, setters::virtualenv),
    main_command(ngx_string!("wsgi_switch_interval"), TAKE1, setters::switch_interval),
    ngx_command_t {
        offset: offset_of!(MainConf, gil_timeout),
        ..main_command(ngx_string!("wsgi_gil_timeout"), TAKE1, ngx_conf_set_msec_slot)
    },
    location_command(ngx_string!("wsgi_param"), ANYWHERE | TAKE23, setters::param, 0),
    location_command(
        ngx_string!("wsgi_queue_timeout"),
        ANYWHERE | TAKE1,
        ngx_conf_set_msec_slot,
        offset_of!(LocConf, queue_timeout),
    ),
    location_command(
        ngx_string!("wsgi_read_timeout"),
        ANYWHERE | TAKE1,
        ngx_conf_set_msec_slot,
        offset_of!(LocConf, read_timeout),
    ),
    location_command(
        ngx_string!("wsgi_request_timeout"),
        ANYWHERE | TAKE1,
        ngx_conf_set_msec_slot,
        offset_of!(LocConf, request_timeout),
    ),
    location_command(
        ngx_string!("wsgi_interrupt_on_abort"),
        ANYWHERE | FLAG,
        ngx_conf_set_flag_slot,
        offset_of!(LocConf, interrupt_on_abort),
    ),
    location_command(
        ngx_string!("wsgi_limit_rate"),
        ANYWHERE | TAKE1,
        ngx_conf_set_size_slot,
        offset_of!(LocConf, limit_rate),
    ),
    location_command(ngx_string!("wsgi_buffers"), ANYWHERE | TAKE1, setters::buffers, 0),
    location_command(
        ngx_string!("wsgi_buffering"),
        ANYWHERE | FLAG,
        ngx_conf_set_flag_slot,
        offset_of!(LocConf, buffering),
    ),
    location_command(
        ngx_string!("wsgi_max_temp_file_size"),
        ANYWHERE | TAKE1,
        ngx_conf_set_size_slot,
        offset_of!(LocConf, max_temp_file_size),
    ),
    location_command(
        ngx_string!("wsgi_temp_path"),
        ANYWHERE | TAKE1234,
        ngx_conf_set_path_slot,
        offset_of!(LocConf, temp_path),
    ),
    location_command(
        ngx_string!("wsgi_request_buffering"),
        ANYWHERE | FLAG,
        ngx_conf_set_flag_slot,
        offset_of!(LocConf, request_buffering),
    ),
    location_command(
        ngx_string!("wsgi_pass_request_body"),
        ANYWHERE | FLAG,
        ngx_conf_set_flag_slot,
        offset_of!(LocConf, pass_request_body),
    ),
    location_command(
        ngx_string!("wsgi_pass_request_headers"),
        ANYWHERE | FLAG,
        ngx_conf_set_flag_slot,
        offset_of!(LocConf, pass_request_headers),
    ),
    location_command(
        ngx_string!("wsgi_ignore_client_abort"),
        ANYWHERE | FLAG,
        ngx_conf_set_flag_slot,
        offset_of!(LocConf, ignore_client_abort),
    ),
    location_command(
        ngx_string!("wsgi_force_ranges"),
        ANYWHERE | FLAG,
        ngx_conf_set_flag_slot,
        offset_of!(LocConf, force_ranges),
    ),
    location_command(
        ngx_string!("wsgi_intercept_errors"),
        ANYWHERE | FLAG,
        ngx_conf_set_flag_slot,
        offset_of!(LocConf, intercept_errors),
    ),
    location_command(ngx_string!("wsgi_hide_header"), ANYWHERE | TAKE1, setters::hide_header, 0),
    location_command(ngx_string!("wsgi_pass_header"), ANYWHERE | TAKE1, setters::pass_header, 0),
    location_command(ngx_string!("wsgi_ignore_headers"), ANYWHERE | ONE_OR_MORE, setters::ignore_headers, 0),
    location_command(ngx_string!("wsgi_script_name"), ANYWHERE | TAKE1, setters::script_name, 0),
    location_command(ngx_string!("wsgi_status"), LOCATION | TAKE01, setters::status, 0),
    ngx_command_t::empty(),
];
