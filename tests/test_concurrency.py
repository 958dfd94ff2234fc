"""N threads are N calls at once; a slow call delays nobody; a client that left costs nothing."""

import json
import time

import pytest

from harness import config, http1, http2, processes, script
from harness.gate import Gate
from harness.script import give, odd, play, start
from harness.waiting import until

THREADS = 8
CONF = (
    script.CONF
    + """
    location /barrier { wsgi_pass meeting; }
    location /gates/ { wsgi_pass gates; }
    location /one/ { wsgi_pass gates pool=one; }
    location /line { wsgi_pass script pool=one; }
    location = /status { wsgi_status; }
    location /static/ { alias @DIR@/static/; }
    location /told { wsgi_pass environ; }
"""
)


@pytest.fixture(scope="module")
def server(serve_module):
    second = f"server {{ {config.http2('H2_PORT', tls=False)} {CONF} }}"
    pools = f"wsgi_pool default threads={THREADS}; wsgi_pool one threads=1;"
    server = serve_module(config.site(CONF, pool=pools, http=second))
    (server.dir / "static").mkdir()
    (server.dir / "static/file").write_text("static")
    return server


# ---- many at once ----


@pytest.mark.parametrize("round", range(5))
def test_as_many_calls_as_threads_meet(server, round):
    """Each waits for all the others: it works only if all run at once."""
    calls = [http1.ask(server, f"/barrier/{round}?{THREADS}") for _ in range(THREADS)]
    assert [call.response().text for call in calls] == ["met"] * THREADS


def test_they_meet_on_one_http_2_connection_too(server):
    with http2.Connection(server.ports["H2_PORT"]) as connection:
        calls = [connection.request(f"/barrier/h2?{THREADS}") for _ in range(THREADS)]
        assert [connection.response(call).text for call in calls] == ["met"] * THREADS


def test_calls_beyond_the_threads_wait_their_turn(server):
    with Gate(server, "turns") as closed:
        calls = [http1.ask(server, f"/gates/{closed.name}") for _ in range(3 * THREADS)]
        closed.wait_entered(THREADS)
        assert closed.entered() == THREADS
    assert [call.response().text for call in calls] == ["through turns"] * 3 * THREADS


def test_a_pool_s_calls_do_not_hold_up_another_pool(server):
    with Gate(server, "pool-one") as closed:
        call = http1.ask(server, f"/one/{closed.name}")
        closed.wait_entered()
        assert http1.fetch(server, "/hello").text == "hello\n"
    assert call.response().status == 200


def test_static_files_do_not_wait_for_calls(server):
    """Four times as many calls as threads are held; the event loop must not notice."""
    with Gate(server, "static") as closed:
        calls = [http1.ask(server, f"/gates/{closed.name}") for _ in range(4 * THREADS)]
        closed.wait_entered(THREADS)
        slowest = 0
        with http1.Connection(server.port) as connection:
            for _ in range(200):
                began = time.monotonic()
                connection.request("/static/file")
                assert connection.response().text == "static"
                slowest = max(slowest, time.monotonic() - began)
        assert slowest < 0.5
    assert {call.response().status for call in calls} == {200}


def test_static_files_do_not_wait_for_the_gil(server):
    """A call that computes keeps the GIL all the time."""
    busy = [http1.ask(server, play(start(), odd("str(sum(range(6_000_000))).encode()"))) for _ in range(4)]
    slowest = 0
    for _ in range(50):
        began = time.monotonic()
        assert http1.fetch(server, "/static/file").text == "static"
        slowest = max(slowest, time.monotonic() - began)
    assert {call.response().text for call in busy} == {str(sum(range(6_000_000)))}
    assert slowest < 0.5


def test_first_come_first_served(server):
    """With one thread, the order of calls is that of their coming."""
    with Gate(server, "fifo") as closed:
        first = http1.ask(server, f"/one/{closed.name}")
        closed.wait_entered()
        calls = []
        for number in range(1, 9):
            calls.append(http1.ask(server, play(start(), odd("str(time.monotonic_ns()).encode()"), at="/line")))
            until(lambda: queued(server) == number, "the call waits behind the others")
    assert first.response().status == 200
    began = [int(call.response().text) for call in calls]
    assert began == sorted(began)


def queued(server):
    return json.loads(http1.fetch(server, "/status").text)["pools"]["one"]["queued"]


# ---- clients that leave ----


@pytest.mark.parametrize("ending", ["close", "reset"])
def test_a_client_gone_while_queued_never_reaches_python(server, ending):
    with Gate(server, f"queue-{ending}") as closed:
        call = http1.ask(server, f"/one/{closed.name}")
        closed.wait_entered()
        gone = [http1.ask(server, f"/one/gone-{ending}") for _ in range(3)]
        stays = http1.ask(server, f"/one/{closed.name}")
        for connection in gone:
            getattr(connection, ending)()
        until(lambda: len(server.wait_access(f"GET /one/gone-{ending} 499")) == 3, "three 499 in the access log")
    assert (call.response().status, stays.response().status) == (200, 200)
    assert Gate(server, f"gone-{ending}").entered() == 0


@pytest.mark.parametrize("ending", ["close", "reset"])
def test_a_client_gone_while_running(server, ending):
    with Gate(server, f"running-{ending}") as closed:
        connection = http1.ask(server, f"/gates/{closed.name}")
        closed.wait_entered()
        getattr(connection, ending)()
        server.wait_access(f"GET /gates/{closed.name} 499")
    closed.wait_left()
    assert http1.fetch(server, "/hello").text == "hello\n"


def test_a_stream_whose_client_left_is_ended_and_closed(server):
    """The thread is told: it neither waits for room for ever, nor goes on to make what nobody reads."""
    connection = http1.ask(
        server, play(start(), odd("b'x' * 1_000_000"), *[("yield", "y" * 500, 1000)] * 3, closes="left-early.left")
    )
    connection.head()
    connection.reset()
    Gate(server, "left-early").wait_left()
    server.wait_access(r"GET /play")
    assert http1.fetch(server, "/hello").text == "hello\n"


def test_http_2_streams_that_are_reset(server):
    with http2.Connection(server.ports["H2_PORT"]) as connection, Gate(server, "h2-running") as closed:
        running = connection.request(f"/gates/{closed.name}")
        closed.wait_entered()
        queue = Gate(server, "h2-queue")
        holds = connection.request(f"/one/{queue.name}")
        queue.wait_entered()
        queued = connection.request("/one/h2-never")
        connection.cancel(running)
        connection.cancel(queued)
        server.wait_access("GET /gates/h2-running 499")
        server.wait_access("GET /one/h2-never 499")
        queue.open()
        assert connection.response(holds).status == 200
        assert connection.response(connection.request("/hello")).text == "hello\n"
    assert Gate(server, "h2-never").entered() == 0


def test_many_clients_leave_and_nothing_is_left_behind(server):
    (worker,) = server.worker_pids()
    assert http1.fetch(server, "/hello").status == 200
    before = processes.descriptors(worker)
    for number in range(300):
        connection = http1.ask(server, ["/hello", play(start(), give("x", 50)), "/told"][number % 3])
        if number % 4 == 0:
            connection.head()
        connection.reset() if number % 2 else connection.close()
    until(lambda: processes.descriptors(worker) <= before + 1, "all descriptors are closed")
    assert http1.fetch(server, "/hello").text == "hello\n"


def test_new_connections_go_to_a_worker_that_has_a_free_thread(serve):
    """Two workers of one thread. The thread of one is held; every new connection comes to the other."""
    server = serve(config.site(CONF, pool="wsgi_pool default threads=1; wsgi_pool one threads=1;"), workers=2)
    for name in ("first", "second"):
        (server.dir / f"{name}.open").unlink(missing_ok=True)
        with Gate(server, name) as closed:
            held = http1.ask(server, f"/gates/{closed.name}")
            closed.wait_entered()
            time.sleep(0.1)  # it steps back every 10 ms
            for _ in range(40):
                assert http1.fetch(server, "/hello").text == "hello\n"
        assert held.response().text == f"through {name}"
