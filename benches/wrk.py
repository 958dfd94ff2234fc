"""The load generator wrk: closed loop, keep-alive connections, one thread."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

REPORT = Path(__file__).with_name("report.lua")
ERRORS = ("connect", "read", "write", "timeout", "status")


@dataclass
class Load:
    """What a run of wrk saw; times are in seconds."""

    requests: int
    seconds: float
    bytes: int
    errors: dict
    p50: float
    p99: float
    slowest: float

    @property
    def rate(self):
        return self.requests / self.seconds

    @property
    def failures(self):
        return sum(self.errors.values())


def begin(url, connections=32, seconds=3.0, timeout=30, threads=1):
    """Starts a run; `finish` has its result."""
    command = ["wrk", f"-t{min(threads, connections)}", f"-c{connections}", f"-d{max(1, round(seconds))}s"]
    command += [f"--timeout={timeout}s", f"-s{REPORT}", url]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(process):
    output = process.communicate()[0]
    line = next((each for each in output.splitlines() if each.startswith("report ")), None)
    if process.returncode != 0 or line is None:
        raise RuntimeError(f"wrk ended with {process.returncode}:\n{output}")
    numbers = [int(word) for word in line.split()[1:]]
    requests, microseconds, size = numbers[:3]
    errors = {name: count for name, count in zip(ERRORS, numbers[3:8]) if count}
    p50, p99, slowest = (number / 1e6 for number in numbers[8:])
    return Load(requests, microseconds / 1e6, size, errors, p50, p99, slowest)


def run(url, **options):
    return finish(begin(url, **options))
