"""HTTP/3, over QUIC: the same application, the same promises as over HTTP/1.1 and HTTP/2."""

import hashlib
import itertools
import json

import pytest

from harness import config, http3, script
from harness.gate import Gate
from harness.script import fail, gate, give, odd, play, send, start
from harness.waiting import until

NAMES = (f"h3-{number}" for number in itertools.count())

LOCATIONS = f"""
    {script.CONF}
    client_body_buffer_size 8k;
    client_max_body_size 4m;
    large_client_header_buffers 4 16k;
    location /environ {{ wsgi_pass environ; }}
    location /guarded/ {{ auth_request /told; wsgi_pass environ; }}
    location = /told {{ internal; wsgi_pass guard; }}
    location /no-host {{ wsgi_param HTTP_HOST ""; wsgi_pass environ; }}
    location /body {{ wsgi_pass body; }}
    location /streamed {{ wsgi_request_buffering off; wsgi_pass body; }}
    location /streamed/play {{ wsgi_request_buffering off; wsgi_pass script; }}
    location /client/ {{ wsgi_pass client; }}
    location /file/ {{ sendfile on; wsgi_pass files; }}
    location /hasty {{ wsgi_read_timeout 500ms; wsgi_pass script; }}
    location /late {{ wsgi_request_buffering off; wsgi_pass body:late; }}
"""


@pytest.fixture(scope="module")
def server(serve_module, certificate):
    tenant = "server_name b.example *.b.example; location / { wsgi_pass environ; }"
    http = f"""
        wsgi_pool default threads=4;
        server {{ {config.http3()} {certificate.directives()} server_name a.example localhost; {LOCATIONS} }}
        server {{ listen 127.0.0.1:@PORT@ quic; listen 127.0.0.1:@PORT@ ssl; {certificate.directives()} {tenant} }}
    """
    return serve_module(http)


@pytest.fixture
def connection(server, certificate):
    with http3.Connection(server.port, certificate) as connection:
        yield connection


@pytest.fixture
def closed_gate(server):
    with Gate(server, next(NAMES)) as closed:
        yield closed


def told(stream):
    assert stream.status == 200 and stream.complete, stream.fields
    return json.loads(stream.text)["environ"]


def is_well(connection):
    """The connection, and the worker, serve on."""
    return connection.response(connection.request("/hello")).text == "hello\n"


# ---- environ ----


def test_environ(server, connection):
    headers = [("x-a", "1"), ("x-a", "2"), ("cookie", "a=1"), ("cookie", "b=2")]
    got = told(connection.response(connection.request("/environ/p%20q?r", headers=headers)))
    assert (got["PATH_INFO"], got["QUERY_STRING"], got["REQUEST_URI"]) == ("/environ/p q", "r", "/environ/p%20q?r")
    assert (got["SERVER_PROTOCOL"], got["SERVER_PORT"]) == ("HTTP/3.0", str(server.port))
    assert (got["HTTPS"], got["wsgi.url_scheme"], got["REQUEST_SCHEME"]) == ("on", "https", "https")
    assert got["REMOTE_ADDR"] == "127.0.0.1"
    assert got["REMOTE_PORT"] == str(connection.socket.getsockname()[1])
    assert (got["HTTP_X_A"], got["HTTP_COOKIE"]) == ("1, 2", "a=1; b=2")
    assert not [key for key in got if ":" in key], "no pseudo-header"


@pytest.mark.parametrize(
    "authority, name",
    [
        ("a.example", "a.example"),
        ("localhost:8443", "a.example"),
        ("b.example:443", "b.example"),
        ("www.b.example", "b.example"),
    ],
)
def test_the_authority_is_the_host(connection, authority, name):
    """Of several tenants at one address, the application sees the one that nginx has chosen, and how it was called."""
    got = told(connection.response(connection.request("/environ", authority=authority)))
    assert (got["HTTP_HOST"], got["SERVER_NAME"]) == (authority, name)


def test_a_host_field_without_an_authority(connection):
    got = told(connection.response(connection.request("/environ", headers=[("host", "b.example:1")], authority=None)))
    assert (got["HTTP_HOST"], got["SERVER_NAME"]) == ("b.example:1", "b.example")


def test_both_are_one(connection):
    headers = [("host", "a.example:1")]
    got = told(connection.response(connection.request("/environ", headers=headers, authority="a.example:1")))
    assert got["HTTP_HOST"] == "a.example:1"
    other = connection.response(connection.request("/environ", headers=headers, authority="b.example"))
    assert other.status == 400


def test_a_param_takes_the_host_away(connection):
    assert "HTTP_HOST" not in told(connection.response(connection.request("/no-host")))


def test_a_subrequest_has_the_host_too(connection):
    stream = connection.response(connection.request("/guarded/", headers=[("x-answer", "tell")], authority="a.example:7"))
    assert json.loads(stream.get("www-authenticate"))["HTTP_HOST"] == "a.example:7"


def test_large_headers_both_ways(connection):
    """As large as the client's encoder makes them."""
    headers = [("x-long", "x" * 3000), *((f"x-{number}", str(number)) for number in range(90))]
    got = told(connection.response(connection.request("/environ", headers=headers)))
    assert got["HTTP_X_LONG"] == "x" * 3000
    assert [got[f"HTTP_X_{number}"] for number in range(90)] == [str(number) for number in range(90)]
    path = play(start(headers=[("X-Long", "y" * 1000), *((f"X-{number}", "z") for number in range(40))]))
    stream = connection.response(connection.request(path))
    assert stream.get("x-long") == "y" * 1000 and len(stream.fields) > 40


# ---- bodies ----


@pytest.mark.parametrize("path", ["/body", "/streamed"])
@pytest.mark.parametrize("size", [0, 1, 8192, 8193, 100_000, 2_000_000])
@pytest.mark.parametrize("known", [True, False])
def test_request_bodies(connection, path, size, known):
    body = bytes(range(256)) * (size // 256 + 1)
    body = body[:size]
    headers = [("content-length", str(size))] if known else []
    stream = connection.response(connection.request(path, "POST", headers, body))
    assert stream.status == 200 and stream.complete
    got = json.loads(stream.text)
    assert (got["length"], got["sha"]) == (size, hashlib.sha256(body).hexdigest())
    if known or path == "/body":
        assert got["content_length"] == str(size)


def test_a_large_response(connection):
    stream = connection.response(connection.request(play(start(), odd("b'a' * 1_000_000"), give("b" * 1000, 1000))))
    assert stream.complete and stream.body == b"a" * 1_000_000 + b"b" * 1_000_000


def test_a_file(server, connection):
    content = bytes(range(256)) * 2000
    (server.dir / "file").write_bytes(content)
    assert connection.response(connection.request("/file/file?note=h3")).body == content
    until((server.dir / "h3.closed").exists, "the file is closed")


def test_responses_without_a_body(connection):
    head = connection.response(connection.request(play(start(), give("body")), "HEAD"))
    assert (head.status, head.body, head.complete) == (200, b"", True)
    for status in (204, 304):
        empty = connection.response(connection.request(play(("start", f"{status} Empty", []), give("body"))))
        assert (empty.status, empty.body, empty.complete) == (status, b"", True)
    assert is_well(connection)


def test_connection_fields_go_nowhere(connection):
    headers = [("Connection", "close"), ("Content-Type", "text/x")]
    stream = connection.response(connection.request(play(("start", "200 OK", headers), give("x"))))
    assert stream.text == "x" and stream.get("connection") is None
    assert is_well(connection)


# ---- streams ----


def test_chunk_by_chunk_while_other_streams_go_on(connection, closed_gate):
    number = connection.request(play(start(), give("first"), gate(closed_gate.name), send("second")))
    stream = connection.streams[number]
    connection.receive_until(lambda: stream.body == b"first")
    closed_gate.wait_entered()
    others = [connection.request("/hello") for _ in range(20)]
    assert {connection.response(other).text for other in others} == {"hello\n"}
    assert closed_gate.left() == 0 and not stream.ended
    closed_gate.open()
    assert connection.response(number).text == "firstsecond" and stream.complete


def test_a_request_and_its_response_stream_side_by_side(connection):
    number = connection.request(play(start(), give("early"), at="/streamed/play"), "POST", body=b"half", end=False)
    stream = connection.response(number)
    assert (stream.status, stream.text, stream.complete) == (200, "early", True), "it waits for no more of the body"
    assert is_well(connection)


def test_a_body_that_comes_late(connection):
    number = connection.request("/streamed?how=by&size=4", "POST", body=b"one ", end=False)
    assert is_well(connection)
    connection.send(number, b"two ", end=False)
    assert is_well(connection)
    connection.send(number, b"three")
    assert json.loads(connection.response(number).text)["pieces"] == ["one ", "two ", "thre", "e"]


# ---- endings ----


@pytest.mark.parametrize("headers", [{}, {"Content-Length": "100"}])
def test_a_response_that_fails_is_cut_short(server, connection, headers):
    server.expect("Traceback")
    stream = connection.response(connection.request(play(start(headers=headers), give("first"), fail())))
    assert (stream.status, stream.body) == (200, b"first") and not stream.complete
    assert is_well(connection), "other streams do not notice"


def test_fewer_bytes_than_promised(server, connection):
    path = play(start(headers={"Content-Length": "20"}), send("first"), give("second"))
    stream = connection.response(connection.request(path))
    assert not stream.complete and is_well(connection)


def test_a_failure_before_the_head_is_500(server, connection):
    server.expect("Traceback")
    stream = connection.response(connection.request(play(fail())))
    assert stream.status == 500 and stream.complete and is_well(connection)


def test_the_read_timeout(server, connection, closed_gate):
    server.expect("Traceback")
    late = connection.response(connection.request(play(start(), gate(closed_gate.name), at="/hasty")))
    assert late.status == 504 and late.complete
    late = connection.response(connection.request(play(start(), give("first"), gate(closed_gate.name), at="/hasty")))
    assert late.body == b"first" and not late.complete
    closed_gate.open()
    closed_gate.wait_left(2)
    assert is_well(connection)


def noted(server, name):
    until((server.dir / f"{name}.True").exists, f"the call {name} learns that its client has gone")


def test_a_stream_that_is_reset(server, connection):
    number = connection.request("/client/leaves-h3-reset")
    Gate(server, "leaves-h3-reset").wait_entered()
    connection.cancel(number)
    noted(server, "leaves-h3-reset")
    assert is_well(connection)


def test_a_stream_that_is_reset_in_the_middle_of_its_body(server, connection):
    number = connection.request("/late", "POST", body=b"half of it", end=False)
    assert connection.head(number).status == 200, "the call is under way"
    connection.cancel(number)
    server.wait_access("POST /late 200")
    number = connection.request("/body", "POST", [("content-length", "100")], body=b"half of it", end=False)
    connection.cancel(number)
    server.wait_access("POST /body 4")
    assert is_well(connection) and "Traceback" not in server.log()


def test_a_client_that_closes_its_connection(server, certificate, connection):
    other = http3.Connection(server.port, certificate)
    for name in ("leaves-h3-one", "leaves-h3-two"):
        other.request(f"/client/{name}")
        Gate(server, name).wait_entered()
    other.leave()
    noted(server, "leaves-h3-one")
    noted(server, "leaves-h3-two")
    assert is_well(connection)


def test_a_client_that_leaves_in_the_middle_of_a_response(server, certificate, connection):
    other = http3.Connection(server.port, certificate)
    path = play(start(), odd("b'x' * 1_000_000"), *[("yield", "y" * 500, 1000)] * 3, closes="h3-left-early.left")
    stream = other.streams[other.request(path)]
    other.receive_until(lambda: stream.body)
    other.leave()
    Gate(server, "h3-left-early").wait_left()
    assert is_well(connection)
