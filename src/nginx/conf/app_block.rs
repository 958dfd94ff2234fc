//! `wsgi_app NAME { ... }`

use std::ffi::{c_char, c_void};
use std::ptr;

use nginx_sys::*;

use super::directive::{Directive, Outcome, set};
use super::setters::{checked_virtualenv, directory};
use super::{AppBlock, MainConf};
use crate::exchange::spec::{App, Source, Target};

/// A block while it is read.
struct Draft {
    target: Option<Target>,
    app: App,
}

pub(super) unsafe extern "C" fn app(
    cf: *mut ngx_conf_t,
    _command: *mut ngx_command_t,
    conf: *mut c_void,
) -> *mut c_char {
    // SAFETY: nginx calls a setter with its parser and the configuration that the directive table names.
    unsafe { set::<MainConf>(cf, conf, set_app) }
}

fn set_app(directive: &mut Directive<'_>, main: &mut MainConf) -> Outcome {
    let name = directive.texts()?.into_iter().next().unwrap_or_default();
    if name.is_empty() || name.contains([':', '/']) {
        return Err(format!("invalid application name \"{name}\" (no \":\" or \"/\")").into());
    }
    if main.apps.iter().any(|other| other.app.name == name) {
        return Err(format!("duplicate application \"{name}\"").into());
    }
    let place = directive.place.clone();
    let target = Target { source: Source::Module(String::new()), callable: String::new(), factory: false };
    let app = App { name, target, path: Vec::new(), virtualenv: None, env: Vec::new(), origin: place };
    let mut draft = Draft { target: None, app };
    parse_block(directive, &mut draft)?;
    let Some(target) = draft.target else {
        return Err(format!("no \"module\" for the application \"{}\"", draft.app.name).into());
    };
    draft.app.target = target;
    main.apps.push(AppBlock { app: draft.app, index: None });
    Ok(())
}

/// Has nginx read the block, each directive in it by [`inner`].
fn parse_block(directive: &mut Directive<'_>, draft: &mut Draft) -> Outcome {
    let (handler, handler_conf) = (directive.cf.handler, directive.cf.handler_conf);
    directive.cf.handler = Some(inner);
    directive.cf.handler_conf = ptr::from_mut(draft).cast::<c_char>().cast();
    // SAFETY: `cf` is at the block's opening brace; the draft outlives the call.
    let outcome = unsafe { ngx_conf_parse(directive.cf, ptr::null_mut()) };
    directive.cf.handler = handler;
    directive.cf.handler_conf = handler_conf;
    // An empty refusal: the line has been written already.
    if outcome.is_null() { Ok(()) } else { Err("".into()) }
}

unsafe extern "C" fn inner(cf: *mut ngx_conf_t, _command: *mut ngx_command_t, conf: *mut c_void) -> *mut c_char {
    // SAFETY: nginx calls the block's handler with its parser; what it takes for `conf` is checked below.
    let draft = if conf.is_null() { unsafe { (*cf).handler_conf.cast() } } else { conf };
    // SAFETY: handler_conf is the draft that parse_block installed.
    unsafe { set::<Draft>(cf, draft, set_inner) }
}

fn set_inner(directive: &mut Directive<'_>, draft: &mut Draft) -> Outcome {
    let mut words = directive.texts()?;
    let name = String::from_utf8_lossy(&directive.words()[0]).into_owned();
    let alone = words.len() == 1;
    match name.as_str() {
        "module" | "virtualenv" | "env" | "interpreter" if !alone => Err("invalid number of arguments".into()),
        "path" if words.is_empty() => Err("invalid number of arguments".into()),
        "module" if draft.target.is_some() => Err("is duplicate".into()),
        "module" => {
            draft.target = Some(Target::parse(&words.remove(0)).map_err(|bad| bad.0)?);
            Ok(())
        }
        "path" => {
            for word in words {
                let path = directory(directive, &word)?;
                draft.app.path.push(path);
            }
            Ok(())
        }
        "virtualenv" if draft.app.virtualenv.is_some() => Err("is duplicate".into()),
        "virtualenv" => {
            draft.app.virtualenv = Some(checked_virtualenv(directive)?);
            Ok(())
        }
        "env" => match words[0].split_once('=') {
            Some((key, value)) if !key.is_empty() => {
                draft.app.env.push((key.to_owned(), value.to_owned()));
                Ok(())
            }
            _ => Err(format!("\"{}\" is not NAME=VALUE", words[0]).into()),
        },
        "interpreter" if words[0] == "main" => Ok(()),
        "interpreter" if words[0] == "own" => Err("\"own\" is not supported yet".into()),
        "interpreter" => Err(format!("invalid value \"{}\"", words[0]).into()),
        _ => Err(format!("unknown directive \"{name}\" in a \"wsgi_app\" block,").into()),
    }
}
