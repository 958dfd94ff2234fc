"""A chunk is on its way to the client before the application makes the next one (PEP 3333 forbids holding it back)."""

import itertools
import socket
import threading

import pytest

from harness import config, http1, http2, script
from harness.gate import Gate
from harness.script import gate, give, odd, play, send, start

NAMES = (f"stream-{number}" for number in itertools.count())


@pytest.fixture(scope="module")
def server(serve_module, certificate):
    server = f"listen 127.0.0.1:@TLS_PORT@ ssl; {certificate.directives()}"
    second = f"server {{ {config.http2('H2_PORT', tls=False)} {script.CONF} }}"
    return serve_module(config.site(script.CONF, server, http=second))


@pytest.fixture(params=["plain", "tls"])
def connection(server, certificate, request):
    if request.param == "tls":
        with http1.Connection(server.ports["TLS_PORT"], certificate.client()) as connection:
            yield connection
    else:
        with http1.Connection(server.port) as connection:
            yield connection


@pytest.fixture
def closed_gate(server):
    with Gate(server, next(NAMES)) as closed:
        yield closed


@pytest.mark.parametrize("at", ["/play", "/valid"])
@pytest.mark.parametrize("step", [give, send])
def test_chunk_by_chunk(connection, closed_gate, step, at):
    connection.request(play(start(), step("first"), gate(closed_gate.name), step("second"), at=at))
    response = connection.head()
    assert response.status == 200 and response.get("Transfer-Encoding") == "chunked"
    assert connection.read_chunk(response) == b"first"
    closed_gate.wait_entered()
    assert closed_gate.left() == 0
    closed_gate.open()
    connection.read_body(response)
    assert response.text == "firstsecond" and response.complete


def test_with_a_content_length(connection, closed_gate):
    steps = [start(headers={"Content-Length": "11"}), give("first"), gate(closed_gate.name), give("second")]
    connection.request(play(*steps))
    response = connection.head()
    assert response.get("Content-Length") == "11"
    assert connection._exactly(5) == (b"first", True)
    assert closed_gate.left() == 0
    closed_gate.open()
    assert connection._exactly(6) == (b"second", True)


def test_http_2(server, closed_gate):
    with http2.Connection(server.ports["H2_PORT"]) as connection:
        number = connection.request(play(start(), give("first"), gate(closed_gate.name), give("second")))
        stream = connection.streams[number]
        while stream.body != b"first":
            connection._receive()
        other = connection.request("/hello")
        assert connection.response(other).text == "hello\n", "other streams go on"
        closed_gate.open()
        assert connection.response(number).text == "firstsecond" and stream.complete


def test_http_1_0(server, closed_gate):
    with http1.Connection(server.port) as connection:
        path = play(start(), give("first"), gate(closed_gate.name), give("second"))
        connection.request(path, version="HTTP/1.0")
        response = connection.head()
        assert response.get("Transfer-Encoding") is None
        assert connection._exactly(5) == (b"first", True)
        closed_gate.open()
        assert connection.rest() == b"second"


def test_the_head_waits_for_the_first_byte(server, closed_gate):
    """An application may change its mind until then, so nothing may be on the wire."""
    with http1.Connection(server.port) as connection:
        connection.request(play(start(), give(""), gate(closed_gate.name), give("body")))
        closed_gate.wait_entered()
        connection.socket.settimeout(0.2)
        with pytest.raises(socket.timeout):
            connection.socket.recv(1)
        connection.socket.settimeout(20)
        closed_gate.open()
        assert connection.response().text == "body"


def test_a_slow_reader_gets_everything(server):
    """The application may run ahead of the client by a window only; what it made is not lost."""
    with http1.Connection(server.port) as connection:
        connection.request(play(start(), odd("b'a' * 3_000_000"), odd("b'b' * 3_000_000"), give("c" * 1000, 3000)))
        response = connection.head()
        sizes = {}
        while chunk := connection.read_chunk(response):
            for byte in set(chunk):
                sizes[byte] = sizes.get(byte, 0) + chunk.count(byte)
        assert sizes == {ord("a"): 3_000_000, ord("b"): 3_000_000, ord("c"): 3_000_000}
        assert response.complete


def test_a_reader_that_is_fast_and_then_slow(connection):
    """The application runs further ahead of one that keeps up. What it made when that one slows down comes in order."""
    wanted = b"".join(b"%04d" % number * 16384 for number in range(100))
    connection.request(play(start(), *(odd(f"b'%04d'%{number}*16384") for number in range(100))))
    response = connection.head()
    got = bytearray()
    while chunk := connection.read_chunk(response):
        got += chunk
        if 30 << 16 < len(got) < 45 << 16:
            threading.Event().wait(0.01)
    assert bytes(got) == wanted and response.complete


def test_many_streams_side_by_side(server):
    """Several responses advance together; each call stays on one thread."""
    gates = [Gate(server, next(NAMES)) for _ in range(4)]
    connections = [http1.Connection(server.port) for _ in gates]
    for each, connection in zip(gates, connections):
        connection.request(play(start(), give("first"), gate(each.name), give("second")))
    responses = [connection.head() for connection in connections]
    for connection, response in zip(connections, responses):
        assert connection.read_chunk(response) == b"first"
    for each, connection, response in reversed(list(zip(gates, connections, responses))):
        each.open()
        connection.read_body(response)
        assert response.text == "firstsecond"
        connection.close()
