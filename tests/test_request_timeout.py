"""wsgi_request_timeout: answered on time, whatever the thread is at; then the call is interrupted."""

import time

import pytest

from harness import config, http1
from harness.waiting import until

CONF = """
    wsgi_param test.dir @DIR@;
    location /timed/ { wsgi_request_timeout 500ms; wsgi_pass wedge; }
    location /patient/ { wsgi_pass wedge; }
    location /deadlines/ { wsgi_request_timeout 500ms; wsgi_queue_timeout 500ms; wsgi_pass wedge; }
    location /abort/ { wsgi_interrupt_on_abort on; wsgi_pass wedge; }
    location /alone/ { wsgi_request_timeout 300ms; wsgi_pass wedge pool=single; }
    location /lone/ { wsgi_pass wedge pool=single; }
    location = /static { return 200 static; }
"""
POOLS = "wsgi_pool default threads=4; wsgi_pool single threads=1;"


@pytest.fixture
def server(serve):
    return serve(config.site(CONF, pool=POOLS))


def notes(server):
    path = server.dir / "notes"
    return path.read_text().split("\n") if path.exists() else []


def timed(server, path):
    began = time.monotonic()
    response = http1.fetch(server, path)
    return response, time.monotonic() - began


@pytest.mark.parametrize("kind", ["loop", "sleep", "catch"])
def test_it_is_answered_on_time(server, kind):
    took = []
    for _ in range(3):  # other work on the machine may delay one of them
        response, seconds = timed(server, f"/timed/{kind}?s=3")
        assert response.status == 504
        took.append(seconds)
    assert 0.5 <= min(took) < 0.75
    assert server.count(r"\[error\].*wsgi_request_timeout") >= 1


def all_wedged(server, kind):
    """Six calls on four threads that are stuck: statuses, seconds until each was answered, and nginx's slowest answer."""
    began, slowest = time.monotonic(), 0
    wedged = [http1.Connection(server.port) for _ in range(6)]
    for connection in wedged:
        connection.request(f"/deadlines/{kind}?s=3")
    while time.monotonic() < began + 0.45:
        asked = time.monotonic()
        assert http1.fetch(server, "/static").text == "static"
        slowest = max(slowest, time.monotonic() - asked)
    statuses, took = [], []
    for connection in wedged:
        statuses.append(connection.response().status)
        took.append(time.monotonic() - began)
    return statuses, took, slowest


@pytest.mark.parametrize("kind", ["sleep", "hold", "loop"])
def test_every_deadline_is_kept_though_all_threads_are_wedged(server, kind):
    """A call that holds the GIL keeps others in the queue, where they have a deadline, too."""
    for _ in range(3):  # other work on the machine may delay one answer of three
        assert http1.fetch(server, "/patient/none").status == 200, "a thread is free again"
        statuses, took, slowest = all_wedged(server, kind)
        begun = statuses.count(504)
        assert (1 <= begun <= 4 if kind == "hold" else begun == 4) and statuses.count(503) == 6 - begun
        if 0.5 <= min(took) and max(took) < 0.55 and slowest < 0.05:
            return
    pytest.fail(f"answered after {took}, static files within {slowest}")


def test_the_stack_is_logged(server):
    timed(server, "/timed/loop?s=3")
    until(lambda: server.count(r"in loop") >= 1, "the log or the notes")


def test_the_call_is_interrupted_where_it_is_in_python(server):
    timed(server, "/timed/loop?s=20")
    until(lambda: "loop interrupted" in notes(server), "the log or the notes")


def test_it_may_be_caught(server):
    timed(server, "/timed/catch?s=20")
    until(lambda: "caught" in notes(server), "the log or the notes")


def test_an_interrupted_thread_serves_on(server):
    for _ in range(3):
        assert timed(server, "/alone/loop?s=20")[0].status == 504
    until(lambda: notes(server).count("loop interrupted") == 3, "the log or the notes")
    assert timed(server, "/alone/none")[0].status == 200


def test_siblings_go_on(server):
    connection = http1.Connection(server.port)
    connection.request("/patient/sleep?s=1")
    assert timed(server, "/timed/loop?s=20")[0].status == 504
    assert connection.response().status == 200


def test_it_counts_all_of_the_call_though_output_comes(server):
    took = []
    for _ in range(3):
        began = time.monotonic()
        connection = http1.Connection(server.port)
        connection.request("/timed/stream?s=5")
        received = connection.rest()
        took.append(time.monotonic() - began)
        assert b"still here" in received and not received.endswith(b"0\r\n\r\n"), "cut off, and seen to be"
    assert 0.4 < min(took) < 0.8


def test_a_lost_thread_is_replaced(server):
    assert timed(server, "/alone/stubborn?s=4")[0].status == 504
    response, took = timed(server, "/lone/none")
    assert response.status == 200 and 0.2 < took < 3, "it waits for a thread that replaces the lost one"
    assert server.count(r"threads added to replace those that are lost: 1") == 1


def test_a_client_that_leaves_ends_its_call(server):
    connection = http1.Connection(server.port)
    connection.request("/abort/loop?s=20")
    until(lambda: "loop begins" in notes(server), "the call")
    connection.close()
    until(lambda: "loop interrupted" in notes(server), "the log or the notes")
