//! `os.fork` in an application leaves a copy of the nginx worker with one thread. It must not act as one.
//!
//! The child keeps off the event loop and the pool, logs to its standard error, and leaves by `_exit` when the
//! application's code ends in it, so that neither nginx's nor our exit code runs.

use std::cell::Cell;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::object::{Attached, Kind, Raised, Result};

/// This process is a fork of the worker.
static CHILD: AtomicBool = AtomicBool::new(false);

/// Whether this process is a fork of the worker.
#[inline]
pub(super) fn is_child() -> bool {
    CHILD.load(Ordering::Relaxed)
}

/// Raises an exception in a child: locks of the exchange may be locked there for ever, since another thread had them at the
/// moment of the fork.
pub(super) fn refuse_child(py: Attached<'_>) -> Result<'_, ()> {
    const REFUSAL: &str = "a child process that os.fork() made cannot answer the worker's request";
    if is_child() { Err(Raised::new(py, Kind::Runtime, REFUSAL)) } else { Ok(()) }
}

/// Watches for forks from now on.
pub(super) fn watch() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        note_signals();
        // SAFETY: the handlers do what is allowed round a fork of a process with threads.
        unsafe { libc::pthread_atfork(Some(before), Some(in_parent), Some(in_child)) };
    });
}

thread_local! {
    /// The signal mask of a thread that is about to fork.
    static MASK: Cell<MaybeUninit<libc::sigset_t>> = const { Cell::new(MaybeUninit::uninit()) };
}

/// A signal that reaches the child in its first moments must find its handlers reset: it waits until then.
extern "C" fn before() {
    let (mut all, mut mask) = (MaybeUninit::uninit(), MaybeUninit::uninit());
    // SAFETY: fills both sets.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), mask.as_mut_ptr());
    }
    MASK.set(mask);
}

extern "C" fn in_parent() {
    // SAFETY: `before` has run on this thread, and has filled the set.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, MASK.get().as_ptr(), ptr::null_mut()) };
}

extern "C" fn in_child() {
    CHILD.store(true, Ordering::Relaxed);
    reset_signals();
    in_parent();
}

/// The signals that nginx had handlers for when Python started, a bit for each.
static OF_NGINX: AtomicU64 = AtomicU64::new(0);

/// A crash handler, if there is one, is of use in a child, too.
const CRASHES: [i32; 5] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGABRT];

/// The action of a signal, if there is such a signal.
fn action(signal: i32) -> Option<libc::sigaction> {
    let mut action = MaybeUninit::uninit();
    // SAFETY: sigaction is async-signal-safe and fills `action` when it succeeds.
    unsafe { (libc::sigaction(signal, ptr::null(), action.as_mut_ptr()) == 0).then(|| action.assume_init()) }
}

fn note_signals() {
    let is_handled = |signal: &i32| action(*signal).is_some_and(|action| action.sa_sigaction > libc::SIG_IGN);
    let signals = (1..32).filter(|signal| !CRASHES.contains(signal)).filter(is_handled);
    OF_NGINX.store(signals.fold(0, |all, signal| all | 1 << signal), Ordering::Relaxed);
}

fn reset_signals() {
    // nginx's handlers only note a signal for an event loop that does not run here: a child that keeps them
    // cannot be terminated. As with exec, what was ignored stays ignored; and what the application handles, it handles.
    let of_nginx = OF_NGINX.load(Ordering::Relaxed);
    for signal in (1..32).filter(|signal| of_nginx & 1 << signal != 0) {
        if let Some(mut action) = action(signal) {
            action.sa_sigaction = libc::SIG_DFL;
            action.sa_flags = 0;
            // SAFETY: as above.
            unsafe { libc::sigaction(signal, &action, ptr::null_mut()) };
        }
    }
}

/// Writes to the standard error, whatever becomes of it.
pub(super) fn write_stderr(mut bytes: &[u8]) {
    while !bytes.is_empty() {
        // SAFETY: the pointer and the length are those of a slice.
        let written = unsafe { libc::write(2, bytes.as_ptr().cast(), bytes.len()) };
        if written <= 0 {
            return;
        }
        bytes = &bytes[written as usize..];
    }
}

/// Ends the child.
pub(super) fn leave(code: i32) -> ! {
    // SAFETY: ends the process without running any code of it.
    unsafe { libc::_exit(code) }
}
