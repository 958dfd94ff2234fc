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
/// interval of 100 us would cost them 10 % (docs/performance.md).
const SHORT: u32 = 500;
/// How long the short interval lasts after the last short call that had to wait.
const HOLD: Duration = Duration::from_millis(100);

/// The interval of one interpreter.
pub(super) struct SwitchInterval {
    setting: Setting,
    start: Instant,
    /// Until when the interval is short, in nanoseconds since `start`; 0: it is long.
    short_until: AtomicU64,
}

impl SwitchInterval {
    pub(super) fn new(setting: Setting) -> Self {
        Self { setting, start: Instant::now(), short_until: AtomicU64::new(0) }
    }

    /// In microseconds.
    fn current(&self) -> u32 {
        if self.is_short() { SHORT } else { self.setting.longest() }
    }

    fn is_short(&self) -> bool {
        self.short_until.load(Ordering::Relaxed) != 0
    }

    /// Whether a thread that has waited for the GIL for that long may have got it because its holder was made to drop it.
    pub(super) fn is_forced(&self, waited: Duration) -> bool {
        waited >= Duration::from_micros(self.current().into()).mul_f32(0.9)
    }

    /// A call has ended after `took`; its thread got the GIL by force, or not.
    #[inline]
    pub(super) fn note_call(&self, py: Attached<'_>, functions: &Functions, forced: bool, took: Duration) {
        if self.setting == Setting::Auto && (forced || self.is_short()) {
            self.adapt(py, functions, forced && took < Duration::from_micros(SHORT.into()));
        }
    }

    #[cold]
    fn adapt(&self, py: Attached<'_>, functions: &Functions, short_call_waited: bool) {
        let now = self.start.elapsed().as_nanos() as u64;
        if short_call_waited {
            let until = now + HOLD.as_nanos() as u64;
            if self.short_until.swap(until, Ordering::Relaxed) == 0 {
                change(py, functions, LONG, SHORT);
            }
            return;
        }
        let until = self.short_until.load(Ordering::Relaxed);
        let is_over = until != 0 && now >= until;
        if is_over && self.short_until.compare_exchange(until, 0, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
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
