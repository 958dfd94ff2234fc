"""Waiting for what another process does: always by polling, never by a guess."""

import time

TIMEOUT = 20.0


def until(condition, what, timeout=TIMEOUT):
    """Polls until `condition()` is true and returns its value."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {timeout:g} s")
        time.sleep(0.005)
