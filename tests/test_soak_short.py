"""The soak tests in seconds; `make soak` runs them at length (tests/soak)."""

import pytest
from harness.waiting import until
from soak import load, site
from soak.crowd import Crowd, Streams
from soak.soak_leaving import cut_short
from soak.soak_queue import leave_the_queue
from soak.soak_reload import quit_under_load, reloads
from soak.soak_slow import slow_clients


@pytest.fixture
def started(serve, tmp_path):
    return site.start(serve, tmp_path)


def test_clients_leave_at_a_random_moment(started, tmp_path):
    server, tls = started
    watch = site.Watch(server)
    watch.settle()
    descriptors = watch.descriptors()
    file = tmp_path / "file"
    file.write_bytes(b"f" * 2_000_000)
    crowd = Crowd(server, file, tls)
    crowd.run(400)
    Streams(server, file).run(100)
    assert crowd.answered > 50
    watch.settle()
    watch.check()
    until(lambda: watch.descriptors() <= descriptors + 1, "all connections and files are closed")


def test_they_leave_calls_that_are_cut_short(started, tmp_path):
    server, tls = started
    watch = site.Watch(server)
    file = tmp_path / "file"
    file.write_bytes(b"f" * 2_000_000)
    cut_short(server, tls, file, clients=300, streams=100)
    watch.settle()
    watch.check()


def test_requests_leave_no_memory_behind(started):
    server, _ = started
    watch = site.Watch(server)
    load.requests(server, 5_000)
    watch.settle()
    before = watch.resident()
    load.requests(server, 15_000)
    watch.settle()
    assert watch.resident() - before < site.MIB
    watch.check()


def test_a_queue_whose_clients_leave(started):
    server, _ = started
    leave_the_queue(server, 300)


def test_reload_under_load(started):
    server, _ = started
    reloads(server, 2)


def test_quit_under_load(serve, tmp_path):
    server, _ = site.start(serve, tmp_path, access_log="@DIR@/access.log test")
    quit_under_load(server)


def test_slow_clients(serve):
    slow_clients(serve, 2, (20, 20, 5))
