//! The directives: what they set, how it is inherited.

mod access;
mod app_block;
mod commands;
mod directive;
mod resolve;
mod setters;

use std::ffi::{c_char, c_void};
use std::path::PathBuf;
use std::ptr;
use std::rc::Rc;
use std::sync::Arc;

use nginx_sys::*;

use super::base_environ::BaseEnvirons;
use super::ffi::{ERROR, UNSET, copy_to_pool, guard, pool_box};
use super::module::ngx_http_wsgi_module;
use super::scoreboard::Scoreboard;
use super::status::Format;
use crate::exchange::spec;
pub(crate) use commands::COMMANDS;
pub(crate) use resolve::resolve;

/// What stands at the level of `http`.
pub(crate) struct MainConf {
    /// The `wsgi_app` blocks.
    apps: Vec<AppBlock>,
    /// The pools; the first is `default`.
    pools: Vec<spec::Pool>,
    /// Whether `wsgi_pool default` has been given.
    default_redefined: bool,
    path: Vec<PathBuf>,
    virtualenv: Option<PathBuf>,
    /// `wsgi_switch_interval`.
    switch_interval: Option<spec::SwitchInterval>,
    /// `wsgi_gil_timeout`, in milliseconds, or [`UNSET`].
    gil_timeout: ngx_msec_t,
    /// Every `wsgi_pass`, in the order in which they were read.
    passes: Vec<Pass>,
    /// What the passes come to; made by [`resolve()`].
    pub(crate) spec: spec::Spec,
    /// What the workers tell each other; made by [`resolve()`] where there is a `wsgi_pass`.
    pub(crate) scoreboard: Option<Arc<Scoreboard>>,
    /// The index of `$document_root`, for `ngx_http_get_indexed_variable()`.
    pub(crate) document_root: ngx_uint_t,
}

/// A `wsgi_app` block.
struct AppBlock {
    app: spec::App,
    /// Index into the spec, once a `wsgi_pass` has asked for it.
    index: Option<usize>,
}

/// A `wsgi_pass`.
pub(crate) struct Pass {
    target: String,
    pool_name: Option<String>,
    /// `file:line`.
    place: String,
    /// Index into [`spec::Spec::apps`].
    pub(crate) app: usize,
    /// Index into [`spec::Spec::pools`].
    pub(crate) pool: usize,
}

/// A `wsgi_param`.
pub(crate) struct Param {
    pub(crate) name: Vec<u8>,
    pub(crate) value: ngx_http_complex_value_t,
    pub(crate) if_not_empty: bool,
}

/// What a location has.
pub(crate) struct LocConf {
    pub(crate) queue_timeout: ngx_msec_t,
    pub(crate) read_timeout: ngx_msec_t,
    /// 0: none.
    pub(crate) request_timeout: ngx_msec_t,
    /// Bytes per second; 0: no limit.
    pub(crate) limit_rate: usize,
    pub(crate) buffers: usize,
    /// 1 or 0, as the flags below.
    pub(crate) buffering: usize,
    pub(crate) request_buffering: usize,
    pub(crate) pass_request_body: usize,
    pub(crate) pass_request_headers: usize,
    pub(crate) ignore_client_abort: usize,
    pub(crate) interrupt_on_abort: usize,
    pub(crate) force_ranges: usize,
    pub(crate) intercept_errors: usize,
    /// Names in lower case.
    pub(crate) hide_headers: Option<Rc<Vec<Vec<u8>>>>,
    pub(crate) pass_headers: Option<Rc<Vec<Vec<u8>>>>,
    /// A bit for each of [`super::accel::IGNORABLE`], or [`UNSET`].
    pub(crate) ignored: usize,
    pub(crate) script_name: Option<Rc<ngx_http_complex_value_t>>,
    pub(crate) max_temp_file_size: usize,
    pub(crate) temp_path: *mut ngx_path_t,
    /// Index into [`MainConf::passes`], or [`UNSET`].
    pass: usize,
    params: Option<Rc<Vec<Param>>>,
    pub(crate) base_environs: BaseEnvirons,
    /// `wsgi_status`.
    pub(crate) status: Option<Format>,
}

impl LocConf {
    /// `wsgi_request_timeout`, for ever where it is 0.
    pub(crate) fn whole_timeout(&self) -> ngx_msec_t {
        if self.request_timeout == 0 { ngx_msec_t::MAX } else { self.request_timeout }
    }

    /// What answers the location's requests, if this module does.
    fn handler(&self) -> ngx_http_handler_pt {
        if self.pass != UNSET {
            Some(super::handler::content_handler)
        } else if self.status.is_some() {
            Some(super::status::content_handler)
        } else {
            None
        }
    }

    /// The location's `wsgi_param`s.
    pub(crate) fn params(&self) -> &[Param] {
        self.params.as_ref().map_or(&[], |params| params.as_slice())
    }
}

impl MainConf {
    /// `wsgi_gil_timeout`, in milliseconds; 0: none.
    pub(crate) fn gil_timeout(&self) -> ngx_msec_t {
        if self.gil_timeout == UNSET { 60_000 } else { self.gil_timeout }
    }

    /// The `wsgi_pass` that `location` has, if any.
    pub(crate) fn pass(&self, location: &LocConf) -> Option<&Pass> {
        self.passes.get(location.pass)
    }
}

/// Moves a configuration into the pool of `cf`, which lives as long as the configuration is in use.
///
/// # Safety
/// `cf` must be valid.
unsafe fn keep<T>(cf: *mut ngx_conf_t, conf: T) -> *mut c_void {
    // SAFETY: as the caller vouches.
    let kept = guard(None, || unsafe { pool_box((*cf).pool, conf) });
    kept.map_or(ptr::null_mut(), |conf| conf.as_ptr().cast())
}

pub(crate) unsafe extern "C" fn create_main_conf(cf: *mut ngx_conf_t) -> *mut c_void {
    let conf = MainConf {
        apps: Vec::new(),
        pools: vec![setters::default_pool()],
        default_redefined: false,
        path: Vec::new(),
        virtualenv: None,
        switch_interval: None,
        gil_timeout: UNSET,
        passes: Vec::new(),
        spec: spec::Spec::default(),
        scoreboard: None,
        document_root: 0,
    };
    // SAFETY: nginx hands a valid `cf`.
    unsafe { keep(cf, conf) }
}

pub(crate) unsafe extern "C" fn create_loc_conf(cf: *mut ngx_conf_t) -> *mut c_void {
    let conf = LocConf {
        queue_timeout: UNSET,
        read_timeout: UNSET,
        request_timeout: UNSET,
        limit_rate: UNSET,
        buffers: UNSET,
        buffering: UNSET,
        request_buffering: UNSET,
        pass_request_body: UNSET,
        pass_request_headers: UNSET,
        ignore_client_abort: UNSET,
        interrupt_on_abort: UNSET,
        force_ranges: UNSET,
        intercept_errors: UNSET,
        hide_headers: None,
        pass_headers: None,
        ignored: UNSET,
        script_name: None,
        max_temp_file_size: UNSET,
        temp_path: ptr::null_mut(),
        pass: UNSET,
        params: None,
        base_environs: BaseEnvirons::default(),
        status: None,
    };
    // SAFETY: nginx hands a valid `cf`.
    unsafe { keep(cf, conf) }
}

pub(crate) unsafe extern "C" fn merge_loc_conf(
    cf: *mut ngx_conf_t,
    prev: *mut c_void,
    conf: *mut c_void,
) -> *mut c_char {
    // SAFETY: nginx hands two of our location configurations, made by create_loc_conf, and a valid `cf`.
    let (cf, prev, conf) = unsafe { (&mut *cf, &*prev.cast::<LocConf>(), &mut *conf.cast::<LocConf>()) };
    guard(usize::MAX as *mut c_char, || merge(cf, prev, conf))
}

/// nginx's own folder for temporary files of upstream responses, with the module's name in place of uwsgi's.
fn default_temp_path(cf: &ngx_conf_t) -> ngx_path_init_t {
    let uwsgi = NGX_HTTP_UWSGI_TEMP_PATH.to_bytes();
    let at = uwsgi.windows(5).rposition(|name| name == b"uwsgi").unwrap_or(uwsgi.len());
    let path = [&uwsgi[..at], uwsgi.get(at + 1..).unwrap_or(b"wsgi_temp")].concat();
    // SAFETY: `cf` is valid; the path is copied into a pool that outlives its use.
    let name = unsafe { copy_to_pool(cf.pool, &path) }.unwrap_or_default();
    ngx_path_init_t { name, level: [1, 2, 0] }
}

/// A level that has one of its own forgets the outer one's, lists included.
fn inherit_shared<T>(mine: &mut Option<Rc<T>>, theirs: &Option<Rc<T>>) {
    if mine.is_none() {
        mine.clone_from(theirs);
    }
}

fn merge(cf: &mut ngx_conf_t, prev: &LocConf, conf: &mut LocConf) -> *mut c_char {
    let inherit = |mine: &mut usize, theirs: usize, default: usize| {
        if *mine == UNSET {
            *mine = if theirs == UNSET { default } else { theirs };
        }
    };
    inherit(&mut conf.queue_timeout, prev.queue_timeout, 60_000);
    inherit(&mut conf.read_timeout, prev.read_timeout, 60_000);
    inherit(&mut conf.request_timeout, prev.request_timeout, 0);
    inherit(&mut conf.interrupt_on_abort, prev.interrupt_on_abort, 0);
    inherit(&mut conf.limit_rate, prev.limit_rate, 0);
    inherit(&mut conf.buffers, prev.buffers, 256 << 10);
    inherit(&mut conf.buffering, prev.buffering, 1);
    inherit(&mut conf.request_buffering, prev.request_buffering, 1);
    inherit(&mut conf.pass_request_body, prev.pass_request_body, 1);
    inherit(&mut conf.pass_request_headers, prev.pass_request_headers, 1);
    inherit(&mut conf.ignore_client_abort, prev.ignore_client_abort, 0);
    inherit(&mut conf.force_ranges, prev.force_ranges, 0);
    inherit(&mut conf.max_temp_file_size, prev.max_temp_file_size, 1 << 30);
    inherit(&mut conf.intercept_errors, prev.intercept_errors, 0);
    inherit(&mut conf.ignored, prev.ignored, 0);
    inherit_shared(&mut conf.params, &prev.params);
    inherit_shared(&mut conf.hide_headers, &prev.hide_headers);
    inherit_shared(&mut conf.pass_headers, &prev.pass_headers);
    inherit_shared(&mut conf.script_name, &prev.script_name);

    // As with fastcgi_pass: `if` and limit_except take the handler of the location that they stand in.
    // SAFETY: while http {} is merged, `cf` carries an http context with every module's configurations.
    let core = unsafe { &mut *directive::core_loc_conf(cf) };
    let has_none = conf.pass == UNSET && conf.status.is_none();
    if has_none && (core.noname() != 0 || core.lmt_excpt() != 0) {
        (conf.pass, conf.status) = (prev.pass, prev.status);
        if core.lmt_excpt() != 0 && core.handler.is_none() {
            core.handler = conf.handler();
        }
    }

    if conf.pass == UNSET && conf.temp_path.is_null() {
        conf.temp_path = prev.temp_path;
        return ptr::null_mut(); // no default folder for those who never use it
    }
    let mut default = default_temp_path(cf);
    // SAFETY: `cf` is valid; the paths are null or made by nginx; the default is copied.
    unsafe { ngx_conf_merge_path_value(cf, &mut conf.temp_path, prev.temp_path, &mut default) }
}

pub(crate) unsafe extern "C" fn postconfiguration(cf: *mut ngx_conf_t) -> ngx_int_t {
    // SAFETY: nginx hands a valid `cf` with an http context.
    let cf = unsafe { &mut *cf };
    guard(ERROR, || resolve(cf))
}

/// The configuration of `http` in `cycle`, which this process serves to its end; `None` without an http block.
///
/// # Safety
/// To be called by a process that never destroys the cycle: a worker, as nginx starts it.
pub(crate) unsafe fn main_conf_of_cycle(cycle: &ngx_cycle_t) -> Option<&'static MainConf> {
    // SAFETY: as the caller vouches. `conf_ctx` has an entry for every core module; that of the http module is null or its context, whose
    // main_conf has an entry for every http module; ours was made by create_main_conf and lives with the cycle.
    unsafe {
        let contexts = cycle.conf_ctx;
        let http = (*contexts.add((*ptr::addr_of!(ngx_http_module)).index)).cast::<ngx_http_conf_ctx_t>().as_ref()?;
        let index = (*ptr::addr_of!(ngx_http_wsgi_module)).ctx_index;
        (*http.main_conf.add(index)).cast::<MainConf>().as_ref()
    }
}

/// The configurations that hold for a request.
///
/// # Safety
/// `r` must be a live request of the calling thread.
pub(crate) unsafe fn confs_of_request<'a>(r: *const ngx_http_request_t) -> (&'a MainConf, &'a LocConf) {
    // SAFETY: a request has an entry for every http module in both arrays; ours were made above and live with the cycle.
    unsafe {
        let index = (*ptr::addr_of!(ngx_http_wsgi_module)).ctx_index;
        (&*(*(*r).main_conf.add(index)).cast(), &*(*(*r).loc_conf.add(index)).cast())
    }
}
