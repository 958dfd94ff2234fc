"""The benchmarks: `make bench` and `make bench-slow` run them; see `python -m benches --help`."""

from . import paths as paths  # makes the tests' harness importable, before anything else needs it
