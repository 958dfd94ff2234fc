//! The data of a status report, in whichever format it is rendered.

use crate::exchange::metrics::{Counts, Outcome, PoolMetrics};
use crate::exchange::spec;
use crate::nginx::scoreboard::{WorkerSlot, WorkerState};

/// The versions of what runs here: of this module, of nginx, of Python.
pub(super) fn versions() -> [(&'static str, &'static str); 3] {
    [
        ("nginx_wsgi", env!("CARGO_PKG_VERSION")),
        ("nginx", nginx_sys::NGINX_VERSION.to_str().unwrap_or_default()),
        ("python", crate::python_version()),
    ]
}

/// Of microseconds.
pub(super) fn seconds(microseconds: u64) -> f64 {
    microseconds as f64 / 1e6
}

/// All workers.
#[derive(Debug, Default)]
pub(crate) struct Report<'a> {
    pub(super) workers: Vec<Worker<'a>>,
    /// Those of all workers together.
    pub(super) pools: Vec<Pool<'a>>,
}

/// One worker.
#[derive(Debug)]
pub(crate) struct Worker<'a> {
    pub(super) number: usize,
    pub(super) pid: i64,
    pub(super) state: WorkerState,
    /// Time when it started, in Unix time.
    pub(super) started: i64,
    /// Number of workers that have had this number.
    pub(super) starts: u64,
    pub(super) pools: Vec<Pool<'a>>,
}

/// A pool.
#[derive(Debug)]
pub(crate) struct Pool<'a> {
    pub(super) name: &'a str,
    /// Largest number of calls that may wait.
    pub(super) queue: usize,
    pub(super) counts: Counts,
}

/// What counts among refusals, among timeouts; with the name that tells which of its kind it is.
pub(super) const REFUSALS: [(&str, Outcome); 2] =
    [("queue_full", Outcome::QueueFull), ("queue_timeout", Outcome::QueueTimeout)];
pub(super) const TIMEOUTS: [(&str, Outcome); 2] =
    [("read", Outcome::ReadTimeout), ("request", Outcome::RequestTimeout)];

/// The classes of responses, with the hundreds of their status.
pub(super) const CLASSES: [(&str, usize); 4] = [("2xx", 2), ("3xx", 3), ("4xx", 4), ("5xx", 5)];

impl Worker<'_> {
    pub(super) fn state_name(&self) -> &'static str {
        match self.state {
            WorkerState::Absent => "gone",
            // Threads come when the applications have been imported.
            _ if self.pools.iter().any(|pool| pool.counts.threads == 0) => "starting",
            WorkerState::Free => "running",
            WorkerState::Stuck => "stuck",
        }
    }
}

impl<'a> Report<'a> {
    /// Collects the report from `slots`. `metrics` returns those of a worker, indexed by pool.
    pub(crate) fn of<'t>(
        specs: &'a [spec::Pool],
        slots: &[WorkerSlot],
        metrics: impl Fn(usize) -> &'t [PoolMetrics],
    ) -> Self {
        let used: Vec<usize> = (0..specs.len()).filter(|&index| specs[index].threads > 0).collect();
        let pool = |index: usize, queue, counts| Pool { name: &specs[index].name, queue, counts };
        let mut all: Vec<_> = used.iter().map(|&index| pool(index, 0, Counts::default())).collect();
        let mut workers = Vec::new();
        for (number, slot) in slots.iter().enumerate().filter(|(_, slot)| slot.starts() > 0) {
            let (state, metrics) = (slot.state(), metrics(number));
            let mine = used.iter().map(|&index| match (state, metrics[index].read()) {
                (WorkerState::Absent, counts) => pool(index, 0, counts.without_gauges()),
                (_, counts) => pool(index, specs[index].queue, counts),
            });
            let mine: Vec<_> = mine.collect();
            for (sum, pool) in all.iter_mut().zip(&mine) {
                sum.queue += pool.queue;
                sum.counts += &pool.counts;
            }
            let (pid, started, starts) = (slot.pid(), slot.started(), slot.starts());
            workers.push(Worker { number, pid, state, started, starts, pools: mine });
        }
        Self { workers, pools: all }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(name: &str, threads: usize) -> spec::Pool {
        spec::Pool { name: name.into(), threads, queue: 10, stack_size: 0 }
    }

    #[test]
    fn workers_that_were_there_and_pools_that_are_used() {
        let specs = [pool("used", 2), pool("unused", 0), pool("slow", 1)];
        let slots: [WorkerSlot; 4] = Default::default();
        let metrics: [[PoolMetrics; 3]; 4] = Default::default();
        for number in [0, 2, 3] {
            slots[number].start(1, 2);
            for (metrics, spec) in metrics[number].iter().zip(&specs) {
                metrics.reset_gauges();
                metrics.threads_started(spec.threads);
            }
            metrics[number][2].count(Outcome::Requested);
            metrics[number][2].call_queued();
            metrics[number][2].call_started();
        }
        slots[0].set_state(WorkerState::Free);
        slots[2].set_state(WorkerState::Stuck);
        slots[3].set_state(WorkerState::Absent);

        let report = Report::of(&specs, &slots, |number| &metrics[number]);
        let workers: Vec<_> = report.workers.iter().map(|worker| (worker.number, worker.state_name())).collect();
        assert_eq!(workers, [(0, "running"), (2, "stuck"), (3, "gone")]);
        let names: Vec<_> = report.pools.iter().map(|pool| pool.name).collect();
        assert_eq!(names, ["used", "slow"]);
        let [used, slow] = &report.pools[..] else { panic!("two pools") };
        assert_eq!((used.queue, used.counts.threads, used.counts.busy), (20, 4, 0));
        assert_eq!((slow.queue, slow.counts.threads, slow.counts.busy), (20, 2, 2), "the one that has gone has none");
        assert_eq!(slow.counts.of(Outcome::Requested), 3, "but what it had done was done");
        let [gone] = &report.workers[2].pools[1..] else { panic!("two pools") };
        assert_eq!((gone.queue, gone.counts.threads), (0, 0));

        metrics[0][2].reset_gauges();
        assert_eq!(Report::of(&specs, &slots, |number| &metrics[number]).workers[0].state_name(), "starting");
    }
}
