"""Random cases against a live worker; `make fuzz` runs them for minutes, tests/test_fuzz_short.py for seconds."""
