//! How other threads wake the event loop: an eventfd, and a timerfd for what can wait a little. Each has a
//! connection of its own.
//!
//! They are registered edge-triggered where the event method can, and then never read back: each write, each
//! expiry is an edge. (`ngx_notify` has one handler slot, which nginx's own thread pool takes.)

use std::fs::File;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::ptr;

use nginx_sys::*;

use super::ffi::{NGX_WSGI_USE_CLEAR_EVENT, OK, guard};
use super::handler;
use super::worker::worker;

/// Registers `file`, an eventfd or a timerfd: the event loop takes what threads have sent whenever it is readable. The
/// file must live as long as the process.
pub(crate) fn register(cycle: &mut ngx_cycle_t, file: &File) -> Result<(), &'static str> {
    // SAFETY: the cycle's log is valid; a null answer is handled.
    let Some(connection) = (unsafe { ngx_get_connection(file.as_raw_fd(), cycle.log).as_mut() }) else {
        return Err("no connection is left for the module's wake-ups: raise worker_connections");
    };
    // SAFETY: a connection has its two events.
    let read = unsafe { &mut *connection.read };
    read.handler = Some(wake);
    read.log = cycle.log;
    // As nginx marks its own channel: not a client's socket, so none that was left open when the worker ends.
    read.set_channel(1);
    // SAFETY: a valid event of a connection in use.
    if unsafe { ngx_handle_read_event(read, 0) } != OK {
        return Err("the module's wake-ups could not be registered with the event loop");
    }
    Ok(())
}

unsafe extern "C" fn wake(event: *mut ngx_event_t) {
    // SAFETY: nginx hands the event whose handler this is; its connection is the one registered above.
    let fd = unsafe { (*(*event).data.cast::<ngx_connection_t>()).fd };
    // SAFETY: this thread's own, set before there was any event.
    let edge_triggered = unsafe { ngx_event_flags } & NGX_WSGI_USE_CLEAR_EVENT != 0;
    guard((), || {
        if !edge_triggered {
            // SAFETY: the descriptor is open for as long as the process lives; the file is not closed here.
            let file = std::mem::ManuallyDrop::new(unsafe { <File as std::os::fd::FromRawFd>::from_raw_fd(fd) });
            let _ = (&*file).read(&mut [0; 8]);
        }
        let Some(worker) = worker() else { return };
        worker.wakeup_timer.acknowledge(fd);
        if worker.look.acknowledge(fd) {
            return worker.wake_pools();
        }
        worker.log.write_deferred();
        worker.completions.drain(|exchange| handler::post(&exchange));
    });
    // SAFETY: as above; ready and active mean for the next ngx_handle_read_event what they mean for a socket.
    unsafe {
        (*event).set_ready(0);
        if !edge_triggered {
            ngx_handle_read_event(event, 0);
        }
    }
}

/// Puts `event` on the list of those that run at the end of this turn of the event loop.
///
/// # Safety
/// `event` must stay valid until it has run or is deleted.
pub(crate) unsafe fn post(event: *mut ngx_event_t) {
    // SAFETY: the caller vouches for the event; the queue is nginx's own, used by this thread alone.
    unsafe { ngx_post_event(event, ptr::addr_of_mut!(ngx_posted_events)) };
}

/// Puts `event` on the list of those that run in the next turn of the event loop, which comes at once.
///
/// # Safety
/// As [`post`].
pub(crate) unsafe fn post_next(event: *mut ngx_event_t) {
    // SAFETY: as in [`post`].
    unsafe { ngx_post_event(event, ptr::addr_of_mut!(ngx_posted_next_events)) };
}
