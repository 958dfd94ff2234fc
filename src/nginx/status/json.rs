//! The report as JSON.

use serde_json::{Value, json};

use super::report::{self, CLASSES, Pool, REFUSALS, Report, TIMEOUTS};
use crate::exchange::metrics::{Outcome, Times};

pub(super) fn render(report: &Report<'_>) -> String {
    let workers = report.workers.iter().map(|worker| {
        json!({
            "worker": worker.number,
            "pid": worker.pid,
            "state": worker.state_name(),
            "started": worker.started,
            "starts": worker.starts,
            "pools": pools(&worker.pools),
        })
    });
    let mut document = json!({ "pools": pools(&report.pools), "workers": workers.collect::<Value>() });
    for (what, version) in report::versions() {
        document[what] = version.into();
    }
    format!("{document:#}\n")
}

fn pools(pools: &[Pool<'_>]) -> Value {
    object(pools.iter().map(|pool| (pool.name, of_pool(pool))))
}

fn of_pool(Pool { queue, counts, .. }: &Pool<'_>) -> Value {
    let outcomes = |kinds: &[(&'static str, Outcome)]| {
        object(kinds.iter().map(|&(kind, outcome)| (kind, counts.of(outcome).into())))
    };
    json!({
        "threads": counts.threads,
        "busy": counts.busy,
        "lost": counts.lost,
        "queued": counts.queued,
        "queue": queue,
        "requests": counts.of(Outcome::Requested),
        "responses": object(CLASSES.iter().map(|&(class, hundreds)| (class, counts.statuses[hundreds].into()))),
        "refused": outcomes(&REFUSALS),
        "timeouts": outcomes(&TIMEOUTS),
        "failed": counts.of(Outcome::Failed),
        "aborted": counts.of(Outcome::Aborted),
        "queue_time": times(&counts.queue_time),
        "app_time": times(&counts.app_time),
    })
}

fn times(times: &Times) -> Value {
    let buckets: Vec<_> = times.cumulated().map(|(bound, count)| json!([report::seconds(bound), count])).collect();
    json!({ "count": times.count(), "sum": report::seconds(times.sum), "buckets": buckets })
}

fn object<'a>(entries: impl Iterator<Item = (&'a str, Value)>) -> Value {
    entries.map(|(name, value)| (name.to_owned(), value)).collect()
}
