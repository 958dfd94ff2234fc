"""Workers leave to each other what they cannot serve themselves at once."""

import os
import signal

from harness import config, http1
from harness.gate import Gate
from harness.status import states
from harness.waiting import until

LOCATIONS = """
    wsgi_param test.dir @DIR@;
    location /gate/ { wsgi_pass gates pool=one; }
    location /hello { wsgi_pass hello; }
    location /pid { return 200 $pid; }
    location = /status { wsgi_status; }
"""
POOLS = "wsgi_pool one threads=1; wsgi_pool default threads=1;"


def test_a_worker_that_imports_leaves_connections_to_one_that_is_ready(serve):
    locations = LOCATIONS + "location /slow { wsgi_pass slow_import; }"
    server = serve(
        config.site(locations, pool=POOLS), main="env WSGI_TEST_DIR;", environ={"WSGI_TEST_DIR": "@DIR@"}, workers=2
    )
    server.workers = None
    server.expect("exited on signal 9")
    gate = Gate(server, "import")
    gate.open()
    until(lambda: states(server) == ["running"] * 2, "both workers run")
    gate.open_file.unlink()
    os.kill(server.worker_pids()[0], signal.SIGKILL)
    with gate:
        gate.wait_entered(3)
        until(lambda: states(server) == ["running", "starting"], "one of them imports")
        for _ in range(20):
            assert http1.fetch(server, "/slow").text == "imported"
    until(lambda: states(server) == ["running"] * 2, "both workers run")


def test_all_accept_while_all_import(serve):
    locations = LOCATIONS + "location /slow { wsgi_pass slow_import; }"
    server = serve(
        config.site(locations, pool=POOLS), main="env WSGI_TEST_DIR;", environ={"WSGI_TEST_DIR": "@DIR@"}, workers=2
    )
    with Gate(server, "import") as gate:
        gate.wait_entered(2)
        assert states(server) == ["starting"] * 2
        calls = [http1.ask(server, "/slow") for _ in range(8)]
    assert {connection.response().text for connection in calls} == {"imported"}


def test_a_stuck_worker_closes_connections_after_their_response(serve):
    """So that their clients come back to another."""
    server = serve(config.site(LOCATIONS, pool=POOLS), workers=2)
    until(lambda: states(server) == ["running"] * 2, "both workers run")
    found = {}
    while not any(len(connections) == 3 for connections in found.values()):
        connection = http1.ask(server, "/pid")
        found.setdefault(connection.response().text, []).append(connection)
    first, second, third = next(connections for connections in found.values() if len(connections) == 3)
    second.request("/hello")
    assert second.response().get("Connection") == "keep-alive"
    with Gate(server, "stuck") as gate:
        first.request("/gate/stuck")
        gate.wait_entered()
        until(lambda: states(server) == ["running", "stuck"], "one of them is")
        second.request("/hello")
        response = second.response()
        assert (response.status, response.get("Connection")) == (200, "close")
    assert first.response().status == 200
    until(lambda: states(server) == ["running"] * 2, "none is any more")
    third.request("/hello")
    assert third.response().get("Connection") == "keep-alive"
