//! World 1: the event loop. Every line here runs on the thread that nginx calls, but for the log's sink.

mod accel;
mod accept;
mod backlog;
mod board;
mod body;
mod conf;
mod cut_off;
mod deadlines;
mod ffi;
mod file;
mod handler;
mod headers;
mod log;
mod module;
mod output;
mod overdue;
mod request;
mod setting;
mod spool;
mod status;
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
