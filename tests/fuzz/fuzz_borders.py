"""Both borders for minutes, with cases that nobody has seen before: `CASE` is the number of the first, if not the time of day."""

import os
import time

import pytest

from fuzz import run

MINUTES = float(os.environ.get("MINUTES") or 2)
FIRST = int(os.environ.get("CASE") or time.time_ns() // 1_000_000 * 1_000_000)


@pytest.mark.parametrize("border", [run.python_border, run.nginx_border])
def test_border(serve, border):
    print(f"\n{border.__name__} from case {FIRST} on")
    print(border(serve, FIRST, 60 * MINUTES), "cases")
