//! nginx's error logs, for threads other than the event loop.
//!
//! Where all outputs of a log are files, the thread writes the record itself, through descriptors of the module's own:
//! nginx closes its descriptors when it reopens its logs. Any other log (syslog opens connections) is written by the
//! event loop, which gets the record through a [`LogQueue`]. Threads never touch nginx's memory.

use std::cell::{Cell, RefCell, UnsafeCell};
use std::collections::HashMap;
use std::fmt;
use std::os::fd::RawFd;
use std::ptr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use nginx_sys::*;

use super::ffi::{guard, wsgi_log_write_fd};
use super::log_queue::LogQueue;
use super::worker::worker;
use super::{log, waker};
use crate::exchange::log::{Level, Sink};

/// Largest number of lines from other threads that the event loop writes in one turn.
const LINES_A_TURN: usize = 64;

/// A line on its way to the event loop.
struct Line {
    log: &'static ErrorLog,
    level: Level,
    connection: u64,
    text: Box<[u8]>,
}

/// What threads and the event loop share.
struct Shared {
    queue: Mutex<LogQueue<Line>>,
    /// Wakes the event loop, which calls [`Logs::write_deferred`].
    wakeup: Box<dyn Fn() + Send + Sync>,
}

impl Shared {
    /// Held for moments only: the event loop waits for it.
    fn queue(&self) -> MutexGuard<'_, LogQueue<Line>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A log file, for writing by threads. It lives as long as the process, as do the threads that may still write.
struct LogFile {
    nginx: *mut ngx_open_file_t,
    /// The cycle that `nginx` belongs to.
    cycle: *const ngx_cycle_t,
    /// The `flush` that `nginx` had before it got [`reopening`].
    flush: Option<unsafe extern "C" fn(*mut ngx_open_file_t, *mut ngx_log_t)>,
    /// Standard error, or a duplicate of nginx's descriptor. Its number stays; `dup3()` changes what it stands for.
    fd: RawFd,
    /// Held by the thread that writes, to keep the lines of a record together.
    writing: Mutex<()>,
}

/// An error log of the configuration: the main one, or a location's.
struct ErrorLog {
    nginx: *mut ngx_log_t,
    /// The cycle that `nginx` belongs to.
    cycle: *const ngx_cycle_t,
    /// The least severe level that any output takes.
    level: usize,
    /// The outputs, with the level of each, in nginx's order. `None`: not all of them are files.
    files: Option<Vec<(usize, &'static LogFile)>>,
    shared: &'static Shared,
}

// SAFETY: only the event loop follows the pointers; all else in it may be shared.
unsafe impl Sync for LogFile {}
// SAFETY: as above.
unsafe impl Send for ErrorLog {}
// SAFETY: as above.
unsafe impl Sync for ErrorLog {}

impl fmt::Debug for ErrorLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ErrorLog").field("nginx", &self.nginx).field("level", &self.level).finish_non_exhaustive()
    }
}

impl Sink for ErrorLog {
    fn write(&'static self, level: Level, connection: u64, record: &[u8]) {
        if level as usize > self.level {
            return;
        }
        if super::is_event_loop() {
            return log::each_line(record, |line| self.write_through_nginx(level, connection, line));
        }
        match &self.files {
            Some(files) => {
                let taken = files.iter().take_while(|&&(least, _)| level as usize <= least);
                taken.for_each(|&(_, file)| file.write(level, connection, record));
            }
            None => self.defer(level, connection, record),
        }
    }
}

impl ErrorLog {
    /// Leaves a record to the event loop.
    fn defer(&'static self, level: Level, connection: u64, record: &[u8]) {
        let mut lines = Vec::new();
        let mut bytes = 0;
        log::each_line(record, |text| {
            bytes += text.len();
            if LogQueue::<Line>::has_room_for(lines.len() + 1, bytes) {
                lines.push(Line { log: self, level, connection, text: text.into() });
            } else {
                lines.clear();
                bytes = usize::MAX / 2;
            }
        });
        let must_ring = self.shared.queue().add(lines, bytes, level as u8);
        if must_ring {
            (self.shared.wakeup)();
        }
    }

    /// Writes one line by nginx's own means; on the event loop.
    fn write_through_nginx(&self, level: Level, connection: u64, line: &[u8]) {
        // SAFETY: `ngx_cycle` is valid in every process. A log of the current cycle is, too; those of others may be gone.
        unsafe {
            let log = if ptr::eq(self.cycle, ngx_cycle.cast()) { self.nginx } else { (*ngx_cycle).log };
            log::write_line(level, log, connection, line);
        }
    }
}

impl LogFile {
    fn write(&self, level: Level, connection: u64, record: &[u8]) {
        let _whole = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        log::each_line(record, |line| {
            // SAFETY: the line has the length given; the descriptor is never closed, and the function uses nothing of a cycle.
            unsafe { wsgi_log_write_fd(level as usize, self.fd, connection, line.as_ptr(), line.len()) };
        });
    }

    /// Has the descriptor stand for what nginx's stands for now; on the event loop.
    fn follow(&self) {
        // SAFETY: the file belongs to the current cycle, and is open. A thread that writes at this moment writes to the old file or
        // to the new one: dup3() replaces the one by the other in one step.
        unsafe {
            if ptr::eq(self.cycle, ngx_cycle.cast()) && self.fd != libc::STDERR_FILENO {
                libc::dup3((*self.nginx).fd, self.fd, libc::O_CLOEXEC);
            }
        }
    }
}

/// The error logs of a worker, as its event loop holds them.
pub(crate) struct Logs {
    shared: &'static Shared,
    /// The key is the address of nginx's log.
    logs: RefCell<HashMap<usize, &'static ErrorLog>>,
    files: RefCell<Vec<&'static LogFile>>,
    /// nginx has begun to reopen its files.
    reopening: Cell<bool>,
    /// Posted for the next turn of the event loop when something is left to do.
    next_turn: UnsafeCell<ngx_event_t>,
}

/// Makes `cycle`'s error log the main one of all threads. `wakeup` wakes the event loop for [`Logs::write_deferred`].
pub(crate) fn install(cycle: &ngx_cycle_t, wakeup: Box<dyn Fn() + Send + Sync>) -> Logs {
    // SAFETY: an event is a struct of pointers, integers and flags, for which zero is nginx's own start.
    let mut next_turn = unsafe { std::mem::zeroed::<ngx_event_t>() };
    next_turn.handler = Some(take_turn);
    next_turn.log = cycle.log;
    let logs = Logs {
        shared: Box::leak(Box::new(Shared { queue: Mutex::default(), wakeup })),
        logs: RefCell::default(),
        files: RefCell::default(),
        reopening: Cell::new(false),
        next_turn: UnsafeCell::new(next_turn),
    };
    crate::exchange::log::install(logs.find(cycle.log));
    logs
}

impl Logs {
    /// The sink for an error log of the current cycle's configuration.
    pub(crate) fn sink(&self, log: *mut ngx_log_t) -> &'static dyn Sink {
        self.find(log)
    }

    fn find(&self, log: *mut ngx_log_t) -> &'static ErrorLog {
        // SAFETY: a pointer that is read only.
        let cycle: *const ngx_cycle_t = unsafe { ngx_cycle.cast() };
        let mut logs = self.logs.borrow_mut();
        match logs.get(&log.addr()) {
            Some(known) if ptr::eq(known.cycle, cycle) => known,
            _ => {
                // SAFETY: the caller's log is one of the configuration.
                let (level, files) = unsafe { ((*log).log_level, self.files_of(log, cycle)) };
                let shared = self.shared;
                let new: &'static ErrorLog = Box::leak(Box::new(ErrorLog { nginx: log, cycle, level, files, shared }));
                logs.insert(log.addr(), new);
                new
            }
        }
    }

    /// The files that a log is written to, or `None` where there are other outputs.
    ///
    /// # Safety
    /// `log` must be an error log of `cycle`'s configuration.
    unsafe fn files_of(
        &self,
        log: *mut ngx_log_t,
        cycle: *const ngx_cycle_t,
    ) -> Option<Vec<(usize, &'static LogFile)>> {
        // SAFETY: `next` is null or the next output of the same log.
        let outputs = std::iter::successors(unsafe { log.as_ref() }, |output| unsafe { output.next.as_ref() });
        let file = |output: &ngx_log_t| {
            if output.writer.is_some() {
                return None;
            }
            // SAFETY: the file of an output without a writer is an open file of the cycle.
            Some((output.log_level, unsafe { self.file(output.file, cycle)? }))
        };
        outputs.map(file).collect()
    }

    /// # Safety
    /// `nginx` must be null or an open file of `cycle`.
    unsafe fn file(&self, nginx: *mut ngx_open_file_t, cycle: *const ngx_cycle_t) -> Option<&'static LogFile> {
        let mut files = self.files.borrow_mut();
        if let Some(known) = files.iter().find(|known| ptr::eq(known.nginx, nginx) && ptr::eq(known.cycle, cycle)) {
            return Some(known);
        }
        // SAFETY: as the caller vouches. The duplicate is ours; an error is handled.
        unsafe {
            let file = nginx.as_mut()?;
            let fd = match file.fd {
                libc::STDERR_FILENO => libc::STDERR_FILENO,
                fd => libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, libc::STDERR_FILENO + 1),
            };
            if fd == -1 {
                return None;
            }
            let flush = file.flush.replace(reopening);
            let new: &'static LogFile =
                Box::leak(Box::new(LogFile { nginx, cycle, flush, fd, writing: Mutex::default() }));
            files.push(new);
            Some(new)
        }
    }

    /// Does what is left for this turn: follows nginx to the files that it has reopened, and writes what threads have left.
    fn turn(&self) {
        if self.reopening.take() {
            self.files.borrow().iter().for_each(|file| file.follow());
        }
        self.write_deferred();
    }

    /// Writes some of what other threads have left to the event loop, and comes back for the rest in the next turn.
    pub(crate) fn write_deferred(&self) {
        if self.write_some() {
            self.post();
        }
    }

    /// True: there is more.
    fn write_some(&self) -> bool {
        let taken = self.shared.queue().take(LINES_A_TURN, ngx_time());
        for line in taken.lines {
            line.log.write_through_nginx(line.level, line.connection, &line.text);
        }
        if let Some((count, level)) = taken.dropped {
            let records = if count == 1 { "record" } else { "records" };
            log::write(
                level.into(),
                &format!("{count} log {records} dropped: they came faster than this log takes them"),
            );
        }
        taken.more
    }

    fn post(&self) {
        // SAFETY: the event lives as long as the process, with the worker.
        unsafe { waker::post_next(self.next_turn.get()) };
    }

    /// The worker ends: writes what is left.
    pub(crate) fn close(&self) {
        while self.write_some() {}
    }
}

unsafe extern "C" fn take_turn(_event: *mut ngx_event_t) {
    guard((), || worker().into_iter().for_each(|worker| worker.log.turn()));
}

/// nginx calls this before it reopens a log file; the new descriptor is there in the next turn of the event loop.
unsafe extern "C" fn reopening(file: *mut ngx_open_file_t, log: *mut ngx_log_t) {
    guard((), || {
        let Some(worker) = worker() else { return };
        let logs = &worker.log;
        let known = logs.files.borrow().iter().rev().find(|known| ptr::eq(known.nginx, file)).copied();
        if let Some(flush) = known.and_then(|known| known.flush) {
            // SAFETY: what nginx would have called, with the same arguments.
            unsafe { flush(file, log) };
        }
        logs.reopening.set(true);
        logs.post();
    });
}
