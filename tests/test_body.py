"""The request body: in memory or in a temporary file, of known length or chunked, read or ignored."""

import hashlib
import json
import random
import threading

import pytest

from harness import config, http1, http2
from harness.gate import Gate
from harness.script import fail, give, play, start
from harness.waiting import until

LOCATIONS = """
    client_body_buffer_size 8k;
    client_max_body_size 4m;
    location / { wsgi_pass body; }
    location /late { wsgi_pass body:late; }
    location /bare { wsgi_pass body:bare; }
    location /bare-file { client_body_in_file_only clean; wsgi_pass body:bare; }
    location /file-only { client_body_in_file_only clean; wsgi_pass body; }
    location /streamed { wsgi_request_buffering off; wsgi_pass body; }
    location /streamed/any { wsgi_request_buffering off; wsgi_pass body:answer; }
    location /single { client_body_in_single_buffer on; wsgi_pass body; }
    location /small { client_max_body_size 100; wsgi_pass gates; }
    location /gate { wsgi_param test.dir @DIR@; wsgi_pass gates pool=one; }
    location /one { wsgi_pass body pool=one; }
    location /proxied { proxy_request_buffering off; proxy_pass http://unix:@DIR@/nobody; error_page 502 = @body; }
    location /proxied-whole { proxy_pass http://unix:@DIR@/nobody; error_page 502 = @body; }
    location /proxied-page { proxy_request_buffering off; proxy_pass http://unix:@DIR@/nobody; error_page 502 = /; }
    location @body { wsgi_pass body; }
    location /discards { wsgi_pass_request_body off; wsgi_pass script; }
    location /consumes { wsgi_request_buffering off; wsgi_pass script; }
    location /early { wsgi_request_buffering off; wsgi_pass script; }
    location = /active { return 200 $wsgi_active; }
"""

SIZES = [0, 1, 8191, 8192, 8193, 100_000, 3_000_000]


@pytest.fixture(scope="module")
def server(serve_module):
    http2_server = f"server {{ {config.http2('H2_PORT', tls=False)} {LOCATIONS} }}"
    return serve_module(config.site(LOCATIONS, http="wsgi_pool one threads=1;\n" + http2_server))


def noise(size):
    return random.Random(size).getrandbits(8 * size).to_bytes(size, "little") if size else b""


def check(response, body):
    assert response.status == 200, response
    got = json.loads(response.text)
    assert got["length"] == len(body)
    assert got["sha"] == hashlib.sha256(body).hexdigest()
    assert got["rest"] == "", "past its end the body is empty, again and again"
    return got


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("path", ["/", "/file-only", "/single"])
def test_any_length(server, path, size):
    body = noise(size)
    got = check(http1.fetch(server, path, "POST", body=body), body)
    assert got["content_length"] == str(size)


@pytest.mark.parametrize("size", SIZES)
def test_chunked(server, size):
    body = noise(size)
    pieces = [body[start : start + 30_000] for start in range(0, size, 30_000)]
    response = http1.fetch(server, "/", "POST", {"Transfer-Encoding": "chunked"}, http1.chunked(*pieces))
    assert check(response, body)["content_length"] == str(size)


def test_chunk_extensions_and_trailers(server):
    coded = b"3;name=value\r\nabc\r\n2\r\nde\r\n0\r\nX-Trailer: 1\r\n\r\n"
    check(http1.fetch(server, "/", "POST", {"Transfer-Encoding": "chunked"}, coded), b"abcde")


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("known", [True, False])
def test_http_2(server, size, known):
    body = noise(size)
    headers = [("content-length", str(size))] if known else []
    check(http2.fetch(server.ports["H2_PORT"], "/", "POST", headers, body), body)


@pytest.mark.parametrize("size", SIZES)
def test_streamed(server, size):
    """The length of a chunked body is known only if all of it came with the head."""
    body = noise(size)
    pieces = [body[start : start + 30_000] for start in range(0, size, 30_000)]
    response = http1.fetch(server, "/streamed", "POST", {"Transfer-Encoding": "chunked"}, http1.chunked(*pieces))
    unknown = [None] if size > 10_000 else [None, str(size)]
    assert check(response, body)["content_length"] in unknown
    assert check(http1.fetch(server, "/streamed", "POST", body=body), body)["content_length"] == str(size)
    port = server.ports["H2_PORT"]
    assert check(http2.fetch(port, "/streamed", "POST", [], body), body)["content_length"] in unknown
    headers = [("content-length", str(size))]
    assert check(http2.fetch(port, "/streamed", "POST", headers, body), body)["content_length"] == str(size)


WAYS = ["by&size=1000", "by&size=65536", "by&size=100001", "readline"]


@pytest.mark.parametrize("path", [f"?how={way}" for way in WAYS] + [f"/any?how=mixed&size={size}" for size in (40_000, 65_536)])
def test_streamed_in_bursts(server, path):
    """What is received with memory of the module's own, or the reader's, fills it, fills half of it, or hardly any; or comes
    byte by byte."""
    chance = random.Random(7)
    body = noise(1_000_000) + noise(30_000) * 40
    with http1.Connection(server.port) as connection:
        connection.request(f"/streamed{path}", "POST", {"Content-Length": str(len(body))})
        start = 0
        while start < len(body):
            end = start + chance.choice([1, 500, 16_384, 40_000, 65_536, 200_000])
            connection.send(body[start:end])
            start = end
            if chance.random() < 0.5:
                threading.Event().wait(0.003)
        check(connection.response(), body)


@pytest.mark.parametrize("size", [32_768, 50_000, 65_536, 131_072, 1_000_000])
@pytest.mark.parametrize("how", ["by", "mixed"])
def test_streamed_at_full_speed(server, how, size):
    body = noise(4_000_001)
    check(http1.fetch(server, f"/streamed/any?how={how}&size={size}", "POST", body=body), body)


def test_clients_that_leave_while_their_body_streams(server):
    """No failure of the application's, however it is told: nginx's own line says it all."""
    for number in range(30):
        with http1.Connection(server.port) as connection:
            connection.request("/streamed", "POST", {"Content-Length": "100000"}, b"half of it" * 1000)
            if number % 2:
                connection.reset()
    lines = "prematurely closed connection|recv\\(\\) failed"
    until(lambda: server.count(lines) == 30, "nginx has seen them all leave")
    until(lambda: http1.fetch(server, "/active").text == "0", "their calls are over")
    assert "Traceback" not in server.log()


TEXT = b"one\ntwo\n\nfour\r\nfive without an end"
LINES = ["one\n", "two\n", "\n", "four\r\n", "five without an end"]


@pytest.mark.parametrize("how", ["readline", "readlines", "iterate"])
@pytest.mark.parametrize("path", ["/", "/file-only"])
def test_lines(server, path, how):
    got = check(http1.fetch(server, f"{path}?how={how}", "POST", body=TEXT), TEXT)
    assert got["pieces"] == LINES


@pytest.mark.parametrize("path", ["/", "/file-only"])
def test_a_long_line(server, path):
    body = b"x" * 70_000 + b"\n" + b"y" * 70_000
    assert check(http1.fetch(server, f"{path}?how=readline", "POST", body=body), body)["pieces"] == 2


def test_readlines_with_a_hint_stops_after_it(server):
    response = http1.fetch(server, "/?how=readlines&size=5", "POST", body=TEXT)
    assert json.loads(response.text)["pieces"] == ["one\n", "two\n"]


@pytest.mark.parametrize("path", ["/", "/file-only"])
def test_reading_in_steps(server, path):
    got = check(http1.fetch(server, f"{path}?how=by&size=7", "POST", body=TEXT), TEXT)
    assert all(len(piece) == 7 for piece in got["pieces"][:-1]), "a buffered body never gives less than was asked for"


@pytest.mark.parametrize("path", ["/bare", "/bare-file"])
def test_calls_that_frameworks_make(server, path):
    response = http1.fetch(server, path, "POST", body=b"abcdef\nrest")
    assert json.loads(response.text) == ["", "abc", "def\n", "rest", ""]


def test_a_body_read_during_iteration(server):
    assert http1.fetch(server, "/late", "POST", body=b"x" * 20_000).text == "body: " + "x" * 20_000


def test_a_get_may_have_a_body(server):
    check(http1.fetch(server, "/", "GET", body=b"unusual"), b"unusual")


@pytest.mark.parametrize("size", [10, 3_000_000])
def test_an_ignored_body_leaves_the_connection_in_step(server, size):
    body = b"GET /evil HTTP/1.1\r\nHost: x\r\n\r\n".ljust(size, b"!")[:size]
    with http1.Connection(server.port) as connection:
        for _ in range(3):
            connection.request("/?how=nothing", "POST", body=body)
            assert json.loads(connection.response().text)["length"] == 0
            connection.request("/", "POST", body=b"next")
            check(connection.response(), b"next")


@pytest.mark.parametrize("path", ["/", "/streamed"])
def test_pipelined_bodies(server, path):
    """The last ones are long enough for nginx to be given a larger buffer, and behind them something comes at once."""
    bodies = [noise(size) for size in (5, 20_000, 0, 1, 3_000_000, 200_000, 7)]
    with http1.Connection(server.port) as connection:
        data = b"".join(http1.encode(path, "POST", body=body) for body in bodies)
        threading.Thread(target=connection.send, args=(data,)).start()
        for body in bodies:
            check(connection.response(), body)


def test_concurrent_bodies_are_not_mixed(server):
    failures = []

    def post(number):
        body = bytes([number]) * (50_000 + number)
        try:
            for _ in range(5):
                check(http1.fetch(server, "/", "POST", body=body), body)
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=post, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


# ---- bodies that another module has read ----


@pytest.mark.parametrize("port", ["PORT", "H2_PORT"])
def test_a_body_that_a_proxy_has_begun_to_pass_on_is_not_there(server, port):
    """What it has taken cannot be had again: an error, and no call with less."""
    server.expect("connect\\(\\) to unix")
    body = noise(100_000)
    port = server.ports[port]
    if port == server.port:
        response = http1.fetch(server, "/proxied", "POST", body=body)
    else:
        response = http2.fetch(port, "/proxied", "POST", [("content-length", str(len(body)))], body)
    assert response.status == 500
    server.wait_log("another module has read the request body")


@pytest.mark.parametrize("path, size", [("/proxied-whole", 100_000), ("/proxied-whole", 10), ("/proxied", 10)])
def test_a_body_that_a_proxy_has_read_whole_is_there(server, path, size):
    server.expect("connect\\(\\) to unix")
    body = noise(size)
    check(http1.fetch(server, path, "POST", body=body), body)


def test_a_redirect_that_makes_it_a_get_leaves_the_body_behind(server):
    server.expect("connect\\(\\) to unix")
    got = check(http1.fetch(server, "/proxied-page", "POST", body=noise(100_000)), b"")
    assert got["content_length"] == "0"


@pytest.mark.parametrize("size", [10, 100_000])
@pytest.mark.parametrize("path", ["/discards", "/consumes"])
def test_a_body_that_is_gone_with_the_first_application(server, path, size):
    """X-Accel-Redirect to a named location keeps the method."""
    there = path == "/consumes" and size == 10  # nginx had it whole, and has kept it
    target = play(start(headers={"X-Accel-Redirect": "@body"}), at=path)
    response = http1.fetch(server, target, "POST", body=noise(size))
    assert response.status == (200 if there else 500)


# ---- early answers ----


def test_an_early_answer_says_that_the_connection_ends(server):
    with http1.Connection(server.port) as connection:
        connection.request(play(start(), give("no"), at="/early"), "POST", {"Content-Length": "100000"}, b"x" * 100)
        response = connection.response()
        assert (response.status, response.text, response.get("Connection")) == (200, "no", "close")
        assert connection.is_closed()


def test_an_early_error_says_so_too(server):
    server.expect("Traceback")
    with http1.Connection(server.port) as connection:
        connection.request(play(fail(), at="/early"), "POST", {"Content-Length": "100000"}, b"x" * 100)
        response = connection.response()
        assert (response.status, response.get("Connection")) == (500, "close")
        assert connection.is_closed()


def test_an_answer_to_a_whole_body_leaves_the_connection_open(server):
    with http1.Connection(server.port) as connection:
        for _ in range(2):
            connection.request("/streamed", "POST", body=noise(100_000))
            response = connection.response()
            assert response.get("Connection") == "keep-alive"
            check(response, noise(100_000))


# ---- limits and interim answers ----


def test_100_continue(server):
    with http1.Connection(server.port) as connection:
        connection.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        assert connection.head().status == 100
        connection.send("hello")
        check(connection.response(), b"hello")


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_too_large_is_413_and_no_call(server, chunked):
    headers = {"Transfer-Encoding": "chunked"} if chunked else {}
    body = http1.chunked(b"x" * 101) if chunked else b"x" * 101
    assert http1.fetch(server, "/small", "POST", headers, body).status == 413


@pytest.mark.parametrize("coded", [b"zz\r\nabc\r\n0\r\n\r\n", b"-1\r\n\r\n"])
def test_a_malformed_chunk_is_400(server, coded):
    response = http1.fetch(server, "/", "POST", {"Transfer-Encoding": "chunked"}, coded)
    assert response.status == 400


def test_two_ways_to_frame_a_body_are_400(server):
    headers = {"Transfer-Encoding": "chunked", "Content-Length": "3"}
    assert http1.fetch(server, "/", "POST", headers, b"0\r\n\r\n").status == 400


# ---- slow and vanishing clients ----


def test_a_slow_upload_holds_no_thread(server):
    with http1.Connection(server.port) as slow:
        slow.send("POST /one HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf-")
        for _ in range(3):
            assert http1.fetch(server, "/one").status == 200, "the pool's only thread is free"
        slow.send("whole")
        check(slow.response(), b"half-whole")


@pytest.mark.parametrize("ending", ["close", "reset"])
def test_half_a_body_never_reaches_the_application(server, ending):
    gate = Gate(server, f"half-{ending}")
    with http1.Connection(server.port) as connection:
        connection.send(f"POST /gate/{gate.name} HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf-")
        getattr(connection, ending)()
    server.wait_access(rf"POST /gate/{gate.name} 4")
    assert http1.fetch(server, "/one").status == 200
    assert gate.entered() == 0
