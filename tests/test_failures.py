"""Applications that fail: what the client gets, what the error log says, and that the worker lives on."""

import re
import ssl

import pytest

from harness import config, http1, http2, script
from harness.script import fail, give, odd, play, send, start

KINDS = [
    "ValueError",
    "KeyboardInterrupt",
    "SystemExit",
    "GeneratorExit",
    "BaseException",
    "StopIteration",
    "MemoryError",
]


@pytest.fixture(scope="module")
def server(serve_module, certificate):
    broken = """
        location /broken { wsgi_pass broken; }
        location /missing { wsgi_pass no_such_module; }
        location /no-callable { wsgi_pass hello:no_such_name; }
        location /not-callable { wsgi_pass broken_kinds:number; }
        location /factory { wsgi_pass "broken_kinds:factory()"; }
        location /exits { wsgi_pass exits; }
    """
    unchunked = "location /unchunked/ { chunked_transfer_encoding off; wsgi_pass script; }"
    front = """location /front/ {
        proxy_pass http://unix:@DIR@/inner.sock:/; proxy_http_version 1.1; proxy_set_header Connection "";
        proxy_cache front; add_header X-Cached $upstream_cache_status;
    }"""
    second = f"server {{ {config.http2('H2_PORT', tls=False)} {script.CONF} }}"
    third = f"server {{ listen 127.0.0.1:@TLS_PORT@ ssl; {certificate.directives()} {script.CONF} {unchunked} }}"
    inner = f"proxy_cache_path @DIR@/cache keys_zone=front:1m; server {{ listen unix:@DIR@/inner.sock; {script.CONF} }}"
    return serve_module(config.site(script.CONF + unchunked + front + broken, http=second + third + inner))


@pytest.fixture(autouse=True)
def tracebacks(server):
    """They are what is tested here. And whatever happened, the same worker serves on."""
    server.expect("Traceback")
    workers = server.worker_pids()
    yield
    assert http1.fetch(server, "/hello").text == "hello\n"
    assert server.worker_pids() == workers


def is_500(response):
    return response.status == 500 and response.complete and "500 Internal Server Error" in response.text


# ---- before the head is out ----


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("steps", [[], [start()], [start(), give("")]], ids=["at-once", "started", "in-a-step"])
@pytest.mark.parametrize("shape", ["iterator", "list"])
def test_before_the_head(server, kind, steps, shape):
    path = play(*steps, fail(kind, "unlucky"), shape=shape)
    assert is_500(http1.fetch(server, path))
    server.wait_log(kind)


def test_the_log_has_the_traceback_and_the_request(server):
    assert is_500(http1.fetch(server, play(start(), fail("ValueError", "unlucky thirteen")), host="h.example"))
    server.wait_log("ValueError: unlucky thirteen")
    log = server.log()
    assert "[error]" in log
    assert "Traceback (most recent call last)" in log and "script.py" in log and "in fail" in log
    assert "GET /play" in log and "client: 127.0.0.1" in log


def test_the_client_learns_nothing_of_the_failure(server):
    response = http1.fetch(server, play(start(headers={"X-Own": "1"}), fail("ValueError", "a secret")))
    assert b"secret" not in response.body and b"Traceback" not in response.body
    assert response.get("X-Own") is None


def test_the_connection_ends_with_a_500(server):
    """As nginx does after every 500 of its own."""
    with http1.Connection(server.port) as connection:
        connection.send(http1.encode(play(fail())) + http1.encode("/hello"))
        assert is_500(connection.response())
        assert connection.is_closed()


# ---- after the head is out ----


@pytest.mark.parametrize("kind", KINDS)
def test_after_the_head_the_body_never_looks_complete(server, kind):
    response = http1.fetch(server, play(start(), give("first"), fail(kind)))
    assert (response.status, response.text, response.complete) == (200, "first", False)
    server.wait_log("in fail")


def test_after_the_head_with_a_length(server):
    response = http1.fetch(server, play(start(headers={"Content-Length": "20"}), give("first"), fail()))
    assert (response.status, response.text, response.complete) == (200, "first", False)


def test_after_write(server):
    response = http1.fetch(server, play(start(), send("first"), fail(), shape="list"))
    assert (response.status, response.text, response.complete) == (200, "first", False)


def test_after_the_head_on_http_2(server):
    with http2.Connection(server.ports["H2_PORT"]) as connection:
        stream = connection.response(connection.request(play(start(), give("first"), fail())))
        assert (stream.status, stream.body, stream.complete) == (200, b"first", False)
        assert connection.response(connection.request("/hello")).text == "hello\n", "other streams do not notice"


def test_after_the_head_on_http_1_0_the_connection_is_reset_or_ends_short(server):
    with http1.Connection(server.port) as connection:
        path = play(start(headers={"Content-Length": "20"}), give("first"), fail())
        connection.request(path, version="HTTP/1.0")
        response = connection.response()
        assert response.text == "first" and not response.complete


@pytest.mark.parametrize("path, version", [("/play", "HTTP/1.0"), ("/unchunked/play", "HTTP/1.1")])
def test_after_the_head_where_only_the_end_of_the_connection_ends_the_body(server, path, version):
    """It is reset, which no client takes for an end."""
    with http1.Connection(server.port) as connection:
        connection.request(play(start(), give("first"), fail(), at=path), version=version)
        with pytest.raises(ConnectionResetError):
            while connection.socket.recv(65536):
                pass


@pytest.mark.parametrize("path, version", [("/play", "HTTP/1.0"), ("/unchunked/play", "HTTP/1.1")])
def test_after_the_head_on_tls_where_only_the_end_of_the_connection_ends_the_body(server, certificate, path, version):
    """Neither does TLS say that it ends here."""
    with http1.Connection(server.ports["TLS_PORT"], certificate.client()) as connection:
        connection.socket.suppress_ragged_eofs = False
        connection.request(play(start(), give("first"), fail(), at=path), version=version)
        with pytest.raises((ConnectionResetError, ssl.SSLEOFError)):
            while connection.socket.recv(65536):
                pass


def test_on_tls_an_end_that_is_one_is_said_to_be_one(server, certificate):
    with http1.Connection(server.ports["TLS_PORT"], certificate.client()) as connection:
        connection.request(play(start(), give("all")), version="HTTP/1.0")
        assert connection.response().text == "all" and connection.socket.unwrap()


def test_a_proxy_in_front_sees_and_shows_that_a_response_was_cut_off(server):
    """By the rule of docs/deploying.md: with HTTP/1.1 between the two, nothing of it is cached either."""
    path = play(start(headers={"Cache-Control": "max-age=60"}), give("first"), fail(), at="/front/play")
    for _ in range(2):
        response = http1.fetch(server, path)
        assert (response.text, response.complete, response.get("X-Cached")) == ("first", False, "MISS")
    path = play(start(headers={"Cache-Control": "max-age=60"}), give("first"), at="/front/play")
    states = [http1.fetch(server, path).get("X-Cached") for _ in range(2)]
    assert states == ["MISS", "HIT"]


def test_a_failing_close_after_a_streamed_body(server):
    response = http1.fetch(server, play(start(), give("one"), give("two"), shape="failing"))
    assert response.status == 200 and response.text == "onetwo"
    server.wait_log("close\\(\\) failed on request")


# ---- misuse of the protocol ----


BAD_STARTS = {
    "no code": ("start", "OK", []),
    "no reason": ("start", "200", []),
    "short code": ("start", "20 OK", []),
    "not a number": ("start", "abc OK", []),
    "too low": ("start", "099 Low", []),
    "line break in status": ("start", "200 OK\r\nX-Evil: 1", []),
    "beyond latin-1 in status": ("start", "200 \u20ac", []),
    "CR LF in value": ("start", "200 OK", [["X-A", "1\r\nX-Evil: 1"]]),
    "LF in value": ("start", "200 OK", [["X-A", "1\nX-Evil: 1"]]),
    "CR in value": ("start", "200 OK", [["X-A", "1\rX-Evil: 1"]]),
    "NUL in value": ("start", "200 OK", [["X-A", "1\0"]]),
    "beyond latin-1 in value": ("start", "200 OK", [["X-A", "\u20ac"]]),
    "LF in name": ("start", "200 OK", [["X-A\nX-Evil", "1"]]),
    "colon in name": ("start", "200 OK", [["X-A:", "1"]]),
    "space in name": ("start", "200 OK", [["X A", "1"]]),
    "empty name": ("start", "200 OK", [["", "1"]]),
    "beyond latin-1 in name": ("start", "200 OK", [["X-\u20ac", "1"]]),
    "number for a value": ("start", "200 OK", [["X-A", 1]]),
    "three in a pair": ("start", "200 OK", [["X-A", "1", "2"]]),
    "status not a string": ("start", 200, []),
}


@pytest.mark.parametrize("shape", ["iterator", "generator", "list"])
@pytest.mark.parametrize("bad", BAD_STARTS)
def test_a_bad_start_response(server, bad, shape):
    response = http1.fetch(server, play(BAD_STARTS[bad], give("body"), shape=shape))
    assert is_500(response), response
    assert response.get("X-Evil") is None
    server.wait_log(r"\[error\]")


def test_the_log_names_the_bad_header(server):
    assert is_500(http1.fetch(server, play(start(headers={"X-Guilty": "1\n2"}), give("body"))))
    server.wait_log("X-Guilty")


@pytest.mark.parametrize("shape", ["iterator", "generator", "list"])
@pytest.mark.parametrize("text", ["body", ""])
def test_no_start_response_at_all(server, shape, text):
    assert is_500(http1.fetch(server, play(give(text), shape=shape)))
    server.wait_log("start_response")


@pytest.mark.parametrize("shape", ["iterator", "generator", "list"])
def test_start_response_twice_without_exc_info(server, shape):
    assert is_500(http1.fetch(server, play(start(), start(), give("body"), shape=shape)))
    server.wait_log("start_response")


def test_write_after_a_refused_header_is_not_sent(server):
    assert is_500(http1.fetch(server, play(("start", "200 OK", [["X", "\n"]]), send("body"), shape="list")))


@pytest.mark.parametrize("shape", ["iterator", "generator", "list"])
@pytest.mark.parametrize("what", ["'text'", "1", "None", "['nested']"])
def test_chunks_that_are_not_bytes(server, what, shape):
    assert is_500(http1.fetch(server, play(start(), odd(what), shape=shape)))


@pytest.mark.parametrize("what", ["None", "1", "b'bytes'", "'text'"])
def test_answers_that_are_not_iterables_of_bytes(server, what):
    assert is_500(http1.fetch(server, play(start(), odd(what), shape="itself")))


# ---- applications that cannot be had ----


@pytest.mark.parametrize(
    "path, reason",
    [
        ("/broken", "ZeroDivisionError"),
        ("/missing", "no_such_module"),
        ("/no-callable", "no_such_name"),
        ("/not-callable", "number"),
        ("/factory", "the factory is closed"),
        ("/exits", "SystemExit|exits"),
    ],
)
def test_an_application_that_cannot_be_imported(server, path, reason):
    for _ in range(2):
        assert is_500(http1.fetch(server, path))
    assert re.search(reason, server.log(0)), "the log has the reason, from the import or from the call"
