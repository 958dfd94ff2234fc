"""Framing: keep-alive, pipelining, HTTP versions, and bodies whose length is not what the application said."""

import pytest

from harness import config, http1, http2, script
from harness.script import give, odd, play, send, start


@pytest.fixture(scope="module")
def server(serve_module, certificate):
    server = f"listen 127.0.0.1:@TLS_PORT@ ssl; {certificate.directives()}"
    second = f"server {{ {config.http2('H2_PORT')} {certificate.directives()} {script.CONF} }}"
    return serve_module(config.site(script.CONF, server, http=second))


def test_keep_alive(server):
    with http1.Connection(server.port) as connection:
        for number in range(200):
            connection.request(play(start(), give(str(number))))
            assert connection.response().text == str(number)


MIXED = [
    ("GET", "/hello", "hello\n"),
    ("HEAD", "/hello", ""),
    ("GET", play(("start", "204 No Content", [])), ""),
    ("GET", play(start(), give("one"), give("two")), "onetwo"),
    ("GET", play(start("304 Not Modified"), give("dropped")), ""),
    ("GET", play(start(headers={"Content-Length": "3"}), give("abc")), "abc"),
    ("GET", play(start(), send("w"), shape="list"), "w"),
    ("GET", play(start(), shape="list"), ""),
    ("GET", play(start(), odd("b'x' * 20_000")), "x" * 20_000),
]


def test_pipelining(server):
    with http1.Connection(server.port) as connection:
        connection.send(b"".join(http1.encode(path, method) for method, path, _ in MIXED * 4))
        for method, path, body in MIXED * 4:
            assert connection.response(method).text == body, (method, path)


def test_connection_close(server):
    with http1.Connection(server.port) as connection:
        connection.request("/hello", headers={"Connection": "close"})
        assert connection.response().get("Connection") == "close"
        assert connection.is_closed()


def test_http_1_0(server):
    with http1.Connection(server.port) as connection:
        connection.request(play(start(), give("one"), give("two")), version="HTTP/1.0")
        response = connection.head()
        assert response.get("Transfer-Encoding") is None
        assert connection.rest() == b"onetwo"


def test_http_1_0_keep_alive(server):
    with http1.Connection(server.port) as connection:
        for _ in range(3):
            connection.request("/hello", headers={"Connection": "keep-alive"}, version="HTTP/1.0")
            response = connection.response()
            assert (response.get("Connection"), response.text) == ("keep-alive", "hello\n")


def test_http_0_9(server):
    with http1.Connection(server.port) as connection:
        connection.send("GET /hello\r\n")
        assert connection.rest() == b"hello\n"


def test_tls(server, certificate):
    with http1.Connection(server.ports["TLS_PORT"], certificate.client()) as connection:
        for body in ("small", "x" * 100_000):
            connection.request(play(start(), odd(f"b'x' * {len(body)}") if len(body) > 9 else give(body)))
            assert connection.response().text == body


def test_http_2_on_tls(server, certificate):
    with http2.Connection(server.ports["H2_PORT"], certificate.client("h2")) as connection:
        numbers = [connection.request(path, method, scheme="https") for method, path, _ in MIXED * 3]
        for number, (method, path, body) in reversed(list(zip(numbers, MIXED * 3))):
            stream = connection.response(number)
            assert stream.complete and stream.text == body, (method, path)


# ---- lengths that are not so ----


@pytest.mark.parametrize("shape", ["iterator", "generator", "list", "tuple"])
@pytest.mark.parametrize(
    "steps", [[give("abcdef")], [give("ab"), give("cdef")], [give("abc"), give("def")], [send("abcdef")]]
)
def test_more_than_was_said_is_cut(server, shape, steps):
    """What goes beyond Content-Length would be taken for the next response."""
    server.expect("Traceback")
    with http1.Connection(server.port) as connection:
        connection.request(play(start(headers={"Content-Length": "3"}), *steps, shape=shape))
        response = connection.response()
        assert (response.status, response.text) == (200, "abc")
        assert not connection.buffer
        connection.request("/hello")
        assert connection.response().text == "hello\n"
    server.wait_log(r"\[error\].*longer than its Content-Length of 3")


@pytest.mark.parametrize("shape", ["iterator", "generator", "list", "tuple"])
@pytest.mark.parametrize("steps", [[give("abc")], [give("a"), give("bc")], [send("ab"), give("c")]])
def test_less_than_was_said_never_looks_complete(server, shape, steps):
    server.expect("Traceback")
    with http1.Connection(server.port) as connection:
        connection.request(play(start(headers={"Content-Length": "10"}), *steps, shape=shape))
        response = connection.response()
        if shape in ("list", "tuple") and steps[0][0] == "yield":
            assert response.status == 500, "all of it is known before the head goes out"
        else:
            assert response.status == 200 and not response.complete and b"abc".startswith(response.body)
    server.wait_log(r"\[error\]")


def test_less_than_was_said_resets_the_stream(server, certificate):
    server.expect("Traceback")
    with http2.Connection(server.ports["H2_PORT"], certificate.client("h2")) as connection:
        path = play(start(headers={"Content-Length": "10"}), give("abc"))
        stream = connection.response(connection.request(path, scheme="https"))
        assert stream.status == 200 and not stream.complete
        assert connection.response(connection.request("/hello", scheme="https")).text == "hello\n"
