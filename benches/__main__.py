"""`python -m benches`: runs the parts that are asked for and writes what they found below target/bench."""

import argparse
import datetime
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from harness import artifacts

from . import machine, paths, plot, report
from .parts import latency, mixed, queue, requests, scale, slow, transfers, waits

PARTS = {
    "slow": slow.run,
    "hello": lambda options: requests.run("hello", options),
    "django": lambda options: requests.run("django", options),
    "flask": lambda options: requests.run("flask", options),
    "json": lambda options: requests.run("json", options),
    "idle": latency.idle,
    "sleep": waits.sleep,
    "mixed": mixed.run,
    "pools": waits.pools,
    "spin": waits.spin,
    "slow-uploads": waits.slow_uploads,
    "stream": transfers.stream,
    "file": transfers.file,
    "upload": transfers.upload,
    "queue": queue.run,
    "scale": scale.run,
}


def read_options(arguments):
    parser = argparse.ArgumentParser(prog="python -m benches", description=__doc__)
    numbers = lambda text: [int(word) for word in text.split(",")]  # noqa: E731
    parser.add_argument("--only", default="", help=f"parts, with commas between: {','.join(PARTS)}")
    parser.add_argument("--rounds", type=int, default=5, help="bursts on each server, in turns (%(default)s)")
    parser.add_argument("--seconds", type=float, default=3, help="length of a burst (%(default)s)")
    parser.add_argument("--threads", type=numbers, default=[1, 8, 32], help="numbers of threads (1,8,32)")
    parser.add_argument("--no-peers", dest="peers", action="store_false", help="this module and the limit only")
    parser.add_argument("--stream-mib", type=int, default=256)
    parser.add_argument("--upload-mib", type=int, default=64)
    parser.add_argument("--out", type=Path, default=paths.ROOT / "target" / "bench")
    parser.add_argument("--docs", action="store_true", help="put the results into docs/benchmarks.md too")
    options = parser.parse_args(arguments)
    options.parts = [word for word in options.only.split(",") if word] or list(PARTS)
    unknown = [part for part in options.parts if part not in PARTS]
    if unknown:
        parser.error(f"there is no part {unknown[0]}; there are {', '.join(PARTS)}")
    began = time.monotonic()
    options.say = lambda text: print(f"  [{time.monotonic() - began:5.0f} s] {text}", file=sys.stderr, flush=True)
    return options


def head(options):
    """What was measured, when and on what; it stands above every table."""
    version = ".".join(map(str, artifacts.nginx_version()))
    python = f"CPython {sys.version.split()[0]}"
    how = f"{options.rounds} rounds of {options.seconds:g} s, medians (p99: the best)"
    return f"{datetime.date.today()}; {machine.describe()}; nginx {version}, {python}; {how}."


def keep(findings, options):
    """Writes a part's results; returns whether all of its rows could be shown."""
    report.write(options.out, findings, head(options))
    picture = None
    if findings.bars:
        picture = f"bench-{findings.part}.svg"
        drawing = plot.bar_chart(head(options).partition(";")[2].strip(), findings.bars)
        (options.out / picture).write_text(drawing)
    if options.docs:
        report.put_in_docs(findings, head(options), picture)
        if picture:
            shutil.copy(options.out / picture, paths.DOCS.parent / picture)
    print(f"\n{findings.text()}", flush=True)
    return not findings.refused


def main():
    options = read_options(sys.argv[1:])
    options.out.mkdir(parents=True, exist_ok=True)
    machine.raise_descriptor_limit()
    if not shutil.which("wrk"):
        sys.exit("wrk is missing: install Debian's package wrk")
    if artifacts.missing():
        sys.exit(artifacts.missing())
    whole, found = True, []
    # Unix sockets' paths must be short, so the servers do not live below target.
    with tempfile.TemporaryDirectory(prefix="wsgi-bench-", dir=os.environ.get("TMPDIR")) as directory:
        options.directory = Path(directory)
        options.directory.chmod(0o755)  # a peer may run as somebody else
        for part in options.parts:
            findings = PARTS[part](options)
            whole = keep(findings, options) and whole
            found.append(findings)
    targets = [target for findings in found for target in findings.targets]
    if targets:
        table = report.Table("Targets", ["what", "found", "wanted", ""], [target.row() for target in targets])
        (options.out / "targets.txt").write_text(table.text())
        print(f"\n{table.text()}")
    print(f"tables and plots: {options.out}")
    return 0 if whole else 1


if __name__ == "__main__":
    sys.exit(main())
