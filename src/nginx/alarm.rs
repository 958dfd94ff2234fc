//! A timer that wakes the event loop from any thread, finer than nginx's own.

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
    /// When it expires, if the event loop has set it; [`now`]'s microseconds.
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

    /// The timer, for [`super::waker::register`].
    pub(crate) fn file(&self) -> &File {
        &self.timer
    }

    /// Wakes the event loop after that time (less than a second, more than nothing), unless the alarm is set already. In
    /// a child that the application forked it does nothing: the descriptor is the worker's there.
    pub(crate) fn set(&self, after: Duration) {
        if !is_forked() && !self.is_set.swap(true, Ordering::AcqRel) {
            self.start(after);
        }
    }

    /// Wakes the event loop, which calls this, after that time or a little sooner, however it was set before. An expiry
    /// costs more than a system call; so an alarm that is about to expire too soon is put off.
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
