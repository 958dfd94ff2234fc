"""wsgi_queue_timeout and wsgi_read_timeout fire on time, while the threads are still busy."""

import re
import select
import time

import pytest

from harness import config, http1, http2
from harness.gate import Gate
from harness.script import gate, give, play, start
from harness.waiting import until

CONF = """
    wsgi_param test.dir @DIR@;
    location /queue/ { wsgi_queue_timeout 500ms; wsgi_pass gates; }
    location /patient/ { wsgi_pass gates; }
    location /play { wsgi_read_timeout 500ms; wsgi_pass script; }
    location /small/ { wsgi_pass gates pool=small; }
"""
POOLS = "wsgi_pool default threads=2; wsgi_pool small threads=1 queue=2;"


@pytest.fixture(scope="module")
def server(serve_module):
    second = f"server {{ {config.http2('H2_PORT', tls=False)} {CONF} }}"
    return serve_module(config.site(CONF, pool=POOLS, http=second))


def timed(connection, began):
    response = connection.response()
    return response, time.monotonic() - began


def fill(server, name, count=2, at="/patient/"):
    """Occupies threads at a gate; returns the gate and the connections."""
    closed = Gate(server, name)
    busy = [http1.ask(server, f"{at}{name}") for _ in range(count)]
    closed.wait_entered(count)
    return closed, busy


def test_the_queue_timeout(server):
    closed, busy = fill(server, "queue-timeout")
    with closed:
        began = time.monotonic()
        late = [http1.ask(server, "/queue/never-called") for _ in range(3)]
        for connection in late:
            response, waited = timed(connection, began)
            assert response.status == 503 and int(response.get("Retry-After")) > 0
            assert 0.49 < waited < 1.5, "on time, though no thread is free"
    assert [connection.response().status for connection in busy] == [200, 200]
    assert Gate(server, "never-called").entered() == 0, "a call that was answered in the queue is never made"


def test_the_log_has_a_warning_and_not_one_for_every_call(serve):
    server = serve(config.site(CONF, pool="wsgi_pool default threads=1 queue=1; wsgi_pool small threads=1;"))
    closed, busy = fill(server, "warning", 1)
    with closed:
        for call in [http1.ask(server, "/queue/warning") for _ in range(20)]:
            assert call.response().status == 503
        server.wait_log(r"\[warn\].*queue")
        assert server.count(r"\[warn\]") < 10, "an overload must not drown the log"
    assert busy[0].response().status == 200


def test_the_queue_timeout_leaves_the_connection_usable(server):
    closed, busy = fill(server, "queue-keepalive")
    with closed:
        late = http1.ask(server, "/queue/never-called")
        assert late.response().status == 503
    assert [connection.response().status for connection in busy] == [200, 200]
    Gate(server, "after").open()
    late.request("/patient/after")
    assert late.response().text == "through after"


def test_the_queue_timeout_ends_when_a_thread_takes_the_call(server):
    closed, busy = fill(server, "taken", at="/queue/")
    time.sleep(0.8)
    with closed:
        pass
    assert [connection.response().status for connection in busy] == [200, 200]


def test_a_full_queue_answers_at_once(server):
    closed, busy = fill(server, "full", 1, "/small/")
    with closed:
        began = time.monotonic()
        late = [http1.ask(server, "/small/full") for _ in range(5)]
        refused = until(lambda: len(answered(late)) == 3 and answered(late), "answers to three calls", 1)
        assert time.monotonic() - began < 0.5
        for connection in refused:
            response = connection.response()
            assert response.status == 503 and int(response.get("Retry-After")) > 0
        assert not answered(set(late) - set(refused)), "queue=2 holds two"
    waiting = set(late) - set(refused)
    assert [connection.response().status for connection in [*busy, *waiting]] == [200, 200, 200]


def answered(connections):
    """Those of the connections on which something has come."""
    readable, _, _ = select.select([connection.socket for connection in connections], [], [], 0)
    return [connection for connection in connections if connection.socket in readable]


def test_the_read_timeout_before_the_head(server):
    closed = Gate(server, "read-timeout")
    server.expect("Traceback")
    with closed:
        began = time.monotonic()
        response, waited = timed(http1.ask(server, play(start(), gate(closed.name), give("late"))), began)
        assert response.status == 504 and 0.49 < waited < 1.5
        server.wait_log(r"\[error\].*timeout.*, request: ")
        # The stack of the call that is late comes from Python, as soon as Python can give it.
        server.wait_log(r"gates\.py")
    closed.wait_left()


def test_the_read_timeout_between_two_chunks(server):
    closed = Gate(server, "read-timeout-stream")
    server.expect("Traceback")
    with closed:
        began = time.monotonic()
        response, waited = timed(http1.ask(server, play(start(), give("first"), gate(closed.name), give("late"))), began)
        assert (response.status, response.text, response.complete) == (200, "first", False)
        assert 0.49 < waited < 1.5
    closed.wait_left()


def test_the_read_timeout_on_http_2(server):
    closed = Gate(server, "read-timeout-h2")
    server.expect("Traceback")
    with closed, http2.Connection(server.ports["H2_PORT"]) as connection:
        late = connection.response(connection.request(play(start(), gate(closed.name))))
        assert late.status == 504 and late.complete
        late = connection.response(connection.request(play(start(), give("first"), gate(closed.name))))
        assert late.body == b"first" and not late.complete
    closed.wait_left(2)


def test_steady_output_is_not_timed_out(server):
    """The deadline is for silence, not for the whole call."""
    steps = [start()]
    for number in range(5):
        steps += [("pause", 0.25), give(str(number))]
    assert http1.fetch(server, play(*steps)).text == "01234"


def test_the_thread_serves_on_after_a_timeout(server):
    closed = Gate(server, "serves-on")
    server.expect("Traceback")
    late = [http1.ask(server, play(start(), gate(closed.name))) for _ in range(2)]
    with closed:
        assert [connection.response().status for connection in late] == [504, 504]
    closed.wait_left(2)
    assert http1.fetch(server, play(start(), give("again"))).text == "again"
    assert not re.search("again", server.log())
