"""Applications that wait or compute: do all threads work, and does a short call suffer beside a long one?"""

import statistics

from harness.waiting import until

from .. import client, contenders, machine, nginx, rounds, wrk
from ..report import Findings, Table, Target, milli, number

NAP = 0.005
SHORT_NAP = 0.003
SPIN = 0.05
INTERVALS = (0.005, 0.002, 0.001, 0.0005, 0.0001)


def started(options, part, threads, app="waits"):
    directory = options.directory / f"{part}-{threads}"
    return contenders.Module(directory).start(app, threads)


def sleep(options):
    """Calls that sleep 5 ms: the ideal is threads / 5 ms."""
    findings = Findings("sleep")
    table = Table("Calls that wait 5 ms", ["server", "threads", "calls/s", "ideal", "%"])
    for threads, bound in ((8, 95), (64, 90)):
        options.say(f"5 ms sleepers, {threads} threads")
        contender, rates = started(options, "sleep", threads), []
        try:
            for turn in range(options.rounds + 1):
                load = wrk.run(contender.url(f"/sleep?{NAP}"), connections=2 * threads, seconds=options.seconds)
                if load.failures:
                    findings.refused.append(f"sleepers, {threads} threads: {load.errors}")
                rates += [load.rate] if turn else []
        finally:
            contender.stop()
        rate, ideal = statistics.median(rates), threads / NAP
        table.rows.append([contender.name, str(threads), number(rate), number(ideal), number(100 * rate / ideal)])
        findings.targets.append(Target(f"sleepers, {threads} threads", 100 * rate / ideal, bound, True, " %"))
    findings.tables.append(refuse(table, findings))
    findings.tables.append(in_turn(options, findings))
    return findings


def in_turn(options, findings):
    """Four calls for each thread, on all servers: p99 shows whether some are overtaken."""
    columns = ["server", "calls/s", "p50 ms", "p99 ms", "CPU µs"]
    table = Table(f"Calls that wait {SHORT_NAP * 1e3:g} ms, 8 threads, 32 connections", columns)
    kinds = (contenders.Module, *contenders.PEERS)
    running, left_out = contenders.start_all(kinds, "waits", 8, options, "sleep-peers")
    findings.refused += left_out
    try:
        for contender in running:
            contender.path = f"/sleep?{SHORT_NAP}"
        options.say(f"{SHORT_NAP * 1e3:g} ms sleepers, all servers")
        found = rounds.interleave(running, options.rounds, seconds=options.seconds)
    finally:
        contenders.stop_all(running)
    for contender, summary in sorted(found.items(), key=lambda item: item[1].p99):
        if summary.failures:
            findings.refused.append(f"{table.title}: {contender.name}: {summary.failures} failures")
            continue
        cells = [number(summary.rate), milli(summary.p50), milli(summary.p99), number(summary.cpu * 1e6)]
        table.rows.append([contender.name, *cells])
    return table


def refuse(table, findings):
    """No row of a table is shown when a run of it had errors."""
    if findings.refused:
        table.rows.clear()
        findings.targets.clear()
    return table


class Beside:
    """Hello alone, and beside other calls on the same pool."""

    def __init__(self, contender, options, connections):
        self.contender, self.options, self.connections = contender, options, connections
        self.failures = []

    def hello(self, other=None, others=0):
        """The median rate and the best p99 of hello while `others` connections ask for `other`."""
        loads, beside = [], []
        for _ in range(self.options.rounds):
            path = self.contender.url(other) if other else None
            runs = [wrk.begin(path, connections=others, seconds=self.options.seconds)] if path else []
            loads.append(wrk.run(self.contender.url(), connections=self.connections, seconds=self.options.seconds))
            beside += [wrk.finish(run) for run in runs]
        self.failures += [load.errors for load in loads + beside if load.failures]
        rate = statistics.median(load.rate for load in loads)
        others_rate = statistics.median(load.rate for load in beside) if beside else 0
        return rate, min(load.p99 for load in loads), others_rate


class TwoPools(contenders.Module):
    """A pool for slow calls beside the default one."""

    def launch(self, app, threads):
        http = nginx.python(f"threads={threads}") + f"\n    wsgi_pool slow threads={threads} queue=2048;"
        locations = f"location / {{ wsgi_pass {app}; }} location /slow/ {{ wsgi_pass {app} pool=slow; }}"
        locations += " location = /queued { wsgi_pass waits pool=slow; return 200 $wsgi_queue_length; }"
        self.nginx = nginx.start(self.directory, nginx.conf(locations, http))
        self.port = self.nginx.port


def pools(options):
    """Hello on one pool while another has 1,000 calls in its queue."""
    findings = Findings("pools")
    table = Table("Hello on a pool of 8 threads, beside a pool with 1,000 calls in its queue", ["", "req/s", "p99 ms"])
    options.say("hello beside a pool with a full queue")
    gate = options.directory / "pools-gate"
    contender = TwoPools(options.directory / "pools").start("waits", 8)
    beside = Beside(contender, options, 8)
    try:
        beside.hello()  # the warm-up
        idle = beside.hello()
        parked = client.park(contender.port, f"/slow/gate?{gate}", 1008)
        until(lambda: int(client.fetch(contender.port, "/queued")[1]) >= 1000, "1,000 calls are queued", 60)
        busy = beside.hello()
        gate.touch()
        failed = sum(client.head(connection)[0] != 200 for connection in parked)
        for connection in parked:
            connection.close()
    finally:
        gate.touch()
        contender.stop()
    findings.refused += beside.failures + ([f"pools: {failed} queued calls failed"] if failed else [])
    for name, (rate, p99, _) in (("the other pool is idle", idle), ("1,000 calls in its queue", busy)):
        table.rows.append([name, number(rate), milli(p99)])
    findings.targets.append(Target("hello's p99, the other pool's queue full / idle", busy[1] / idle[1], 1.5))
    findings.tables.append(refuse(table, findings))
    return findings


def spin(options):
    """Calls that compute for 50 ms beside hello, by the interpreter's switch interval."""
    findings = Findings("spin")
    columns = ["switch interval ms", "hello req/s", "hello p50 ms", "hello p99 ms", "50 ms calls/s"]
    table = Table("Hello beside two calls that compute 50 ms, 8 threads", columns)
    contender = started(options, "spin", 8)
    try:
        for interval in (None, *INTERVALS):
            name = f"{interval * 1e3:g}" if interval else "auto"
            options.say(f"hello beside computing calls, switch interval {name}")
            if interval:
                client.fetch(contender.port, f"/interval?{interval}")
            run = wrk.begin(contender.url(f"/spin?{SPIN}"), connections=2, seconds=options.seconds)
            load, other = wrk.run(contender.url(), connections=8, seconds=options.seconds), wrk.finish(run)
            if load.failures or other.failures:
                findings.refused.append(f"spin: {load.errors} {other.errors}")
            cells = [number(load.rate), milli(load.p50), milli(load.p99), number(other.rate)]
            table.rows.append([name, *cells])
    finally:
        contender.stop()
    findings.tables.append(refuse(table, findings))
    return findings


def slow_uploads(options):
    """Hello's rate while 20 clients send bodies slowly: a buffered body holds no thread."""
    findings = Findings("slow-uploads")
    table = Table("Hello beside 20 slow uploaders, 8 threads", ["", "req/s", "p99 ms", "CPU µs"])
    contender = started(options, "slow-uploads", 8, app="transfers")
    rates = {"alone": [], "beside 20 slow uploaders": []}
    try:
        wrk.run(contender.url("/stream?12"), seconds=1)
        for _ in range(options.rounds):
            for name, samples in rates.items():
                uploaders = trickle(contender.port, 20) if "20" in name else []
                samples.append(one_rate(contender, options, findings))
                for uploader in uploaders:
                    uploader.sendall(b"x" * 1000)  # they are still there
                    uploader.close()
    finally:
        contender.stop()
    medians = {}
    for name, samples in rates.items():
        rate, p99, cpu = (statistics.median(numbers) for numbers in zip(*samples))
        medians[name] = rate
        table.rows.append([name, number(rate), milli(p99), number(cpu * 1e6)])
    alone, beside = medians.values()
    findings.targets.append(Target("slow uploaders: hello's rate / alone", beside / alone, 0.95, least=True))
    findings.tables.append(refuse(table, findings))
    return findings


def trickle(port, count):
    """Clients that have sent a part of a body."""
    uploaders = []
    for _ in range(count):
        uploader = client.connect(port)
        uploader.sendall(
            b"POST /upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10000000\r\n\r\n" + b"x" * 100000
        )
        uploaders.append(uploader)
    return uploaders


def one_rate(contender, options, findings):
    pids = contender.pids()
    before = machine.cpu(pids)
    load = wrk.run(contender.url("/stream?12"), seconds=options.seconds)
    if load.failures:
        findings.refused.append(f"slow uploaders: {load.errors}")
    return load.rate, load.p99, (machine.cpu(pids) - before) / max(1, load.requests)
