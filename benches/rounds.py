"""Measuring several servers in turns, so that what disturbs the machine disturbs all of them."""

import statistics
from dataclasses import dataclass

from . import machine, wrk


@dataclass
class Sample:
    """One burst of load on one server."""

    load: wrk.Load
    cpu: float

    @property
    def cpu_per_request(self):
        return self.cpu / max(1, self.load.requests)


@dataclass
class Summary:
    """All bursts on one server: medians, and the best of the p99s (see docs/performance.md)."""

    rate: float
    cpu: float
    p50: float
    p99: float
    failures: int


def burst(contender, **options):
    """Load on a running server, and the CPU that its processes used for it."""
    pids = contender.pids()
    before = machine.cpu(pids)
    load = wrk.run(contender.url(), **options)
    return Sample(load, machine.cpu(pids) - before)


def warm_up(contenders, connections):
    """The first second of each is not counted: imports, caches, threads that a server starts late."""
    for contender in contenders:
        wrk.run(contender.url(), connections=connections, seconds=1)


def interleave(contenders, rounds, **options):
    """`rounds` bursts on each contender in turn; returns {contender: Summary}."""
    warm_up(contenders, options.get("connections", 32))
    samples = {contender: [] for contender in contenders}
    for _ in range(rounds):
        for contender in contenders:
            samples[contender].append(burst(contender, **options))
    return {contender: summarise(each) for contender, each in samples.items()}


def summarise(samples):
    median = statistics.median
    return Summary(
        rate=median(sample.load.rate for sample in samples),
        cpu=median(sample.cpu_per_request for sample in samples),
        p50=median(sample.load.p50 for sample in samples),
        p99=min(sample.load.p99 for sample in samples),
        failures=sum(sample.load.failures for sample in samples),
    )
