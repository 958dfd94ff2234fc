//! A call that holds the GIL and does not release it, so that no other call of this worker makes progress.
//!
//! It cannot be interrupted, since that would need the GIL. The event loop detects it without waiting: while there are
//! calls and none begins or ends, it asks python-probe to get the GIL (src/python/probe.rs). When that takes too long,
//! the worker leaves new connections to its siblings (accept.rs), logs its calls, and ends after `wsgi_gil_timeout`.

use std::cell::{Cell, RefCell};
use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::sync::Arc;
use std::time::Duration;

use nginx_sys::*;

use super::leaving::Shutdown;
use super::worker::Worker;
use super::{deadlines, log};
use crate::exchange::log::Level;
use crate::exchange::{self, Exchange, now};

/// Least time for which the GIL must be held until the worker leaves new connections to others, in microseconds, and as
/// a number of switch intervals. A thread that runs Python code releases the GIL after each interval.
const HELD: u64 = 50_000;
const INTERVALS: u64 = 4;
/// Time for which the GIL must be held until it is logged, in microseconds.
const TOLD: u64 = 1_000_000;

/// The state of the GIL, as the event loop sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Free,
    Held,
    Told,
    Over,
}

/// Watches the GIL for the event loop.
pub(crate) struct Gil {
    /// Time after which the GIL counts as held, and after which the worker ends (0: never), in microseconds.
    held: u64,
    timeout: u64,
    /// Number of calls that had begun and ended at the last look.
    progress: Cell<u64>,
    /// Time when a thread last got the GIL, as far as is known.
    seen: Cell<u64>,
    stage: Cell<Stage>,
    /// CPU time of each thread in a call when the GIL began to count as held, by `threading.get_ident()`.
    cpu_times: RefCell<Vec<(u64, Duration)>>,
}

impl Gil {
    /// `timeout` in milliseconds, `switch_interval` in microseconds.
    pub(crate) fn new(timeout: ngx_msec_t, switch_interval: u32) -> Self {
        Self {
            held: HELD.max(INTERVALS * u64::from(switch_interval)),
            timeout: (timeout as u64).saturating_mul(1000),
            progress: Cell::new(0),
            seen: Cell::new(now()),
            stage: Cell::new(Stage::Free),
            cpu_times: RefCell::default(),
        }
    }

    /// Whether a call has held the GIL for too long.
    pub(crate) fn is_held(&self) -> bool {
        self.stage.get() > Stage::Free
    }

    /// Checks the GIL. Returns whether to check again soon.
    pub(crate) fn look(&self, worker: &Worker) -> bool {
        let progress = worker.progress();
        let moved = self.progress.replace(progress) != progress;
        let waits = worker.engine.probe().is_unanswered();
        if moved || !waits {
            self.note_seen();
        }
        if !waits {
            let asks = !moved && worker.active() > 0;
            if asks {
                worker.engine.probe().ask();
            }
            return moved;
        }
        let held = now() - self.seen.get();
        match self.stage.get() {
            Stage::Free if held >= self.held => {
                self.stage.set(Stage::Held);
                let threads = running(worker).into_iter().filter_map(|call| call.thread());
                self.cpu_times.replace(threads.filter_map(|ident| Some((ident, cpu_time(ident)?))).collect());
            }
            Stage::Held if held >= TOLD => {
                self.stage.set(Stage::Told);
                self.tell(worker, held);
            }
            stage if stage < Stage::Over && self.timeout > 0 && held >= self.timeout => {
                self.stage.set(Stage::Over);
                self.give_up(worker, held);
            }
            _ => {}
        }
        true
    }

    fn note_seen(&self) {
        let now = now();
        let held = now - self.seen.replace(now);
        if self.stage.replace(Stage::Free) >= Stage::Told {
            log::warn(&format!("the GIL is free again, after {} s", seconds(held)));
        }
    }

    /// Logs the running calls. One of them holds the GIL, or a thread of the application does.
    fn tell(&self, worker: &Worker, held: u64) {
        let calls = running(worker);
        let line = format!("the GIL has been held for {} s: {} calls run", seconds(held), calls.len());
        log::write(NGX_LOG_ERR, &(line + ", of which one holds it, or a thread that the application has started"));
        for call in calls {
            let line = format!("a call that runs while the GIL is held{}{}", self.thread(&call, held), call.context());
            exchange::log::write(Level::Error, call.origin(), line.as_bytes());
        }
    }

    /// Describes the thread of a call, with its CPU usage since the GIL is held.
    fn thread(&self, call: &Exchange, held: u64) -> String {
        let Some(ident) = call.thread() else { return String::new() };
        let name = thread_name(ident).unwrap_or_default();
        let before = self.cpu_times.borrow().iter().find(|(other, _)| *other == ident).map(|&(_, time)| time);
        let used = before.zip(cpu_time(ident)).map(|(before, after)| after.saturating_sub(before));
        let since = Duration::from_micros(held.saturating_sub(self.held).max(1));
        let used = used.map_or(String::new(), |used| {
            format!(", which has used {:.0}% of a CPU since", 100.0 * used.as_secs_f64() / since.as_secs_f64())
        });
        format!(" by thread \"{name}\"{used}")
    }

    /// Gives up: answers the requests that wait, and ends the worker.
    fn give_up(&self, worker: &Worker, held: u64) {
        let why = format!("the GIL has been held for {} s (wsgi_gil_timeout)", seconds(held));
        self.tell(worker, held);
        deadlines::give_up(None, &why);
        let how = if worker.accept.has_free_sibling() { Shutdown::Graceful } else { Shutdown::Fast };
        worker.leaving.begin(worker, how, &why);
    }
}

/// Formats microseconds as seconds with one decimal.
fn seconds(microseconds: u64) -> String {
    format!("{}.{}", microseconds / 1_000_000, microseconds / 100_000 % 10)
}

/// Returns the calls that run.
fn running(worker: &Worker) -> Vec<Arc<Exchange>> {
    let requests = deadlines::all();
    let present = requests.iter().filter_map(|context| context.exchange().cloned());
    present.chain(worker.abandoned.calls()).filter(|call| call.is_running()).collect()
}

fn thread_name(ident: u64) -> Option<String> {
    let mut name = [0; 16];
    // SAFETY: a pool's thread that is in a call: it lives until this thread stops the pool. The name fits, with its NUL.
    let done = unsafe { libc::pthread_getname_np(ident as libc::pthread_t, name.as_mut_ptr().cast(), name.len()) };
    let name = CStr::from_bytes_until_nul(&name).ok()?;
    (done == 0).then(|| name.to_string_lossy().into_owned())
}

fn cpu_time(ident: u64) -> Option<Duration> {
    let (mut clock, mut time) = (0, MaybeUninit::<libc::timespec>::uninit());
    // SAFETY: as above; both fill what they are given when they succeed.
    unsafe {
        if libc::pthread_getcpuclockid(ident as libc::pthread_t, &mut clock) != 0
            || libc::clock_gettime(clock, time.as_mut_ptr()) != 0
        {
            return None;
        }
        let time = time.assume_init();
        Some(Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
    }
}
