"""Hello beside calls that take their time, on one pool of eight threads: what does a short call pay for a slow neighbour?"""

import itertools

from .. import client, contenders, wrk
from ..report import Findings, Table, Target, milli, number

THREADS = 8
NAPS = (0.001, 0.005, 0.05, 1, 30)
SLEEPERS = (1, THREADS // 2, THREADS - 1)
CONNECTIONS = (1, 4, 32)
# Of a warm server, and of other servers.
FEWER = (4,)
KINDS = (contenders.Module, contenders.Uwsgi, contenders.Granian)
STREAM = "/stream?0.2"
COLUMNS = ["beside", "hello connections", "alone req/s", "p50 ms", "p99 ms", "beside req/s", "/ alone", "p50 ms", "p99 ms"]


class Neighbour:
    """Connections that ask for the same slow call again and again, in a `with` block."""

    def __init__(self, name, path, connections):
        self.name, self.path, self.connections = name, path, connections

    def __call__(self, contender):
        self.process = wrk.begin(contender.url(self.path), connections=self.connections, seconds=600)
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()


class Ticker:
    """A thread of the application's own that computes a little every 10 ms."""

    name = "a thread that ticks every 10 ms"

    def __call__(self, contender):
        self.port = contender.port
        client.fetch(self.port, "/tick?0.01")
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        client.fetch(self.port, "/tick?0")


def neighbours():
    for nap, count in itertools.product(NAPS, SLEEPERS):
        yield Neighbour(f"{count} x sleep {nap:g} s", f"/sleep?{nap}", count)
    yield Neighbour("2 generators, 5 chunks 0.2 s apart", STREAM, 2)
    yield Ticker()


def run(options):
    findings = Findings("mixed")
    for kind in KINDS:
        if kind.missing() or (kind in contenders.PEERS and not options.peers):
            continue
        for state in ("fresh", "warm") if kind is contenders.Module else ("fresh",):
            findings.tables.append(table(kind, state, options, findings))
    return findings


def table(kind, state, options, findings):
    found = Table(f"{kind.name}, {THREADS} threads, a {state} server for each row", COLUMNS)
    all_of_them = kind is contenders.Module and state == "fresh"
    for neighbour, connections in itertools.product(neighbours(), CONNECTIONS if all_of_them else FEWER):
        options.say(f"{kind.name}, {state}: hello x {connections} beside {neighbour.name}")
        contender = kind(options.directory / f"mixed-{kind.__name__}").start("waits", THREADS)
        try:
            if state == "warm":
                with Neighbour("", "/sleep?0.003", THREADS)(contender):
                    wrk.run(contender.url(), connections=32, seconds=1)
            alone = wrk.run(contender.url(), connections=connections, seconds=options.seconds)
            with neighbour(contender):
                wrk.run(contender.url(), connections=connections, seconds=1)
                beside = wrk.run(contender.url(), connections=connections, seconds=options.seconds)
        finally:
            contender.stop()
        if alone.failures or beside.failures:
            findings.refused.append(f"{kind.name}, {neighbour.name}: {alone.errors} {beside.errors}")
            continue
        found.rows.append(row(neighbour, connections, alone, beside))
        if kind is contenders.Module:
            title = f"{state}, {neighbour.name}, hello x {connections}"
            findings.targets.append(Target(f"{title}: req/s / alone", beside.rate / alone.rate, 0.8, least=True))
            findings.targets.append(Target(f"{title}: p50 / alone", beside.p50 / alone.p50, 1.3))
            findings.targets.append(Target(f"{title}: p99 / alone", beside.p99 / alone.p99, 2))
    return found


def row(neighbour, connections, alone, beside):
    def cells(load):
        return [milli(load.p50), milli(load.p99)]

    ratio = number(beside.rate / alone.rate)
    return [neighbour.name, str(connections), number(alone.rate), *cells(alone), number(beside.rate), ratio, *cells(beside)]
