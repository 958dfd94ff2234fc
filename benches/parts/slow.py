"""Does a slow call delay anybody? Static files while 4 x threads one-second calls are in flight, and when none is."""

import statistics
import threading
import time

from harness.waiting import until

from .. import client, contenders, nginx, wrk
from ..report import Findings, Table, Target, milli, number

THREADS = 8
CALLS = 4 * THREADS
READERS = 8
PAGE = b"x" * 4096


class WithFiles:
    """A server with the slow application and a static file."""

    def launch(self, app, threads):
        self.directory.joinpath("page").write_bytes(PAGE)
        locations = f"location / {{ wsgi_pass {app}; }} location = /page {{ alias {self.directory}/page; }}"
        text = nginx.conf(locations, nginx.python(f"threads={threads} queue=1024"), module=self.module)
        self.nginx = nginx.start(self.directory, text)
        self.port = self.nginx.port


class Ours(WithFiles, contenders.Module):
    pass


class OnEventLoop(WithFiles, contenders.OnEventLoop):
    pass


class SlowCalls:
    """Clients that each ask for a call of one second, again and again."""

    def __init__(self, port):
        self.port, self.done, self.failed = port, 0, 0
        self.stopping = threading.Event()
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self.client, daemon=True) for _ in range(CALLS)]

    def client(self):
        while not self.stopping.is_set():
            try:
                answered = client.fetch(self.port, "/sleep?1") == (200, b"Hello World!")
            except (OSError, client.Failed):
                answered = False
            with self.lock:
                self.done += answered
                self.failed += not answered

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def wait_in_flight(self):
        """Until the first of them has been answered: by then all others have been asked for."""
        until(lambda: self.done + self.failed, "a slow call is answered", 60)

    def __exit__(self, *_):
        self.stopping.set()
        for thread in self.threads:
            thread.join(120)


def page(contender, options, seconds=None):
    return wrk.run(contender.url("/page"), connections=READERS, seconds=seconds or options.seconds, timeout=120)


def page_patiently(contender, options):
    """As `page`, for a server that may let its clients wait for longer than the burst lasts: each wait is counted."""
    times, failed = [], []

    def reader():
        end = time.monotonic() + options.seconds
        while time.monotonic() < end:
            began = time.monotonic()
            status, body = client.fetch(contender.port, "/page")
            times.append(time.monotonic() - began)
            failed.extend([1] if (status, body) != (200, PAGE) else [])

    began = time.monotonic()
    readers = [threading.Thread(target=reader, daemon=True) for _ in range(READERS)]
    for each in readers:
        each.start()
    for each in readers:
        each.join(300)
    times.sort()
    p50, p99 = times[len(times) // 2], times[int(len(times) * 0.99)]
    return wrk.Load(len(times), time.monotonic() - began, 0, {"status": len(failed)}, p50, p99, times[-1])


def beside(contender, options, rounds, look=page):
    """Static files alone and beside slow calls, in turns: (idle loads, busy loads, calls done, calls failed)."""
    page(contender, options, 1)  # the warm-up
    idle, busy, done, failed = [], [], 0, 0
    for _ in range(rounds):
        idle.append(page(contender, options))
        with SlowCalls(contender.port) as calls:
            calls.wait_in_flight()
            busy.append(look(contender, options))
        done, failed = done + calls.done, failed + calls.failed
    return idle, busy, done, failed


def rows(table, name, idle, busy, done):
    for title, loads, calls in (("no slow call", idle, ""), (f"{CALLS} slow calls in flight", busy, number(done))):
        rate = statistics.median(load.rate for load in loads)
        p50 = statistics.median(load.p50 for load in loads)
        cells = [
            number(rate),
            milli(p50),
            milli(min(load.p99 for load in loads)),
            milli(max(load.slowest for load in loads)),
        ]
        table.rows.append([f"{name}: {title}", *cells, calls])


def run(options):
    findings = Findings("slow")
    columns = ["", "files/s", "p50 ms", "p99 ms", "slowest ms", "slow calls done"]
    table = Table(f"A static file beside calls of one second, {THREADS} threads", columns)
    for kind, rounds, look in ((Ours, options.rounds, page), (OnEventLoop, 1, page_patiently)):
        if kind.missing():
            table.notes.append(f"Not shown: {kind.name}: {kind.missing()}.")
            continue
        options.say(f"static files beside slow calls: {kind.name}")
        contender = kind(options.directory / f"slow-{kind.__name__}").start("waits", THREADS)
        try:
            idle, busy, done, failed = beside(contender, options, rounds, look)
        finally:
            contender.stop()
        errors = failed + sum(load.failures for load in idle + busy)
        if errors:
            findings.refused.append(
                f"{kind.name}: {errors} of {done + failed} slow calls and their static files failed"
            )
            continue
        rows(table, kind.name, idle, busy, done)
        if kind is Ours:
            ratio = min(load.p99 for load in busy) / min(load.p99 for load in idle)
            findings.targets.append(Target("static file p99, slow calls in flight / idle", ratio, 1.5))
    findings.tables.append(table)
    return findings
