//! World 1: the event loop. Every line here runs on the thread that nginx calls, but for the sinks in `thread_log`.

mod abandoned;
mod accel;
mod accept;
mod alarm;
mod auth_basic;
mod backlog;
mod base_environ;
mod body;
mod conf;
mod cut_off;
mod deadlines;
mod descriptors;
mod ffi;
mod fields;
mod file;
mod gil;
mod handler;
mod headers;
mod leaving;
mod log;
mod log_queue;
mod module;
mod output;
mod request;
mod respawn;
mod scoreboard;
mod spool;
mod status;
mod thread_log;
mod variables;
mod waker;
mod worker;

use std::cell::Cell;

thread_local! {
    static EVENT_LOOP: Cell<bool> = const { Cell::new(false) };
}

/// Whether this is the thread that runs nginx's event loop.
fn is_event_loop() -> bool {
    EVENT_LOOP.with(Cell::get)
}
