//! Signals that the application has asked for: those that nginx does not use.
//!
//! CPython notes a signal when it comes and runs its handler in the main thread's next step, which is python-main's. That
//! one waits for orders; so a thread of its own waits at the descriptor that CPython writes to, and gives the order.

use std::cell::RefCell;
use std::io::{self, ErrorKind, Read};
use std::os::fd::{IntoRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::thread;

use super::object::{Attached, Borrowed, Object, Raised, Result};

/// It runs no code of an application's, in bytes.
const STACK_SIZE: usize = 128 << 10;

thread_local! {
    /// On python-main: has it look for signals.
    static LOOK: RefCell<Option<Box<dyn Fn() + Send>>> = const { RefCell::new(None) };
}

/// Says, on python-main, how it is told to look for signals.
pub(super) fn set_look(look: impl Fn() + Send + 'static) {
    LOOK.with_borrow_mut(|slot| *slot = Some(Box::new(look)));
}

/// `_watch_signals()`: begins to wait for signals; the descriptor for `signal.set_wakeup_fd`. On python-main, once.
pub(super) fn watch_function<'py>(py: Attached<'py>, _: &[Borrowed<'_, 'py>]) -> Result<'py, Object<'py>> {
    let descriptor = watch().map_err(|error| Raised::from_io(py, &error))?;
    py.int(descriptor as u64)
}

fn watch() -> io::Result<RawFd> {
    let look = LOOK.with_borrow_mut(Option::take).ok_or(ErrorKind::Unsupported)?;
    let (mut reader, writer) = UnixStream::pair()?;
    writer.set_nonblocking(true)?; // CPython writes in a signal handler
    thread::Builder::new().name("python-signals".into()).stack_size(STACK_SIZE).spawn(move || {
        loop {
            match reader.read(&mut [0; 64]) {
                Ok(0) => return,
                Ok(_) => look(),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    })?;
    Ok(writer.into_raw_fd())
}
