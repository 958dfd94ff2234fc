//! The master process restarts a worker that an application has ended, whatever its exit code.
//!
//! nginx takes exit code 2 for a worker that cannot start, and never starts it again. But an application may leave with
//! any code, and there are ways to do so that nothing in the worker can see (`_exit` from C, a system call). The master
//! can tell the two apart: nginx leaves by `exit` on the event loop's thread, where the worker notes it, and where no
//! application ever runs.

use std::ffi::{c_int, c_void};
use std::mem::{self, MaybeUninit};
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Arc, Once};

use nginx_sys::*;

use super::conf;
use super::scoreboard::{Scoreboard, WORKERS};

/// The scoreboard of the present cycle, on which workers note that they exit: from an `Arc`, or null.
static SCOREBOARD: AtomicPtr<Scoreboard> = AtomicPtr::new(ptr::null_mut());
/// nginx's handler of SIGCHLD, once ours is in its place.
static NGINX_HANDLER: AtomicUsize = AtomicUsize::new(0);

type Handler = unsafe extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void);

/// The configuration has been read: its workers are watched from now on.
pub(crate) fn watch(cycle: &ngx_cycle_t) {
    static ONCE: Once = Once::new();
    // At the first start, nginx sets its signal handlers after this, but before it forks.
    // SAFETY: registers a function that lives for ever (the module is never unloaded).
    ONCE.call_once(|| unsafe {
        libc::pthread_atfork(Some(install), None, None);
    });
    // SAFETY: the reference does not outlive this function, and the cycle does.
    let scoreboard = unsafe { conf::main_conf_of_cycle(cycle) }.and_then(|main| main.scoreboard.as_ref());
    let scoreboard = scoreboard.map_or(ptr::null(), |scoreboard| Arc::into_raw(Arc::clone(scoreboard)));
    let last = SCOREBOARD.swap(scoreboard.cast_mut(), Ordering::AcqRel);
    if !last.is_null() {
        // SAFETY: it came from `into_raw`. A signal handler that has seen it ran in this thread, and has returned.
        drop(unsafe { Arc::from_raw(last) });
    }
}

/// Puts our handler of SIGCHLD before nginx's, in the master.
unsafe extern "C" fn install() {
    // SAFETY: written by nginx in this thread.
    let in_master = unsafe { ngx_process } == NGX_PROCESS_MASTER as ngx_uint_t;
    if !in_master || NGINX_HANDLER.load(Ordering::Relaxed) != 0 {
        return;
    }
    let mut action = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: sigaction() fills `action` when it succeeds. Ours has the type that SA_SIGINFO asks for.
    unsafe {
        if libc::sigaction(libc::SIGCHLD, ptr::null(), action.as_mut_ptr()) != 0 {
            return;
        }
        let mut action = action.assume_init();
        if action.sa_flags & libc::SA_SIGINFO == 0 || action.sa_sigaction <= libc::SIG_IGN {
            return;
        }
        NGINX_HANDLER.store(action.sa_sigaction, Ordering::Relaxed);
        action.sa_sigaction = child_ended as Handler as usize;
        libc::sigaction(libc::SIGCHLD, &action, ptr::null_mut());
    }
}

/// Runs nginx's handler, which notes who has ended, and keeps it from giving up a worker that an application has ended.
unsafe extern "C" fn child_ended(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    let mut kept = [false; WORKERS];
    // SAFETY: the master's only thread, which nginx lets take signals only while it does nothing else. What is in
    // NGINX_HANDLER was installed with SA_SIGINFO.
    unsafe {
        let processes = &mut *ptr::addr_of_mut!(ngx_processes);
        let is_master = ngx_process == NGX_PROCESS_MASTER as ngx_uint_t;
        if let (true, Some(scoreboard)) = (is_master, SCOREBOARD.load(Ordering::Acquire).as_ref()) {
            for (process, kept) in processes.iter_mut().zip(&mut kept).take(ngx_last_process as usize) {
                *kept = process.respawn() != 0 && scoreboard.is_unended(process.pid.into());
                if *kept {
                    process.set_respawn(0); // then the code means nothing to nginx
                }
            }
        }
        mem::transmute::<usize, Handler>(NGINX_HANDLER.load(Ordering::Relaxed))(signal, info, context);
        let processes = &mut *ptr::addr_of_mut!(ngx_processes);
        for (process, _) in processes.iter_mut().zip(kept).filter(|&(_, kept)| kept) {
            process.set_respawn(1);
        }
    }
}
