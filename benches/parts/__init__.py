"""The parts of the benchmarks; each has `run(options)`, which gives Findings."""
