"""wsgi_status tells what a worker's pools are at and have done, in three formats."""

import re
import socket
import time

import pytest

from harness import config, http1
from harness.gate import Gate
from harness.script import fail, gate, give, play, send, start
from harness.status import LOCATIONS, POOLS, Gains, counts, metrics, pool, running, status, until_pool
from harness.waiting import until

@pytest.fixture
def server(serve):
    return running(serve(config.site(LOCATIONS, pool=POOLS)))


def test_a_server_at_rest(server):
    found = status(server)
    assert set(found) == {"nginx_wsgi", "nginx", "python", "pools", "workers"}
    assert re.fullmatch(r"\d+\.\d+\.\d+", found["nginx_wsgi"]) and re.match(r"3\.\d+\.\d+", found["python"])
    assert http1.fetch(server, "/status").get("Server") == f"nginx/{found['nginx']}"
    assert set(found["pools"]) == {"default", "small"}, "but for the one that no wsgi_pass names"
    (worker,) = found["workers"]
    assert worker["pools"] == found["pools"], "there is one worker only"
    assert (worker["worker"], worker["state"], worker["starts"]) == (0, "running", 1)
    assert worker["pid"] == server.workers[0] and abs(worker["started"] - time.time()) < 60
    default, small = found["pools"]["default"], found["pools"]["small"]
    assert (default["threads"], default["queue"], small["threads"], small["queue"]) == (2, 1024, 1, 1)
    assert not any(default[gauge] for gauge in ("busy", "lost", "queued")) and not any(counts(default).values())
    assert default["queue_time"]["count"] == default["app_time"]["sum"] == 0


def test_what_runs_and_what_waits(server):
    with Gate(server, "busy") as closed:
        asked = [http1.ask(server, "/gate/busy") for _ in range(5)]
        closed.wait_entered(2)
        until_pool(server, busy=2, queued=3, requests=5)
        assert pool(server, "small")["busy"] == 0
        asked.pop().close()
        until_pool(server, busy=2, queued=2, aborted=1)
    assert [connection.response().status for connection in asked] == [200] * 4
    until_pool(server, busy=0, queued=0, requests=5, responses={"2xx": 4, "3xx": 0, "4xx": 0, "5xx": 0})


@pytest.mark.parametrize(
    "code, wanted",
    [("200 OK", "2xx"), ("204 No Content", "2xx"), ("302 Found", "3xx"), ("404 Not Found", "4xx"), ("503 Away", "5xx")],
)
def test_responses_by_their_status(server, code, wanted):
    gains = Gains(server)
    assert http1.fetch(server, play(start(code))).status == int(code[:3])
    gains.become(requests=1, **{f"status_{wanted}": 1})


def test_calls_that_fail(server):
    server.expect("Traceback")
    gains = Gains(server)
    assert http1.fetch(server, play(fail())).status == 500
    gains.become(requests=1, failed=1, status_5xx=1)
    gains = Gains(server)
    response = http1.fetch(server, play(start(headers={"Content-Length": "9"}), give("four"), fail()))
    assert response.status == 200 and not response.complete
    gains.become(requests=1, failed=1, status_2xx=1)


def test_a_full_queue_refuses(server):
    gains = Gains(server, "small")
    with Gate(server, "full") as closed:
        asked = [http1.ask(server, "/small/full")]
        closed.wait_entered(1)
        asked.append(http1.ask(server, "/small/full"))
        until_pool(server, "small", busy=1, queued=1)
        assert http1.fetch(server, "/small/full").status == 503
    assert [connection.response().status for connection in asked] == [200, 200]
    gains.become(requests=3, queue_full=1, status_2xx=2, status_5xx=1)
    assert pool(server, "small")["queued"] == 0


def test_a_call_that_waited_too_long(server):
    gains = Gains(server)
    with Gate(server, "late") as closed:
        asked = [http1.ask(server, "/gate/late") for _ in range(2)]
        closed.wait_entered(2)
        assert http1.fetch(server, "/impatient/late").status == 503
        until_pool(server, busy=2, queued=0)
    assert [connection.response().status for connection in asked] == [200, 200]
    gains.become(requests=3, queue_timeout=1, status_2xx=2, status_5xx=1)
    assert pool(server)["queue_time"]["count"] == 2, "a call that no thread took has no time"


@pytest.mark.parametrize("at, kind", [("/silent", "read"), ("/timed", "request")])
def test_calls_that_run_out_of_time(server, at, kind):
    server.expect("Traceback")
    gains = Gains(server)
    with Gate(server, "slow"):
        assert http1.fetch(server, play(gate("slow"), start(), at=at)).status == 504
        if kind == "read":
            assert pool(server)["busy"] == 1, "its thread is not free"
    gains.become(requests=1, status_5xx=1, **{kind: 1})
    until_pool(server, busy=0)
    assert pool(server)["app_time"]["sum"] >= 0.3, "that is how long it had taken when it was given up"


def test_clients_that_leave(server):
    gains = Gains(server)
    with Gate(server, "left") as closed:
        connection = http1.ask(server, play(gate("left"), start(), give("x")))
        closed.wait_entered(1)
        connection.close()
        gains.become(requests=1, aborted=1)
    until_pool(server, busy=0)
    gains = Gains(server)
    connection = http1.ask(server, play(start(), send("x" * 1000, 100_000)))
    connection.head()
    connection.reset()
    gains.become(requests=1, aborted=1, status_2xx=1)
    until_pool(server, busy=0)


def test_answers_that_nginx_puts_in_the_application_s_place(server):
    gains = Gains(server)
    response = http1.fetch(server, play(start("404 Not Found"), at="/intercepted"))
    assert (response.status, response.text) == (404, "sorry")
    gains.become(requests=1, status_4xx=1)
    gains = Gains(server)
    response = http1.fetch(server, play(start("200 OK", {"X-Accel-Redirect": "/page-of-its-own"})))
    assert response.text == "sorry"
    gains.become(requests=1, status_2xx=1)


def test_times(server):
    http1.fetch(server, play(["pause", 0.06], start(), give("x")))
    until_pool(server, responses={"2xx": 1, "3xx": 0, "4xx": 0, "5xx": 0})
    times = pool(server)["app_time"]
    buckets = dict(times["buckets"])
    assert (times["count"], buckets[0.05], buckets[60.0]) == (1, 0, 1) and 0.06 <= times["sum"] < 10
    bounds, numbers = zip(*times["buckets"])
    assert list(bounds) == sorted(bounds) and list(numbers) == sorted(numbers)
    with Gate(server, "wait") as closed:
        asked = [http1.ask(server, "/gate/wait") for _ in range(3)]
        closed.wait_entered(2)
        time.sleep(0.1)
    assert [connection.response().status for connection in asked] == [200] * 3
    until(lambda: pool(server)["queue_time"]["count"] == 4, "all of them are told of")
    times = pool(server)["queue_time"]
    assert dict(times["buckets"])[0.05] == 3 and times["sum"] >= 0.1, "one of the four waited"


def test_lost_threads(server):
    server.expect("Traceback")
    with Gate(server, "lost"):
        assert http1.fetch(server, play(gate("lost"), start(), at="/silent")).status == 504
        until_pool(server, threads=2, busy=1, lost=1)
    until_pool(server, threads=2, busy=0, lost=0)


def test_active_calls_are_those_that_wait_or_run(server):
    gate = Gate(server, "active")
    active = lambda: http1.fetch(server, "/active").text  # noqa: E731
    with gate:
        asked = [http1.ask(server, "/gate/active") for _ in range(30)]
        gate.wait_entered(2)
        until(lambda: active() == "30", "two run, and the others wait")
        asked.pop().close()
        until(lambda: active() == "29", "one that waits no longer")
    assert [connection.response().status for connection in asked] == [200] * 29
    until(lambda: active() == "0", "none is left, though each connection is still open")


def test_prometheus_says_the_same_as_json(server):
    server.expect("Traceback")
    http1.fetch(server, play(["pause", 0.02], start(), give("x")))
    http1.fetch(server, play(fail()))
    until_pool(server, requests=2, busy=0, failed=1)
    found, samples = status(server), metrics(server)
    of_pool = found["pools"]["default"]
    names = {
        "threads": "threads",
        "busy": "threads_busy",
        "lost": "threads_lost",
        "queued": "queue_length",
        "queue": "queue_limit",
        "requests": "requests_total",
        "failed": "failed_total",
        "aborted": "aborted_total",
    }

    def value(name, **labels):
        return samples[f"nginx_wsgi_{name}", tuple(sorted({"worker": "0", "pool": "default", **labels}.items()))]

    assert {key: value(name) for key, name in names.items()} == {key: of_pool[key] for key in names}
    for key, label in [("responses", "class"), ("refused", "reason"), ("timeouts", "kind")]:
        assert {kind: value(f"{key}_total", **{label: kind}) for kind in of_pool[key]} == of_pool[key]
    for key in ("queue_time", "app_time"):
        times = of_pool[key]
        assert (value(f"{key}_seconds_count"), value(f"{key}_seconds_sum")) == (times["count"], times["sum"])
        buckets = [[bound, value(f"{key}_seconds_bucket", le=f"{bound:g}")] for bound, _ in times["buckets"]]
        assert buckets == times["buckets"] and value(f"{key}_seconds_bucket", le="+Inf") == times["count"]
    versions = tuple(sorted((name, found[name]) for name in ("nginx_wsgi", "nginx", "python")))
    assert samples["nginx_wsgi_build_info", versions] == 1
    (worker,) = found["workers"]
    of_worker = {"up": 1, "stuck": 0, "start_time_seconds": worker["started"], "starts_total": 1}
    assert {name: samples[f"nginx_wsgi_worker_{name}", (("worker", "0"),)] for name in of_worker} == of_worker
    assert not any("unused" in dict(labels).values() for _, labels in samples)


def test_odd_names_of_pools(serve):
    locations = "location = /status { wsgi_status; } location = /metrics { wsgi_status prometheus; }"
    locations += """location = /page { wsgi_status html; } location / { wsgi_pass hello "pool=<b>\\\\ \\"é\\"&"; }"""
    server = serve(config.site(locations, pool="""wsgi_pool "<b>\\\\ \\"é\\"&" threads=2;"""))
    assert set(status(server)["pools"]) == {'<b>\\ "é"&'}
    assert {dict(labels).get("pool") for _, labels in metrics(server)} - {None} == {'<b>\\ "é"&'}
    page = http1.fetch(server, "/page")
    assert page.get("Content-Type") == "text/html; charset=utf-8"
    assert "&lt;b&gt;\\ &quot;é&quot;&amp;" in page.text and "<b>" not in page.text


def test_the_page(server):
    http1.fetch(server, play(start(), give("x")))
    until_pool(server, requests=1, busy=0)
    page = http1.fetch(server, "/page").text
    headings = re.findall(r"<h2>(.*?)</h2>", page)
    assert headings == ["All workers", f"Worker 0: running, process {server.workers[0]}, started 1 times"]
    (columns, *_) = re.findall(r"<tr>((?:<th>[^<]*</th>)+)</tr>", page)
    (row, *_) = re.findall(r"<tr><td>default</td>(.*?)</tr>", page)
    cells = dict(zip(re.findall(r"<th>(.*?)</th>", columns)[1:], re.findall(r"<td>(.*?)</td>", row)))
    assert (cells["busy"], cells["threads"], cells["requests"], cells["2xx"]) == ("0", "2", "1", "1")
    assert cells["took, mean"].endswith(" ms")


@pytest.mark.parametrize("path", ["/status", "/metrics", "/page"])
def test_methods(server, path):
    with http1.Connection(server.port) as connection:
        for method, wanted in [("HEAD", 200), ("POST", 405), ("DELETE", 405), ("GET", 200)]:
            connection.request(path, method, body=b"some bytes" if method == "POST" else b"")
            response = connection.response(method)
            assert response.status == wanted
            assert int(response.get("Content-Length")) > 0


def test_it_is_told_while_every_thread_is_busy_and_costs_none(server):
    with Gate(server, "all") as closed:
        asked = [http1.ask(server, "/gate/all") for _ in range(20)]
        closed.wait_entered(2)
        for _ in range(50):
            began = time.monotonic()
            assert pool(server)["busy"] == 2
            assert time.monotonic() - began < 1
    assert {connection.response().status for connection in asked} == {200}
    assert pool(server)["requests"] == 20, "a look at it is no request for a pool"


def test_in_if_and_limit_except(server):
    assert http1.fetch(server, "/limited").text.startswith("# HELP")
    response = http1.fetch(server, "/conditional")
    assert response.text.startswith("<!DOCTYPE html>") and response.get("X-If") == "yes"


def test_half_a_request_is_none(server):
    """What is counted came for a pool: nginx had its head and, where that is buffered, its body."""
    with socket.create_connection(("127.0.0.1", server.port)) as half:
        half.sendall(b"POST /gate/half HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nfour")
        time.sleep(0.1)
    time.sleep(0.1)
    assert not any(counts(pool(server)).values())
