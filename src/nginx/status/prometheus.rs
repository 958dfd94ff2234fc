//! The report in the text format of Prometheus.

use std::fmt::{Display, Write};

use super::report::{self, CLASSES, Pool, REFUSALS, Report, TIMEOUTS, Worker};
use crate::exchange::metrics::{Counts, Outcome, Times};
use crate::nginx::scoreboard::WorkerState;

pub(super) fn render(report: &Report<'_>) -> String {
    let mut text = Text { report, out: String::new() };
    text.all();
    text.out
}

/// The text so far, and what it is about.
struct Text<'a> {
    report: &'a Report<'a>,
    out: String,
}

impl Text<'_> {
    fn all(&mut self) {
        self.family("build_info", "gauge", "The versions of what runs here.");
        self.sample("build_info", &report::versions().map(|(what, version)| (what, version.to_owned())), 1);

        self.of_workers("worker_up", "gauge", "Whether there is such a worker.", |worker| {
            i64::from(worker.state != WorkerState::Absent)
        });
        self.of_workers(
            "worker_stuck",
            "gauge",
            "Whether all threads of a pool are in calls, and none ends.",
            |worker| i64::from(worker.state_name() == "stuck"),
        );
        self.of_workers("worker_start_time_seconds", "gauge", "When the worker began, in Unix time.", |worker| {
            worker.started
        });
        self.of_workers("worker_starts_total", "counter", "Workers that have had this number.", |worker| {
            worker.starts as i64
        });

        self.of_pools("threads", "gauge", "Threads that there are.", |pool| pool.counts.threads);
        self.of_pools("threads_busy", "gauge", "Threads in a call.", |pool| pool.counts.busy);
        self.of_pools("threads_lost", "gauge", "Threads in a call that was given up.", |pool| pool.counts.lost);
        self.of_pools("queue_length", "gauge", "Calls that wait for a thread.", |pool| pool.counts.queued);
        self.of_pools("queue_limit", "gauge", "How many calls may wait.", |pool| pool.queue as u64);
        self.of_pools("requests_total", "counter", "Requests, refused ones included.", |pool| {
            pool.counts.of(Outcome::Requested)
        });
        self.by_kind("responses_total", "Responses, by their status.", "class", &CLASSES, |counts, hundreds| {
            counts.statuses[hundreds]
        });
        self.by_kind("refused_total", "Calls that were never made.", "reason", &REFUSALS, Counts::of);
        self.by_kind("timeouts_total", "Calls that ran out of time.", "kind", &TIMEOUTS, Counts::of);
        self.of_pools("failed_total", "counter", "Calls that raised an exception or broke WSGI.", |pool| {
            pool.counts.of(Outcome::Failed)
        });
        self.of_pools("aborted_total", "counter", "Requests whose clients left.", |pool| {
            pool.counts.of(Outcome::Aborted)
        });
        self.histogram("queue_time_seconds", "How long calls waited for a thread.", |counts| &counts.queue_time);
        self.histogram("app_time_seconds", "How long calls took.", |counts| &counts.app_time);
    }

    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.out, "# HELP nginx_wsgi_{name} {help}\n# TYPE nginx_wsgi_{name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, String)], value: impl Display) {
        let labels: Vec<_> = labels.iter().map(|(label, value)| format!("{label}=\"{}\"", escaped(value))).collect();
        let _ = writeln!(self.out, "nginx_wsgi_{name}{{{}}} {value}", labels.join(","));
    }

    fn of_workers(&mut self, name: &str, kind: &str, help: &str, value: impl Fn(&Worker<'_>) -> i64) {
        self.family(name, kind, help);
        for worker in &self.report.workers {
            self.sample(name, &[("worker", worker.number.to_string())], value(worker));
        }
    }

    /// Calls `each` for each pool of each worker, with the labels that name it.
    fn each_pool(&mut self, each: impl Fn(&mut Self, &Pool<'_>, [(&str, String); 2])) {
        for worker in &self.report.workers {
            for pool in &worker.pools {
                each(self, pool, [("worker", worker.number.to_string()), ("pool", pool.name.to_owned())]);
            }
        }
    }

    fn of_pools(&mut self, name: &str, kind: &str, help: &str, value: impl Fn(&Pool<'_>) -> u64) {
        self.family(name, kind, help);
        self.each_pool(|text, pool, labels| text.sample(name, &labels, value(pool)));
    }

    /// A counter with one label more: `kinds` has its values, and what to ask for.
    fn by_kind<T: Copy>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        kinds: &[(&str, T)],
        value: impl Fn(&Counts, T) -> u64,
    ) {
        self.family(name, "counter", help);
        self.each_pool(|text, pool, [worker, of_pool]| {
            for &(kind, which) in kinds {
                let labels = [worker.clone(), of_pool.clone(), (label, kind.to_owned())];
                text.sample(name, &labels, value(&pool.counts, which));
            }
        });
    }

    fn histogram(&mut self, name: &str, help: &str, times: impl Fn(&Counts) -> &Times) {
        self.family(name, "histogram", help);
        self.each_pool(|text, pool, [worker, of_pool]| {
            let times = times(&pool.counts);
            let bounds = times.cumulated().map(|(bound, count)| (report::seconds(bound).to_string(), count));
            for (bound, count) in bounds.chain([("+Inf".to_owned(), times.count())]) {
                text.sample(&format!("{name}_bucket"), &[worker.clone(), of_pool.clone(), ("le", bound)], count);
            }
            let labels = [worker, of_pool];
            text.sample(&format!("{name}_sum"), &labels, report::seconds(times.sum));
            text.sample(&format!("{name}_count"), &labels, times.count());
        });
    }
}

/// A label's value.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
