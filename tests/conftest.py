"""Fixtures of all tests: servers that are started, watched and ended."""

import itertools
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from harness import artifacts, config, http1, tls  # noqa: E402
from harness.server import Server  # noqa: E402


# Tests of what this nginx was built without.
collect_ignore = [] if artifacts.missing() or artifacts.has_http_3() else ["test_http3.py"]


def pytest_sessionstart(session):
    reason = artifacts.missing()
    if reason:
        pytest.exit(reason, returncode=2)


def _factory(directory):
    """A function that starts servers round the contents of an http block; all end with the fixture."""
    numbers, started = itertools.count(1), []

    def serve(http, main="", workers=1, environ=None, text=None):
        home = directory / f"nginx{next(numbers)}"
        home.mkdir()
        server = Server(home, text or config.whole(http, main, workers), environ)
        started.append(server)
        return server

    return serve, started


def _end(started):
    failures = []
    for server in started:
        try:
            server.stop()
        except AssertionError as failure:
            failures.append(str(failure))
    if failures:
        pytest.fail("\n".join(failures), pytrace=False)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    return tls.Certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def serve(tmp_path):
    """Starts servers for one test."""
    factory, started = _factory(tmp_path)
    yield factory
    _end(started)


@pytest.fixture(scope="module")
def serve_module(tmp_path_factory):
    """Starts servers for all tests of a file."""
    factory, started = _factory(tmp_path_factory.mktemp("servers"))
    yield factory
    _end(started)


@pytest.fixture(autouse=True)
def closed_connections():
    """A test need not close its connections."""
    yield
    while http1.Connection.opened:
        http1.Connection.opened.pop().close()


@pytest.fixture(autouse=True)
def clean_logs():
    """A test fails when it leaves something in an error log that it did not announce."""
    yield
    complaints = [complaint for server in Server.live for complaint in server.complaints()]
    if complaints:
        pytest.fail("in the error log:\n" + "\n".join(complaints), pytrace=False)
