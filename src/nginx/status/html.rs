//! The report as a page for people, which fetches itself anew.

use std::fmt::Write;

use super::report::{self, CLASSES, Pool, REFUSALS, Report, TIMEOUTS, Worker};
use crate::exchange::metrics::{Outcome, Times};

const HEAD: &str = r#"<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="refresh" content="5">
<title>nginx-wsgi</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em; color-scheme: light dark; }
table { border-collapse: collapse; margin-bottom: 2em; }
th, td { padding: .2em .8em; text-align: right; border-bottom: 1px solid #8886; }
th:first-child, td:first-child { text-align: left; }
</style>
</head>
<body>
"#;

const COLUMNS: [&str; 15] = [
    "pool", "busy", "threads", "lost", "queued", "queue", "requests", "2xx", "3xx", "4xx", "5xx", "refused",
    "timeouts", "failed", "aborted",
];

pub(super) fn render(report: &Report<'_>) -> String {
    let versions = report::versions().map(|(what, version)| format!("{what} {version}"));
    let mut page = format!("{HEAD}<h1>nginx-wsgi</h1>\n<p>{}</p>\n", escaped(&versions.join(", ")));
    section(&mut page, "All workers", &report.pools);
    for worker in &report.workers {
        section(&mut page, &title(worker), &worker.pools);
    }
    page + "</body>\n</html>\n"
}

fn title(worker: &Worker<'_>) -> String {
    let Worker { number, pid, starts, .. } = worker;
    format!("Worker {number}: {}, process {pid}, started {starts} times", worker.state_name())
}

fn section(page: &mut String, title: &str, pools: &[Pool<'_>]) {
    let _ = write!(page, "<h2>{}</h2>\n<table>\n<tr>", escaped(title));
    for column in COLUMNS.into_iter().chain(["waited, mean", "took, mean"]) {
        let _ = write!(page, "<th>{column}</th>");
    }
    page.push_str("</tr>\n");
    for pool in pools {
        row(page, pool);
    }
    page.push_str("</table>\n");
}

fn row(page: &mut String, Pool { name, queue, counts }: &Pool<'_>) {
    let sum = |kinds: &[(&str, Outcome)]| kinds.iter().map(|&(_, outcome)| counts.of(outcome)).sum();
    let _ = write!(page, "<tr><td>{}</td>", escaped(name));
    let now = [counts.busy, counts.threads, counts.lost, counts.queued, *queue as u64, counts.of(Outcome::Requested)];
    let responses = CLASSES.map(|(_, hundreds)| counts.statuses[hundreds]);
    let trouble = [sum(&REFUSALS), sum(&TIMEOUTS), counts.of(Outcome::Failed), counts.of(Outcome::Aborted)];
    for number in now.into_iter().chain(responses).chain(trouble) {
        let _ = write!(page, "<td>{number}</td>");
    }
    let _ = writeln!(page, "<td>{}</td><td>{}</td></tr>", mean(&counts.queue_time), mean(&counts.app_time));
}

fn mean(times: &Times) -> String {
    match times.count() {
        0 => "-".into(),
        count => format!("{:.1} ms", times.sum as f64 / count as f64 / 1e3),
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
