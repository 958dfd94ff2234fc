//! At the end of the configuration: what every `wsgi_pass` names.

use std::sync::Arc;

use nginx_sys::*;

use super::super::auth_basic;
use super::super::ffi::{ERROR, OK, wsgi_conf_error};
use super::super::scoreboard::Scoreboard;
use super::MainConf;
use super::access::{Unreadable, unreadable};
use super::directive::main_conf;
use crate::exchange::spec::{App, Source, Spec, Target};

/// Finds application and pool of each `wsgi_pass`, and the nginx variable that snapshots read.
pub(crate) fn resolve(cf: &mut ngx_conf_t) -> ngx_int_t {
    // SAFETY: at the end of http {} `cf` carries its context; nothing else uses the configuration meanwhile.
    let main = unsafe { &mut *main_conf(cf) };
    if main.passes.is_empty() {
        return OK;
    }
    if let Err(message) = resolve_passes(main) {
        // SAFETY: `cf` is valid, the message is copied.
        unsafe { wsgi_conf_error(NGX_LOG_EMERG as ngx_uint_t, cf, message.as_ptr(), message.len()) };
        return ERROR;
    }
    // SAFETY: `cf` is that of the configuration that has just been read.
    if let Some(Unreadable { what, is_certain }) = unsafe { unreadable(cf, &main.spec) } {
        let level = if is_certain { NGX_LOG_EMERG } else { NGX_LOG_WARN };
        // SAFETY: as above.
        unsafe { wsgi_conf_error(level as ngx_uint_t, cf, what.as_ptr(), what.len()) };
        if is_certain {
            return ERROR;
        }
    }
    let mut name = ngx::ngx_string!("document_root");
    // SAFETY: `cf` is valid; nginx copies the name when it is new to it and never writes to it.
    main.document_root = match unsafe { ngx_http_get_variable_index(cf, &mut name) } {
        ERROR => return ERROR,
        index => index as ngx_uint_t,
    };
    main.scoreboard = Scoreboard::new(main.spec.pools.len(), cf.log).map(Arc::new);
    if main.scoreboard.is_none() {
        return ERROR;
    }
    super::super::log::tell_versions();
    // SAFETY: this is the end of http {}.
    unsafe { auth_basic::install(cf) }
}

fn resolve_passes(main: &mut MainConf) -> Result<(), String> {
    let MainConf { apps: blocks, pools, path, virtualenv, switch_interval, passes, spec, .. } = main;
    *spec = Spec { pools: pools.clone(), early_hints: cfg!(nginx_1_29), ..Spec::default() };
    spec.switch_interval = switch_interval.unwrap_or(spec.switch_interval);
    for pass in passes.iter_mut() {
        let refuse = |why: String| format!("{why} in \"wsgi_pass\" directive in {}", pass.place);
        let pool_name = pass.pool_name.as_deref().unwrap_or("default");
        pass.pool = pools
            .iter()
            .position(|pool| pool.name == pool_name)
            .ok_or_else(|| refuse(format!("unknown pool \"{pool_name}\"")))?;
        if let Some(block) = blocks.iter_mut().find(|block| block.app.name == pass.target) {
            pass.app = *block.index.get_or_insert_with(|| {
                spec.apps.push(block.app.clone());
                spec.apps.len() - 1
            });
            continue;
        }
        let target = Target::parse(&pass.target).map_err(|bad| refuse(bad.0))?;
        pass.app =
            spec.apps.iter().position(|app| app.target == target && app.name == pass.target).unwrap_or_else(|| {
                spec.apps.push(App {
                    name: pass.target.clone(),
                    target,
                    path: path.clone(),
                    virtualenv: virtualenv.clone(),
                    env: Vec::new(),
                    origin: pass.place.clone(),
                });
                spec.apps.len() - 1
            });
    }
    contradiction(&spec.apps)?;
    for (index, pool) in spec.pools.iter_mut().enumerate() {
        if !passes.iter().any(|pass| pass.pool == index) {
            pool.threads = 0; // it would never have a call
        }
    }
    for app in &mut spec.apps {
        if app.virtualenv.is_none() {
            app.virtualenv.clone_from(virtualenv);
        }
        if let Source::File(file) = &app.target.source {
            if !file.is_file() {
                super::super::log::warn(&format!("\"{}\" of {} is not a file", file.display(), app.origin));
            }
        }
    }
    Ok(())
}

/// All applications of a worker share one environment: none may set a variable otherwise than another.
fn contradiction(apps: &[App]) -> Result<(), String> {
    let settings: Vec<_> =
        apps.iter().flat_map(|app| app.env.iter().map(move |(name, value)| (app, name, value))).collect();
    for (index, (app, name, value)) in settings.iter().enumerate() {
        let earlier = settings[..index].iter().find(|(_, other, set)| other == name && set != value);
        if let Some((other, ..)) = earlier {
            return Err(format!(
                "the applications \"{}\" ({}) and \"{}\" ({}) set {name} differently, but share one process: \
                 serve one of them by an nginx of its own",
                other.name, other.origin, app.name, app.origin
            ));
        }
    }
    Ok(())
}
