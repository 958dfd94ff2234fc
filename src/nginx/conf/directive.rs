//! One directive as its setter sees it.

use std::ffi::{OsStr, c_char, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::ptr;

use nginx_sys::*;

use super::super::ffi::{bytes, guard, wsgi_conf_error, wsgi_log_write};
use super::super::module::ngx_http_wsgi_module;
use super::MainConf;

/// Why a directive is refused; the text goes in front of `in "NAME" directive in FILE:LINE`.
pub(crate) struct Refusal(pub(crate) String);

impl<T: Into<String>> From<T> for Refusal {
    fn from(text: T) -> Self {
        Refusal(text.into())
    }
}

pub(crate) type Outcome = Result<(), Refusal>;

/// The configuration parser at one directive.
pub(crate) struct Directive<'a> {
    pub(crate) cf: &'a mut ngx_conf_t,
    name: String,
    /// `file:line` of the directive.
    pub(crate) place: String,
}

impl<'a> Directive<'a> {
    /// The directive that the parser has just read.
    fn new(cf: &'a mut ngx_conf_t) -> Self {
        let mut directive = Self { cf, name: String::new(), place: String::new() };
        directive.name = directive.words().first().map(|name| String::from_utf8_lossy(name).into()).unwrap_or_default();
        directive.place = directive.place();
        directive
    }

    /// The words of the directive, its name first.
    pub(crate) fn words(&self) -> Vec<Vec<u8>> {
        // SAFETY: while a directive is handled, `args` is an array of ngx_str_t with its words.
        let words = unsafe { (*self.cf.args).as_slice::<ngx_str_t>() };
        // SAFETY: the parser's strings are valid.
        words.iter().map(|&word| unsafe { bytes(word) }.to_vec()).collect()
    }

    /// The words behind the name, as text.
    pub(crate) fn texts(&self) -> Result<Vec<String>, Refusal> {
        self.words().into_iter().skip(1).map(text).collect()
    }

    /// Where the parser is: `file:line`.
    fn place(&self) -> String {
        // SAFETY: `conf_file` is null (a directive from the command line) or the file being read.
        match unsafe { self.cf.conf_file.as_ref() } {
            // SAFETY: the name of an open configuration file is valid.
            Some(file) => format!("{}:{}", String::from_utf8_lossy(unsafe { bytes(file.file.name) }), file.line),
            None => "the command line:0".to_owned(),
        }
    }

    /// A directory or file as written, made absolute with nginx's prefix.
    pub(crate) fn full_path(&self, path: &str) -> PathBuf {
        // SAFETY: the cycle under construction is valid, and so is its prefix.
        let prefix = unsafe { bytes((*self.cf.cycle).prefix) };
        Path::new(OsStr::from_bytes(prefix)).join(path)
    }

    /// The configuration of `http`.
    pub(crate) fn main_conf(&mut self) -> &mut MainConf {
        // SAFETY: all our directives stand in http {}.
        unsafe { &mut *main_conf(self.cf) }
    }

    /// Writes a line that refuses nothing.
    pub(crate) fn warn(&mut self, message: &str) {
        // SAFETY: `cf` is valid, the message is copied.
        unsafe { wsgi_conf_error(NGX_LOG_WARN as ngx_uint_t, self.cf, message.as_ptr(), message.len()) };
    }

    /// Writes the line that says why the configuration is refused.
    fn refuse(&mut self, refusal: &Refusal) {
        let name = &self.name;
        let message = match refusal.0.as_str() {
            duplicate @ "is duplicate" => format!("\"{name}\" directive {duplicate}"),
            other => format!("{other} in \"{name}\" directive"),
        };
        if self.place() != self.place {
            // The parser is at the end of the directive's block by now: name the line itself.
            let message = format!("{message} in {}", self.place);
            // SAFETY: `cf` has a log, the message is copied.
            unsafe { wsgi_log_write(NGX_LOG_EMERG as ngx_uint_t, self.cf.log, message.as_ptr(), message.len()) };
            return;
        }
        // SAFETY: `cf` is valid, the message is copied.
        unsafe { wsgi_conf_error(NGX_LOG_EMERG as ngx_uint_t, self.cf, message.as_ptr(), message.len()) };
    }
}

/// A word of the configuration that must be text.
pub(crate) fn text(word: Vec<u8>) -> Result<String, Refusal> {
    String::from_utf8(word)
        .map_err(|error| Refusal(format!("\"{}\" is not valid UTF-8", String::from_utf8_lossy(error.as_bytes()))))
}

/// The body of every setter: hands `set` the directive and the configuration it stands in.
///
/// # Safety
/// `cf` and `conf` must be what nginx hands to a setter of a directive whose configuration is a `Conf`.
pub(crate) unsafe fn set<Conf>(
    cf: *mut ngx_conf_t,
    conf: *mut c_void,
    set: impl FnOnce(&mut Directive<'_>, &mut Conf) -> Outcome,
) -> *mut c_char {
    let refused = usize::MAX as *mut c_char; // NGX_CONF_ERROR
    // SAFETY: the caller vouches for both.
    let (cf, conf) = unsafe { (&mut *cf, &mut *conf.cast::<Conf>()) };
    guard(refused, || {
        let mut directive = Directive::new(cf);
        match set(&mut directive, conf) {
            Ok(()) => ptr::null_mut(),
            Err(refusal) => {
                if !refusal.0.is_empty() {
                    directive.refuse(&refusal);
                }
                refused
            }
        }
    })
}

/// The configuration of `http` while it is read.
///
/// # Safety
/// `cf` must carry an http context.
pub(crate) unsafe fn main_conf(cf: &ngx_conf_t) -> *mut MainConf {
    // SAFETY: an http context has a main configuration of every http module; ours was made by create_main_conf.
    unsafe {
        let context = cf.ctx.cast::<ngx_http_conf_ctx_t>();
        (*(*context).main_conf.add((*ptr::addr_of!(ngx_http_wsgi_module)).ctx_index)).cast()
    }
}

/// The core module's configuration of the location at hand.
///
/// # Safety
/// `cf` must carry an http context.
pub(crate) unsafe fn core_loc_conf(cf: &ngx_conf_t) -> *mut ngx_http_core_loc_conf_t {
    // SAFETY: an http context has a location configuration of every http module.
    unsafe {
        let context = cf.ctx.cast::<ngx_http_conf_ctx_t>();
        (*(*context).loc_conf.add((*ptr::addr_of!(ngx_http_core_module)).ctx_index)).cast()
    }
}
