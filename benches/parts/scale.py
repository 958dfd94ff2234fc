"""Workers, threads and connections: req/s must not fall as they grow; not more than nginx's own does, at least."""

import statistics

from .. import client, contenders, machine, nginx, rounds, wrk
from ..report import Findings, Table, Target, micro, milli, number

WORKERS = (1, 2)
THREADS = (1, 2, 8, 32, 128)
CONNECTIONS = (1, 32, 1000, 10000)
IDLE = 10000
COLUMNS = ["", "req/s", "CPU µs", "p50 ms", "p99 ms", "`return 200` req/s"]


class Scaled(contenders.Module):
    """Our module with a number of workers, which the kernel spreads the connections over."""

    workers = 1

    def launch(self, app, threads):
        http = nginx.python(f"threads={threads} queue=16384")
        text = nginx.conf(f"location / {{ wsgi_pass {app}; }}", http, self.workers)
        self.nginx = nginx.start(self.directory, text.replace("backlog=", "reuseport backlog="))
        self.port = self.nginx.port


class Steps:
    """The runs of this part, kept until they can be compared."""

    def __init__(self, options):
        self.options = options
        self.findings = Findings("scale")
        self.rates = {}
        self.table = Table("Hello by workers, threads and connections", COLUMNS)

    def rows(self, group, connections):
        """One row for each (contender, key, title) of a group, all of them measured in turns."""
        # wrk opens its connections within the time that it measures.
        seconds = max(self.options.seconds, connections / 500)
        runs = {key: ([], []) for _, key, _ in group}
        for _ in range(self.options.rounds):
            for contender, key, title in group:
                self.options.say(title)
                ours, own = runs[key]
                ours.append(rounds.burst(contender, connections=connections, seconds=seconds))
                own.append(wrk.run(contender.url("/return"), connections=connections, seconds=seconds))
        for _, key, title in group:
            self.keep(key, title, *runs[key])

    def keep(self, key, title, ours, own):
        summary = rounds.summarise(ours)
        if summary.failures:
            self.findings.refused.append(f"{title}: {summary.failures} errors")
            return
        its_rate = statistics.median(load.rate for load in own)
        self.rates[key] = summary.rate / its_rate if "connections" in key else summary.rate
        cells = [number(summary.rate), micro(summary.cpu), milli(summary.p50), milli(summary.p99), number(its_rate)]
        self.table.rows.append([title, *cells])

    def server(self, workers, threads):
        contender = Scaled(self.options.directory / f"scale-{workers}-{threads}")
        contender.workers = workers
        return contender.start("hello", threads)

    def fall(self, what, keys):
        """Req/s may not fall by more than a tenth from one step to the next."""
        rates = [self.rates[key] for key in keys if key in self.rates]
        steps = [after / before for before, after in zip(rates, rates[1:])]
        if steps:
            self.findings.targets.append(Target(f"scale: {what}, worst step", min(steps), 0.9, True))


def run(options):
    table = Steps(options)
    limit = machine.raise_descriptor_limit() - 500
    for workers in WORKERS:
        by_threads(table, workers)
    by_connections(table, [count for count in CONNECTIONS if count <= limit])
    beside_idle(table, min(IDLE, limit))
    table.findings.tables.append(table.table)
    return table.findings


def by_threads(table, workers):
    running = []
    try:
        for threads in THREADS:
            running.append(table.server(workers, threads))
            wrk.run(running[-1].url(), seconds=1)
        titles = [f"{workers} workers, {threads} threads, 32 connections" for threads in THREADS]
        keys = [(workers, threads) for threads in THREADS]
        table.rows(list(zip(running, keys, titles)), 32)
    finally:
        contenders.stop_all(running)
    table.fall(f"req/s as threads grow (1 to 128, {workers} workers)", keys)


def by_connections(table, counts):
    contender = table.server(1, 8)
    try:
        wrk.run(contender.url(), seconds=1)
        for count in counts:
            table.rows([(contender, ("connections", count), f"1 worker, 8 threads, {count} connections")], count)
    finally:
        contender.stop()
    table.fall(
        "req/s / nginx's own as connections grow (from 32)", [("connections", count) for count in counts if count > 1]
    )


def beside_idle(table, count):
    """The same beside keep-alive connections that do nothing."""
    contender = table.server(1, 8)
    idle = []
    try:
        for _ in range(count):
            connection = client.connect(contender.port)
            client.fetch(contender.port, "/", connection=connection)
            idle.append(connection)
        title = f"1 worker, 8 threads, 32 connections + {count} idle"
        table.rows([(contender, ("connections", "idle"), title)], 32)
    finally:
        for connection in idle:
            connection.close()
        contender.stop()
    table.fall(
        f"req/s / nginx's own as idle connections grow (to {count})", [("connections", 32), ("connections", "idle")]
    )
