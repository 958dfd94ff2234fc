//! The setters of the directives that stock slots cannot set.

use std::ffi::{c_char, c_void};
use std::mem;
use std::rc::Rc;

use nginx_sys::*;

use super::super::accel::IGNORABLE;
use super::super::ffi::{OK, UNSET};
use super::super::status::Format;
use super::directive::{Directive, Outcome, Refusal, core_loc_conf, set, text};
use super::{LocConf, MainConf, Param, Pass};
use crate::exchange::spec;

macro_rules! setters {
    ($($(#[$doc:meta])* $name:ident($conf:ty) = $body:path;)+) => {$(
        $(#[$doc])*
        pub(super) unsafe extern "C" fn $name(
            cf: *mut ngx_conf_t,
            _command: *mut ngx_command_t,
            conf: *mut c_void,
        ) -> *mut c_char {
            // SAFETY: nginx calls a setter with its parser and the configuration that the directive table names.
            unsafe { set::<$conf>(cf, conf, $body) }
        }
    )+};
}

setters! {
    /// `wsgi_pass TARGET [pool=NAME]`
    pass(LocConf) = set_pass;
    /// `wsgi_pool NAME threads=N [queue=N] [stack_size=SIZE]`
    pool(MainConf) = set_pool;
    /// `wsgi_path DIR ...`
    path(MainConf) = set_path;
    /// `wsgi_virtualenv DIR`
    virtualenv(MainConf) = set_virtualenv;
    /// `wsgi_switch_interval auto | TIME`
    switch_interval(MainConf) = set_switch_interval;
    /// `wsgi_buffers SIZE`
    buffers(LocConf) = set_buffers;
    /// `wsgi_param NAME VALUE [if_not_empty]`
    param(LocConf) = set_param;
    /// `wsgi_hide_header FIELD`
    hide_header(LocConf) = set_hide_header;
    /// `wsgi_pass_header FIELD`
    pass_header(LocConf) = set_pass_header;
    /// `wsgi_ignore_headers FIELD ...`
    ignore_headers(LocConf) = set_ignore_headers;
    /// `wsgi_script_name PREFIX`
    script_name(LocConf) = set_script_name;
    /// `wsgi_status [json | prometheus | html]`
    status(LocConf) = set_status;
}

/// The least that `wsgi_buffers` may be, in bytes.
const LEAST_BUFFERS: usize = 4 << 10;

/// What `pool=` names when it is not given and no `wsgi_pool default` says otherwise.
pub(super) fn default_pool() -> spec::Pool {
    spec::Pool { name: "default".into(), threads: 8, queue: 1024, stack_size: 0 }
}

fn set_pass(directive: &mut Directive<'_>, conf: &mut LocConf) -> Outcome {
    if conf.pass != UNSET {
        return Err("is duplicate".into());
    }
    if conf.status.is_some() {
        return Err("the location has \"wsgi_status\" already".into());
    }
    let mut words = directive.texts()?.into_iter();
    let target = words.next().unwrap_or_default();
    if target.is_empty() {
        return Err("no application".into());
    }
    if target.contains('$') {
        return Err(format!("variables are not supported in \"{target}\"").into());
    }
    let pool_name = match words.next() {
        None => None,
        Some(word) => match word.strip_prefix("pool=") {
            Some(name) if !name.is_empty() => Some(name.to_owned()),
            _ => return Err(format!("invalid parameter \"{word}\"").into()),
        },
    };
    let place = directive.place.clone();
    // SAFETY: the directive stands in a location, so there is an http context.
    let core = unsafe { &mut *core_loc_conf(directive.cf) };
    core.handler = Some(super::super::handler::content_handler);
    // SAFETY: the name of a location is valid while the configuration is read.
    if unsafe { super::super::ffi::bytes(core.name) }.ends_with(b"/") {
        core.set_auto_redirect(1);
    }
    let main = directive.main_conf();
    conf.pass = main.passes.len();
    main.passes.push(Pass { target, pool_name, place, app: 0, pool: 0 });
    Ok(())
}

fn set_pool(directive: &mut Directive<'_>, main: &mut MainConf) -> Outcome {
    let words = directive.texts()?;
    let (name, parameters) = words.split_first().ok_or("no name")?;
    if name.is_empty() {
        return Err("invalid name \"\"".into());
    }
    let mut pool = spec::Pool { name: name.clone(), threads: 0, ..default_pool() };
    for parameter in parameters {
        let invalid = || Refusal(format!("invalid parameter \"{parameter}\""));
        let (key, value) = parameter.split_once('=').ok_or_else(invalid)?;
        match key {
            "threads" => pool.threads = number(value, 1, 4096).ok_or_else(invalid)?,
            "queue" => pool.queue = number(value, 1, 1 << 24).ok_or_else(invalid)?,
            "stack_size" => pool.stack_size = size(value).filter(|&size| size >= 64 << 10).ok_or_else(invalid)?,
            _ => return Err(invalid()),
        }
    }
    if pool.threads == 0 {
        return Err("no \"threads=\" parameter".into());
    }
    if name == "default" {
        if mem::replace(&mut main.default_redefined, true) {
            return Err("duplicate pool \"default\"".into());
        }
        main.pools[0] = pool;
    } else if main.pools.iter().any(|other| &other.name == name) {
        return Err(format!("duplicate pool \"{name}\"").into());
    } else {
        main.pools.push(pool);
    }
    Ok(())
}

fn number(text: &str, least: usize, most: usize) -> Option<usize> {
    text.parse().ok().filter(|number| (least..=most).contains(number))
}

/// A size as nginx writes it: bytes, `k` or `m`.
fn size(text: &str) -> Option<usize> {
    let (digits, unit) = match text.as_bytes().last()? {
        b'k' | b'K' => (&text[..text.len() - 1], 1 << 10),
        b'm' | b'M' => (&text[..text.len() - 1], 1 << 20),
        _ => (text, 1),
    };
    digits.parse::<usize>().ok()?.checked_mul(unit)
}

fn set_path(directive: &mut Directive<'_>, main: &mut MainConf) -> Outcome {
    for word in directive.texts()? {
        let path = directory(directive, &word)?;
        main.path.push(path);
    }
    Ok(())
}

/// A directory for `sys.path`; one that is missing gets a line, as Python itself would not mind.
pub(super) fn directory(directive: &mut Directive<'_>, word: &str) -> Result<std::path::PathBuf, Refusal> {
    if word.is_empty() {
        return Err("empty path".into());
    }
    let path = directive.full_path(word);
    if !path.is_dir() {
        directive.warn(&format!("\"{}\" is not a directory", path.display()));
    }
    Ok(path)
}

fn set_virtualenv(directive: &mut Directive<'_>, main: &mut MainConf) -> Outcome {
    if main.virtualenv.is_some() {
        return Err("is duplicate".into());
    }
    main.virtualenv = Some(checked_virtualenv(directive)?);
    Ok(())
}

fn set_switch_interval(directive: &mut Directive<'_>, main: &mut MainConf) -> Outcome {
    if main.switch_interval.is_some() {
        return Err("is duplicate".into());
    }
    let word = directive.texts()?.swap_remove(0);
    let fixed = || microseconds(&word).filter(|interval| (100..=1_000_000).contains(interval));
    main.switch_interval = match word.as_str() {
        "auto" => Some(spec::SwitchInterval::Auto),
        _ => Some(spec::SwitchInterval::Fixed(fixed().ok_or_else(|| format!("invalid value \"{word}\""))?)),
    };
    Ok(())
}

/// A window needs room for a piece and what it costs: the least is a page.
fn set_buffers(directive: &mut Directive<'_>, conf: &mut LocConf) -> Outcome {
    if conf.buffers != UNSET {
        return Err("is duplicate".into());
    }
    let word = directive.texts()?.swap_remove(0);
    let bytes = size(&word).ok_or_else(|| format!("invalid value \"{word}\""))?;
    if bytes < LEAST_BUFFERS {
        return Err(format!("{word} is too little: it must be 4k or more").into());
    }
    conf.buffers = bytes;
    Ok(())
}

/// A time as nginx writes it, or in microseconds: `500us`.
fn microseconds(word: &str) -> Option<u32> {
    if let Some(number) = word.strip_suffix("us") {
        return number.parse().ok();
    }
    let mut text = ngx_str_t { len: word.len(), data: word.as_ptr().cast_mut() };
    // SAFETY: the word outlives the call, which only reads it.
    u32::try_from(unsafe { ngx_parse_time(&mut text, 0) }).ok()?.checked_mul(1000)
}

/// The virtual environment that the directive names, if this Python can use it.
pub(super) fn checked_virtualenv(directive: &mut Directive<'_>) -> Result<std::path::PathBuf, Refusal> {
    let word = directive.texts()?.into_iter().next().unwrap_or_default();
    let path = directive.full_path(&word);
    if let Some(doubt) = crate::check_virtualenv(&path)? {
        directive.warn(&doubt);
    }
    Ok(path)
}

fn set_param(directive: &mut Directive<'_>, conf: &mut LocConf) -> Outcome {
    let mut words = directive.words().into_iter().skip(1);
    let name = words.next().unwrap_or_default();
    if name.is_empty() || name.contains(&0) {
        return Err("invalid parameter name".into());
    }
    let if_not_empty = match words.nth(1).map(text).transpose()? {
        None => false,
        Some(word) if word == "if_not_empty" => true,
        Some(word) => return Err(format!("invalid parameter \"{word}\"").into()),
    };
    let value = complex_value(directive, 2)?;
    push(&mut conf.params, Param { name, value, if_not_empty })
}

/// Adds to a list that nobody has inherited yet: that happens when all of http {} has been read.
fn push<T>(list: &mut Option<Rc<Vec<T>>>, item: T) -> Outcome {
    Rc::get_mut(list.get_or_insert_default()).ok_or("a list that others have inherited already")?.push(item);
    Ok(())
}

fn field_name(directive: &Directive<'_>) -> Vec<u8> {
    directive.words().swap_remove(1).to_ascii_lowercase()
}

fn set_hide_header(directive: &mut Directive<'_>, conf: &mut LocConf) -> Outcome {
    push(&mut conf.hide_headers, field_name(directive))
}

fn set_pass_header(directive: &mut Directive<'_>, conf: &mut LocConf) -> Outcome {
    push(&mut conf.pass_headers, field_name(directive))
}

fn set_ignore_headers(directive: &mut Directive<'_>, conf: &mut LocConf) -> Outcome {
    let mut ignored = if conf.ignored == UNSET { 0 } else { conf.ignored };
    for word in directive.texts()? {
        let which = IGNORABLE.iter().position(|name| name.eq_ignore_ascii_case(&word));
        ignored |= 1 << which.ok_or_else(|| format!("invalid value \"{word}\""))?;
    }
    conf.ignored = ignored;
    Ok(())
}

fn set_script_name(directive: &mut Directive<'_>, conf: &mut LocConf) -> Outcome {
    if conf.script_name.is_some() {
        return Err("is duplicate".into());
    }
    let prefix = directive.words().swap_remove(1);
    if !matches!(prefix.first(), None | Some(b'/' | b'$')) {
        return Err(format!("\"{}\" does not begin with \"/\"", String::from_utf8_lossy(&prefix)).into());
    }
    conf.script_name = Some(Rc::new(complex_value(directive, 1)?));
    Ok(())
}

fn set_status(directive: &mut Directive<'_>, conf: &mut LocConf) -> Outcome {
    if conf.status.is_some() {
        return Err("is duplicate".into());
    }
    if conf.pass != UNSET {
        return Err("the location has \"wsgi_pass\" already".into());
    }
    conf.status = Some(match directive.texts()?.first().map_or("json", String::as_str) {
        "json" => Format::Json,
        "prometheus" => Format::Prometheus,
        "html" => Format::Html,
        other => return Err(format!("invalid value \"{other}\"").into()),
    });
    // SAFETY: the directive stands in a location, so there is an http context.
    unsafe { (*core_loc_conf(directive.cf)).handler = conf.handler() };
    Ok(())
}

/// Compiles the word at `index`, which may hold nginx variables.
fn complex_value(directive: &mut Directive<'_>, index: usize) -> Result<ngx_http_complex_value_t, Refusal> {
    // SAFETY: an all-zero complex value is what nginx starts from too.
    let mut value: ngx_http_complex_value_t = unsafe { mem::zeroed() };
    // SAFETY: as above, for a struct of pointers and flags.
    let mut compile: ngx_http_compile_complex_value_t = unsafe { mem::zeroed() };
    // SAFETY: `args` has a word at `index`: the directive table demands it.
    let word = unsafe { (*directive.cf.args).elts.cast::<ngx_str_t>().add(index) };
    compile.cf = &mut *directive.cf;
    compile.value = word;
    compile.complex_value = &mut value;
    // SAFETY: all three pointers are valid for the call; what it keeps is in the configuration's pool.
    if unsafe { ngx_http_compile_complex_value(&mut compile) } != OK {
        return Err(Refusal(String::new())); // nginx has written its own line
    }
    Ok(value)
}
