//! How long CPython lets a call keep the GIL while another thread waits for it.
//!
//! CPython's own 5 ms suit calls of one kind. A short call that waits behind long ones waits for several such intervals,
//! so the interval is short for a while after one had to: the long calls are interrupted more often, which costs them
//! a few per cent, and nothing changes for anybody else.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::interpreter::Functions;
use super::object::Attached;
use crate::exchange::spec::{LONG_SWITCH_INTERVAL as LONG, SwitchInterval as Setting};

/// In microseconds. Beside two calls that compute for 50 ms, hello's p50 is 2 ms, and the computing calls lose 6 %; an
/// interval of 100 us would cost them 10 % (docs/benchmarks.md).
const SHORT: u32 = 500;
/// How long the short interval lasts after the last short call that had to wait for a long one.
const HOLD: Duration = Duration::from_millis(100);

/// The interval of one interpreter.
pub(super) struct SwitchInterval {
    setting: Setting,
    start: Instant,
    /// Until when the interval is short, in nanoseconds since `start`; 0: it is long.
    short_until: AtomicU64,
    /// Number of calls that have begun in the interpreter.
    calls: AtomicU64,
}

/// How a thread got the GIL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Wait {
    /// Its holder may have been made to drop it.
    pub(super) forced: bool,
    /// Most of the time a single call, or a thread of the application's own, had it: the thread's processor time by then.
    behind_long: Option<Duration>,
}

/// How long the calling thread has computed.
fn processor_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: fills the struct.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

impl SwitchInterval {
    pub(super) fn new(setting: Setting) -> Self {
        Self { setting, start: Instant::now(), short_until: AtomicU64::new(0), calls: AtomicU64::new(0) }
    }

    /// In microseconds.
    fn current(&self) -> u32 {
        if self.is_short() { SHORT } else { self.setting.longest() }
    }

    fn is_short(&self) -> bool {
        self.short_until.load(Ordering::Relaxed) != 0
    }

    /// Number of calls that have begun so far.
    #[inline]
    pub(super) fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// A call begins.
    #[inline]
    pub(super) fn begin_call(&self, _attached: Attached<'_>) {
        // One thread at a time is attached: no update is lost.
        self.calls.store(self.calls().wrapping_add(1), Ordering::Relaxed);
    }

    /// How a thread has got the GIL that has waited that long for it, since that many calls had begun.
    #[inline]
    pub(super) fn wait(&self, waited: Duration, calls: u64) -> Wait {
        let interval = Duration::from_micros(self.current().into());
        let forced = waited >= interval.mul_f32(0.9);
        let holders = (self.calls().wrapping_sub(calls) as u32).saturating_add(1);
        let behind_long = forced && waited >= holders * interval / 2;
        Wait { forced, behind_long: behind_long.then(processor_time) }
    }

    /// A call has ended, the first since its thread had to `wait`.
    #[inline]
    pub(super) fn note_call(&self, py: Attached<'_>, functions: &Functions, wait: Wait) {
        if self.setting == Setting::Auto && (wait.behind_long.is_some() || self.is_short()) {
            let is_short = |before| processor_time() - before < Duration::from_micros(SHORT.into());
            self.adapt(py, functions, wait.behind_long.is_some_and(is_short));
        }
    }

    #[cold]
    fn adapt(&self, py: Attached<'_>, functions: &Functions, short_behind_long: bool) {
        let now = self.start.elapsed().as_nanos() as u64;
        let until = self.short_until.load(Ordering::Relaxed);
        if short_behind_long {
            self.short_until.store(now + HOLD.as_nanos() as u64, Ordering::Relaxed);
            if until == 0 {
                change(py, functions, LONG, SHORT);
            }
        } else if until != 0 && now >= until {
            self.short_until.store(0, Ordering::Relaxed);
            change(py, functions, SHORT, LONG);
        }
    }
}

/// Changes the interval, unless the application has set another one.
fn change(py: Attached<'_>, functions: &Functions, from: u32, to: u32) {
    let Ok(from) = py.int(from.into()) else { return };
    let Ok(to) = py.int(to.into()) else { return };
    drop(functions.change_switch_interval.get(py).call(&[&from, &to]));
}
