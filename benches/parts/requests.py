"""Small requests: requests per second, CPU per request and p99 of every contender, by application and threads."""

import statistics

from .. import contenders, limit, rounds
from ..report import Findings, Table, Target, micro, milli, number

APPS = {
    "hello": ("hello", "hello, 12 bytes"),
    "django": ("django_hello", "Django hello"),
    "flask": ("flask_hello", "Flask hello"),
    "json": ("json_2k", "2 KB of JSON"),
}
COLUMNS = ["server", "threads", "req/s", "CPU µs", "p99 ms", "CPU / limit", "CPU / uWSGI"]
OURS, UWSGI, GRANIAN = contenders.Module.name, contenders.Uwsgi.name, contenders.Granian.name
EVENT_LOOP = contenders.OnEventLoop.name


class Case:
    """One application, with all numbers of threads."""

    def __init__(self, part, options):
        self.app, self.title = APPS[part]
        self.options = options
        self.findings = Findings(part)
        self.found = {}
        self.loop = []

    def run(self):
        program = limit.build(self.options.directory)
        for threads in self.options.threads:
            self.options.say(f"{self.title}, {threads} threads")
            self.loop.append(limit.microseconds(program, self.app) / 1e6)
            self.compare(threads)
        self.loop.append(limit.microseconds(program, self.app) / 1e6)
        self.tabulate()
        self.judge()
        return self.findings

    def compare(self, threads):
        """All contenders at one number of threads, in turns."""
        kinds = [contenders.Return200, contenders.Module, *contenders.PEERS]
        if threads == self.options.threads[0]:
            kinds.insert(2, contenders.OnEventLoop)  # it knows no threads
        label = f"{self.app}-{threads}"
        running, left_out = contenders.start_all(kinds, self.app, threads, self.options, label)
        self.findings.refused += [f"{self.title}, {threads} threads: {each}" for each in left_out]
        try:
            found = rounds.interleave(running, self.options.rounds, seconds=self.options.seconds)
        finally:
            contenders.stop_all(running)
        for contender, summary in found.items():
            self.keep(contender.name, threads, summary)

    def keep(self, name, threads, summary):
        if summary.failures:
            self.findings.refused.append(f"{self.title}: {name}, {threads} threads: {summary.failures} errors")
        else:
            self.found[name, threads] = summary

    @property
    def limit(self):
        """CPU per request that nothing can save: nginx's own, and the application's."""
        own = [each.cpu for (name, _), each in self.found.items() if name == contenders.Return200.name]
        return statistics.median(own) + statistics.median(self.loop)

    def tabulate(self):
        table = Table(f"{self.title}: 32 connections, one process", COLUMNS)
        loop = statistics.median(self.loop)
        own = self.limit - loop
        table.notes.append(
            f"limit: nginx `return 200` {micro(own)} µs + plain loop {micro(loop)} µs of CPU per request"
        )
        for (name, threads), each in sorted(self.found.items(), key=lambda item: (item[0][1], item[1].cpu)):
            if name != contenders.Return200.name:
                table.rows.append([name, "-" if name == EVENT_LOOP else str(threads), *self.cells(threads, each)])
        self.findings.tables.append(table)
        self.plot()

    def cells(self, threads, each):
        uwsgi = self.found.get((UWSGI, threads))
        against = number(each.cpu / uwsgi.cpu) if uwsgi else "-"
        return [number(each.rate), micro(each.cpu), milli(each.p99), number(each.cpu / self.limit), against]

    def plot(self):
        threads = 8 if 8 in self.options.threads else self.options.threads[-1]
        bars = [(name, each.cpu * 1e6) for (name, number), each in self.found.items() if number == threads]
        bars = [bar for bar in bars if bar[0] != contenders.Return200.name]
        bars.append(("limit", self.limit * 1e6))
        self.findings.bars[f"{self.title}, {threads} threads: CPU µs per request"] = sorted(
            bars, key=lambda bar: bar[1]
        )

    # ---- what must be reached ----

    def judge(self):
        at = self.found.get
        ours = at((OURS, 8))
        if ours:
            self.against_limit(ours)
            self.against_peers(ours, at((UWSGI, 8)), at((GRANIAN, 8)))
        self.against_threads(at((OURS, 1)))

    def target(self, what, value, bound, least=False):
        self.findings.targets.append(Target(f"{self.title}: {what}", value, bound, least))

    def against_limit(self, ours):
        self.target("CPU, 8 threads / limit", ours.cpu / self.limit, 1.5 if self.app == "hello" else 1.2)
        for (name, _), each in self.found.items():
            if name == EVENT_LOOP:
                self.target("CPU, 8 threads / call on the event loop", ours.cpu / each.cpu, 1.2)

    def against_peers(self, ours, uwsgi, granian):
        hello = self.app == "hello"
        if uwsgi:
            self.target("CPU / nginx + uWSGI", ours.cpu / uwsgi.cpu, 0.25 if hello else 0.4)
        if uwsgi and hello:
            self.target("req/s / nginx + uWSGI", ours.rate / uwsgi.rate, 3.3, least=True)
        if granian and hello:
            self.target("req/s / Granian", ours.rate / granian.rate, 1.4, least=True)

    def against_threads(self, one):
        for threads, bound in ((8, 1.15), (32, 1.25)):
            many = self.found.get((OURS, threads))
            if one and many:
                self.target(f"CPU, {threads} threads / 1 thread", many.cpu / one.cpu, bound)
                self.target(f"p99, {threads} threads / 1 thread", many.p99 / one.p99, bound)


def run(part, options):
    return Case(part, options).run()
