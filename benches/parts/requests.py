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
        self.alone = {}
        self.loop = []

    def run(self):
        program = limit.build(self.options.directory)
        self.time_loop(program)
        self.options.say(f"{self.title}, all numbers of threads")
        self.measure_alone()
        self.time_loop(program)
        for threads in self.options.threads if self.options.peers else ():
            self.options.say(f"{self.title}, {threads} threads")
            self.compare(threads)
            self.time_loop(program)
        self.tabulate_alone()
        self.tabulate()
        self.judge()
        return self.findings

    def time_loop(self, program):
        self.loop.append(limit.microseconds(program, self.app) / 1e6)

    def measure_alone(self):
        """This module at all numbers of threads, and what it is held against but peers, in turns."""
        label = f"{self.app}-alone"
        beside = [contenders.Return200, contenders.OnEventLoop]  # they know no threads
        running, _ = contenders.start_all(beside, self.app, 1, self.options, label)
        keys = {contender: (contender.name, None) for contender in running}
        try:
            for threads in self.options.threads:
                module = contenders.Module(self.options.directory / label / f"ours-{threads}")
                running.append(module.start(self.app, threads))
                keys[module] = (OURS, threads)
            found = rounds.interleave(running, self.options.rounds, seconds=self.options.seconds)
        finally:
            contenders.stop_all(running)
        for contender, summary in found.items():
            self.keep(self.alone, keys[contender], summary)

    def compare(self, threads):
        """All contenders at one number of threads, in turns."""
        kinds = [contenders.Return200, contenders.Module, *contenders.PEERS]
        label = f"{self.app}-{threads}"
        running, left_out = contenders.start_all(kinds, self.app, threads, self.options, label)
        self.findings.refused += [f"{self.title}, {threads} threads: {each}" for each in left_out]
        try:
            found = rounds.interleave(running, self.options.rounds, seconds=self.options.seconds)
        finally:
            contenders.stop_all(running)
        for contender, summary in found.items():
            self.keep(self.found, (contender.name, threads), summary)

    def keep(self, found, key, summary):
        if summary.failures:
            name, threads = key
            self.findings.refused.append(f"{self.title}: {name}, {threads} threads: {summary.failures} errors")
        else:
            found[key] = summary

    def limit(self, found):
        """CPU per request that nothing can save: nginx's own, and the application's."""
        own = [each.cpu for (name, _), each in found.items() if name == contenders.Return200.name]
        return statistics.median(own) + statistics.median(self.loop)

    def tabulate(self):
        if not self.found:
            return
        table = Table(f"{self.title}, and peers: 32 connections, one process", COLUMNS)
        table.notes.append(self.note(self.found))
        for (name, threads), each in sorted(self.found.items(), key=lambda item: (item[0][1], item[1].cpu)):
            if name != contenders.Return200.name:
                uwsgi = self.found.get((UWSGI, threads))
                against = number(each.cpu / uwsgi.cpu) if uwsgi else "-"
                table.rows.append([name, str(threads), *self.cells(self.found, each), against])
        self.findings.tables.append(table)
        self.plot()

    def tabulate_alone(self):
        """One row for each number of threads, measured in turns."""
        table = Table(f"{self.title}, by threads: 32 connections, one process", COLUMNS[:-1])
        table.notes.append(self.note(self.alone))
        for (name, threads), each in self.alone.items():
            if name != contenders.Return200.name:
                table.rows.append([name, str(threads or "-"), *self.cells(self.alone, each)])
        self.findings.tables.append(table)

    def note(self, found):
        loop = statistics.median(self.loop)
        own = self.limit(found) - loop
        return f"limit: nginx `return 200` {micro(own)} µs + plain loop {micro(loop)} µs of CPU per request"

    def cells(self, found, each):
        return [number(each.rate), micro(each.cpu), milli(each.p99), number(each.cpu / self.limit(found))]

    def plot(self):
        threads = 8 if 8 in self.options.threads else self.options.threads[-1]
        bars = [(name, each.cpu * 1e6) for (name, number), each in self.found.items() if number == threads]
        bars = [bar for bar in bars if bar[0] != contenders.Return200.name]
        bars.append(("limit", self.limit(self.found) * 1e6))
        self.findings.bars[f"{self.title}, {threads} threads: CPU µs per request"] = sorted(
            bars, key=lambda bar: bar[1]
        )

    # ---- what must be reached ----

    def judge(self):
        self.against_limit(self.alone.get((OURS, 8)))
        self.against_peers(*(self.found.get((name, 8)) for name in (OURS, UWSGI, GRANIAN)))
        self.against_threads(self.alone.get((OURS, 1)))

    def target(self, what, value, bound, least=False):
        self.findings.targets.append(Target(f"{self.title}: {what}", value, bound, least))

    def against_limit(self, ours):
        if ours:
            bound = 1.5 if self.app == "hello" else 1.2
            self.target("CPU, 8 threads / limit", ours.cpu / self.limit(self.alone), bound)
        inline = self.alone.get((EVENT_LOOP, None))
        if ours and inline:
            self.target("CPU, 8 threads / call on the event loop", ours.cpu / inline.cpu, 1.2)

    def against_peers(self, ours, uwsgi, granian):
        hello = self.app == "hello"
        if ours and uwsgi:
            self.target("CPU / nginx + uWSGI", ours.cpu / uwsgi.cpu, 0.25 if hello else 0.4)
        if ours and uwsgi and hello:
            self.target("req/s / nginx + uWSGI", ours.rate / uwsgi.rate, 3.3, least=True)
        if ours and granian and hello:
            self.target("req/s / Granian", ours.rate / granian.rate, 1.4, least=True)

    def against_threads(self, one):
        for threads, bound in ((8, 1.15), (32, 1.25)):
            many = self.alone.get((OURS, threads))
            if one and many:
                self.target(f"CPU, {threads} threads / 1 thread", many.cpu / one.cpu, bound)
                self.target(f"p99, {threads} threads / 1 thread", many.p99 / one.p99, bound)


def run(part, options):
    return Case(part, options).run()
