"""Threads that are lost to calls which do not end: they are replaced, and a pool without any is no end of all service."""

import time

import pytest

from harness import config, http1
from harness.gate import Gate
from harness.status import pool, status, until_pool
from harness.waiting import until

LOCATIONS = """
    wsgi_param test.dir @DIR@;
    location /lost/ { wsgi_read_timeout 300ms; wsgi_pass gates; }
    location /timed/ { wsgi_request_timeout 300ms; wsgi_pass wedge; }
    location /wedge/ { wsgi_pass wedge; }
    location /barrier/ { wsgi_pass meeting; }
    location /gate/ { wsgi_pass gates pool=other; }
    location /pid { return 200 $pid; }
    location /files/ { alias @DIR@/; }
    location = /status { wsgi_status; }
"""


def site(threads):
    return config.site(LOCATIONS, pool=f"wsgi_pool default threads={threads}; wsgi_pool other threads=1;")


def lose_two(server):
    """Two calls that wait at the gate `lost`: the pool's only thread, and the one in its place."""
    for _ in range(2):
        assert http1.fetch(server, "/lost/lost").status == 504
    server.wait_log("all 2 threads of pool \"default\" are lost")


def big_file(server):
    """Longer than the buffers of sockets."""
    content = b"x" * (16 << 20)
    (server.dir / "big").write_bytes(content)
    return content


def test_the_only_worker_serves_files_and_refuses_calls(serve):
    """It does not stop accepting for a download that may take for ever."""
    server = serve(site(threads=1))
    server.workers = None
    server.expect("are lost", "the worker ends")
    content = big_file(server)
    (worker,) = server.worker_pids()
    download = http1.ask(server, "/files/big")
    Gate(server, "open").open()
    lose_two(server)
    for _ in range(3):
        refused = http1.fetch(server, "/wedge/none")
        assert refused.status == 503 and refused.get("Retry-After")
        assert http1.fetch(server, "/pid").text == str(worker)
        assert http1.fetch(server, "/gate/open").status == 200, "the other pool serves"
    assert pool(server)["lost"] == 2
    assert download.response().body == content
    download.close()
    until(lambda: serving(server, "/wedge/none"), "when nobody is being served, another worker takes its place")
    assert server.worker_pids() != [worker]


def serving(server, path):
    try:
        return http1.fetch(server, path).status == 200
    except (OSError, EOFError):
        return False


def test_it_serves_again_when_its_threads_come_back(serve):
    server = serve(site(threads=1))
    server.expect("are lost")
    big_file(server)
    gate = Gate(server, "lost")
    with gate, http1.ask(server, "/files/big"):
        lose_two(server)
        assert http1.fetch(server, "/wedge/none").status == 503
        gate.open()
        until(lambda: serving(server, "/wedge/none"), "they have come back")
        until_pool(server, lost=0, busy=0, queued=0)
        calls = [http1.ask(server, "/wedge/sleep?s=0.5") for _ in range(3)]
        until_pool(server, busy=2, queued=1)
        assert [connection.response().status for connection in calls] == [200] * 3


def test_those_that_wait_are_refused_at_once(serve):
    server = serve(site(threads=1))
    server.expect("are lost")
    big_file(server)
    with Gate(server, "lost"), http1.ask(server, "/files/big"):
        assert http1.fetch(server, "/lost/lost").status == 504
        second, third = http1.ask(server, "/lost/lost"), http1.ask(server, "/wedge/none")
        assert (second.response().status, third.response().status) == (504, 503)


def test_a_worker_leaves_when_its_sibling_serves(serve):
    server = serve(site(threads=1), workers=2)
    server.workers = None
    server.expect("are lost", "the worker ends")
    until(lambda: {worker["state"] for worker in status(server)["workers"]} == {"running"}, "both run")
    content = big_file(server)
    found = {}
    while not any(len(connections) == 3 for connections in found.values()):
        connection = http1.ask(server, "/pid")
        found.setdefault(connection.response().text, []).append(connection)
    pid, (download, *others) = next(each for each in found.items() if len(each[1]) == 3)
    download.request("/files/big")
    for connection in others:
        connection.request("/lost/lost")
        assert connection.response().status == 504
    server.wait_log("2 threads are lost to calls that do not end: the worker ends")
    for _ in range(10):
        assert http1.fetch(server, "/wedge/none").status == 200
    assert download.response().body == content, "what it has accepted it goes on with"
    download.close()
    until(lambda: int(pid) not in server.worker_pids() and len(server.worker_pids()) == 2, "another in its place")


def test_threads_are_replaced_when_calls_wait(serve):
    """A second after they were interrupted: the calls that wait for each other meet while the lost ones still sleep."""
    server = serve(site(threads=3))
    lost = [http1.ask(server, "/timed/sleep?s=5") for _ in range(3)]
    assert [connection.response().status for connection in lost] == [504] * 3
    began = time.monotonic()
    waiting = [http1.ask(server, "/barrier/lost?3") for _ in range(3)]
    assert [connection.response().text for connection in waiting] == ["met"] * 3
    assert time.monotonic() - began < 3.5


@pytest.mark.parametrize("kind", ["sleep", "loop"])
def test_a_call_whose_client_has_left_is_no_thread_lost_for_good(serve, kind):
    """wsgi_request_timeout still interrupts it, and its thread is replaced."""
    server = serve(site(threads=1))
    with http1.ask(server, f"/timed/{kind}?s=5"):
        until(lambda: (server.dir / "notes").exists(), "the call")
    began = time.monotonic()
    assert http1.fetch(server, "/wedge/none").status == 200
    assert time.monotonic() - began < 3.5


def test_nothing_is_lost_while_calls_come_back(serve):
    server = serve(site(threads=2))
    for _ in range(4):
        assert http1.fetch(server, "/timed/loop?s=20").status == 504
    assert http1.fetch(server, "/wedge/none").status == 200
    until_pool(server, busy=0, lost=0)
    assert not server.count("are added")
