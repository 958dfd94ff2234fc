//! World 3: CPython. Pool threads and python-main, never the event loop.
//!
//! [`Main`] is the event loop's handle on python-main, the thread that owns the interpreter's beginning and end.
//! A pool thread has a [`Thread`], and runs its jobs with it. `unsafe` towards CPython is in object/, class.rs and shim.rs,
//! which the other files build on; the rest of it is where threads and the interpreter begin and end.

mod app;
mod attach_guard;
mod bytes;
mod call;
mod class;
mod client;
mod closing;
mod cursor;
mod deferred_decref;
mod environ;
mod environ_cache;
mod errors;
mod file_wrapper;
mod fork;
mod head;
mod init;
mod input;
mod interpreter;
mod main_thread;
mod object;
mod probe;
mod shim;
mod signals;
mod start_response;
mod switch_interval;
#[cfg(test)]
mod tests;
mod thread;
mod virtualenv;

pub use attach_guard::forbid_on_this_thread;
pub use closing::Notify;
pub use init::version;
pub use interpreter::{Interpreter, unreadable_python};
pub use main_thread::{BuildInfo, Main, Spawn};
pub use probe::{Probe, probe};
pub use thread::Thread;
pub use virtualenv::check_virtualenv;
