//! A timer that any thread can set to wake the event loop. It is more precise than nginx's own timers.

use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::worker::is_forked;
use crate::exchange::now;

/// A timerfd. It is set for one expiry at a time.
pub(crate) struct Alarm {
    timer: File,
    /// It has been set, and the event loop has not acknowledged its expiry.
    is_set: AtomicBool,
    /// Time at which it expires, if the event loop has set it, in [`now`]'s microseconds.
    expires: AtomicU64,
}

impl Alarm {
    pub(crate) fn new() -> Option<Self> {
        // SAFETY: a plain system call; the descriptor it gives is ours alone.
        match unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_NONBLOCK | libc::TFD_CLOEXEC) } {
            -1 => None,
            fd => {
                // SAFETY: as above.
                let timer = unsafe { File::from_raw_fd(fd) };
                Some(Self { timer, is_set: AtomicBool::new(false), expires: AtomicU64::new(0) })
            }
        }
    }

    /// Returns the timer's file, for [`super::waker::register`].
    pub(crate) fn file(&self) -> &File {
        &self.timer
    }

    /// Wakes the event loop after `after` (more than zero, less than a second), unless the alarm is already set. Does
    /// nothing in a child that the application forked, since the descriptor belongs to the worker.
    pub(crate) fn set(&self, after: Duration) {
        if !is_forked() && !self.is_set.swap(true, Ordering::AcqRel) {
            self.start(after);
        }
    }

    /// Wakes the event loop after `after` or a little sooner, whatever was set before. Called by the event loop. An
    /// expiry costs more than a system call, so an alarm that would expire much too soon is postponed.
    pub(crate) fn move_to(&self, after: Duration) {
        let (now, after_us) = (now(), after.as_micros() as u64);
        let left = self.expires.load(Ordering::Relaxed).saturating_sub(now);
        let was_set = self.is_set.swap(true, Ordering::AcqRel);
        if is_forked() || was_set && left <= after_us && left >= after_us / 2 {
            return;
        }
        self.expires.store(now + after_us, Ordering::Relaxed);
        self.start(after);
    }

    fn start(&self, after: Duration) {
        let none = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let after = libc::timespec { tv_sec: 0, tv_nsec: after.subsec_nanos().max(1).into() };
        let once = libc::itimerspec { it_interval: none, it_value: after };
        // SAFETY: an open timer and a time that the kernel copies.
        unsafe { libc::timerfd_settime(self.timer.as_raw_fd(), 0, &once, std::ptr::null_mut()) };
    }

    /// Whether `fd` is this timer. If so, acknowledges its expiry, and the alarm can be set again.
    pub(crate) fn acknowledge(&self, fd: RawFd) -> bool {
        let is_mine = fd == self.timer.as_raw_fd();
        if is_mine {
            self.is_set.store(false, Ordering::Release);
        }
        is_mine
    }
}
