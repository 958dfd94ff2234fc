"""A call that holds the GIL in C: the worker leaves new connections to its siblings, says which call it is, and ends."""

from harness import config, http1
from harness.status import states, status
from harness.waiting import until

LOCATIONS = """
    wsgi_param test.dir @DIR@;
    location /wedge/ { wsgi_pass wedge; }
    location /hello { wsgi_queue_timeout 2s; wsgi_pass hello; }
    location /static { return 200 $pid; }
    location = /status { wsgi_status; }
"""


def site(gil_timeout="60s"):
    return config.site(LOCATIONS, http=f"wsgi_gil_timeout {gil_timeout};")


def connections_to_one(server, count):
    """Open connections of one worker, and its process id."""
    found = {}
    while True:
        connection = http1.ask(server, "/static")
        pid = int(connection.response().text)
        found.setdefault(pid, []).append(connection)
        if len(found[pid]) == count:
            return found[pid], pid


def test_its_siblings_accept_though_nothing_waits(serve):
    server = serve(site(), workers=4)
    until(lambda: states(server) == ["running"] * 4, "all workers run")
    (idle, wedged), pid = connections_to_one(server, 2)
    wedged.request("/wedge/hold?s=2")
    until(lambda: "stuck" in states(server), "one worker is stuck")
    stuck = [worker for worker in status(server)["workers"] if worker["state"] == "stuck"]
    assert [worker["pid"] for worker in stuck] == [pid]
    assert stuck[0]["pools"]["default"]["queued"] == 0
    assert idle.is_closed(), "its client comes back to another worker"
    for _ in range(20):
        assert http1.fetch(server, "/hello").status == 200
    assert wedged.response().status == 200
    until(lambda: states(server) == ["running"] * 4, "it accepts again")
    server.wait_log(r"the GIL is free again, after [12]\.\d s")


def test_it_is_said_which_call_runs(serve):
    server = serve(site())
    with http1.ask(server, "/wedge/hold?s=1.5") as connection:
        server.wait_log(r"\[error\].*the GIL has been held for 1\.\d s: 1 calls run")
        server.wait_log(
            r'\[error\].*a call that runs while the GIL is held by thread "default/\d", which has used \d+% of a CPU since'
            r', client: 127\.0\.0\.1, request: "GET /wedge/hold\?s=1\.5 HTTP/1\.1"'
        )
        assert connection.response().status == 200
    assert http1.fetch(server, "/hello").status == 200


def test_calls_that_take_long_without_the_gil_are_none(serve):
    """Nor are those that take it from each other all the time."""
    server = serve(site("300ms"))
    calls = [http1.ask(server, f"/wedge/{kind}?s=1.5") for kind in ("sleep", "loop", "loop")]
    assert [connection.response().status for connection in calls] == [200] * 3
    assert not server.count("the GIL")


def test_the_only_worker_ends(serve):
    """Files are served until then, and all who wait are answered."""
    server = serve(site("1500ms"))
    server.workers = None
    server.expect("the worker ends")
    old = status(server)["workers"][0]["pid"]
    calls = [http1.ask(server, "/wedge/hold?s=30")]
    until(lambda: "stuck" in states(server), "the GIL is held")
    calls.append(http1.ask(server, "/wedge/none"))
    server.wait_log("a call that runs while the GIL is held")
    assert http1.fetch(server, "/static").text == str(old)
    assert [connection.response().status for connection in calls] == [504, 503]
    server.wait_log(r"\[alert\].*the GIL has been held for 1\.\d s \(wsgi_gil_timeout\): the worker ends")
    new = until(lambda: serving(server), "another worker serves")
    assert new != old


def serving(server):
    try:
        return http1.fetch(server, "/hello").status == 200 and int(http1.fetch(server, "/static").text)
    except (OSError, EOFError):
        return None


def test_a_worker_with_siblings_ends_when_it_has_served_its_clients(serve):
    server = serve(site("1200ms"), workers=2)
    server.workers = None
    server.expect("the worker ends")
    until(lambda: states(server) == ["running"] * 2, "both workers run")
    (connection,), pid = connections_to_one(server, 1)
    connection.request("/wedge/hold?s=30")
    assert connection.response().status == 504
    until(lambda: pid not in server.worker_pids() and len(server.worker_pids()) == 2, "another worker takes its place")
    until(lambda: states(server) == ["running"] * 2, "both workers run")


def test_without_a_timeout_it_goes_on(serve):
    server = serve(site("0"))
    with http1.ask(server, "/wedge/hold?s=1.3") as connection:
        assert connection.response().status == 200
    server.wait_log(r"the GIL is free again")


