"""Random cases at both borders, the same in every run; `make fuzz` plays others, for minutes (tests/fuzz)."""

import pytest
from fuzz import run

SECONDS = 10


@pytest.mark.parametrize("first", [0, 1_000_000])
def test_the_python_border(serve, first):
    assert run.python_border(serve, first, SECONDS / 2) > 100


@pytest.mark.parametrize("first", [0, 1_000_000])
def test_the_nginx_border(serve, first):
    assert run.nginx_border(serve, first, SECONDS / 2) > 100
