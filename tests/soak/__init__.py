"""Long tests: `make soak`. Their short forms are in tests/test_soak_short.py."""
