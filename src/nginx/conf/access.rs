//! Whether the workers' user can read what Python needs: a master that runs as root can read everything.

use std::ffi::{CStr, c_char};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::FromRawFd;

use nginx_sys::*;

use crate::exchange::spec::Spec;
use crate::nginx::ffi::guard;

/// What the workers cannot read, and whether their user is known at this place of the configuration.
pub(super) struct Unreadable {
    pub(super) what: String,
    pub(super) is_certain: bool,
}

/// Looks for it.
///
/// # Safety
/// `cf` must be that of a configuration that is being read.
pub(super) unsafe fn unreadable(cf: &ngx_conf_t, spec: &Spec) -> Option<Unreadable> {
    // SAFETY: every cycle has the core module's configuration, from the beginning; the names are terminated.
    unsafe {
        if libc::geteuid() != 0 {
            return crate::unreadable_python(spec).map(|what| Unreadable { what, is_certain: true });
        }
        let index = (*std::ptr::addr_of!(ngx_core_module)).index;
        let core = (*(*cf.cycle).conf_ctx.add(index)).cast::<ngx_core_conf_t>();
        if (*core).master == 0 {
            return None; // the one process stays root's
        }
        if (*core).user != ngx_uid_t::MAX {
            let name = if (*core).username.is_null() { c"".as_ptr() } else { (*core).username };
            let what = as_user(name, (*core).user, (*core).group, || crate::unreadable_python(spec))?;
            return Some(Unreadable { what, is_certain: true });
        }
        // The default, unless a `user` directive follows.
        let user = libc::getpwnam(NGX_USER.as_ptr()).as_ref()?;
        let (id, group) = (user.pw_uid, user.pw_gid);
        let what = as_user(NGX_USER.as_ptr(), id, group, || crate::unreadable_python(spec))?;
        Some(Unreadable { what, is_certain: false })
    }
}

/// What `ask` answers in a process of that user.
///
/// # Safety
/// `name` must be terminated, and this process be root's.
unsafe fn as_user(
    name: *const c_char,
    user: ngx_uid_t,
    group: ngx_gid_t,
    ask: impl FnOnce() -> Option<String>,
) -> Option<String> {
    if user == 0 {
        return None;
    }
    let mut pipe = [0; 2];
    // SAFETY: system calls with what they ask for. A master has one thread, so its child may do anything after fork(), and
    // leaves by _exit(). The descriptors of the pipe have one owner each, in either process.
    unsafe {
        if libc::pipe2(pipe.as_mut_ptr(), libc::O_CLOEXEC) != 0 {
            return None;
        }
        let (mut reader, mut writer) = (File::from_raw_fd(pipe[0]), File::from_raw_fd(pipe[1]));
        match libc::fork() {
            -1 => None,
            0 => {
                if !CStr::from_ptr(name).is_empty() {
                    libc::initgroups(name, group);
                }
                if libc::setgid(group) == 0 && libc::setuid(user) == 0 {
                    // A panic must not leave a second nginx behind.
                    let answer = guard(None, ask).unwrap_or_default();
                    let _ = writer.write_all(answer.as_bytes());
                }
                libc::_exit(0)
            }
            child => {
                drop(writer);
                let mut answer = String::new();
                let _ = reader.read_to_string(&mut answer);
                libc::waitpid(child, std::ptr::null_mut(), 0);
                (!answer.is_empty()).then_some(answer)
            }
        }
    }
}
