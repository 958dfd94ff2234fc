"""The protocol misused: wrong types in every position, and what is done with a call's objects after its end."""

import hashlib
import re
import socket
from urllib.parse import quote

import pytest

from harness import config, http1, http2
from harness.gate import Gate
from harness.waiting import until


@pytest.fixture(scope="module")
def server(serve_module):
    locations = """
        wsgi_param test.dir @DIR@;
        client_max_body_size 0;
        location /odd/ { wsgi_pass hostile_protocol; }
        location /streamed/ { wsgi_pass hostile_protocol; wsgi_request_buffering off; }
        location /hostile/ { wsgi_pass hostile; }
        location /hello { wsgi_pass hello; }
    """
    second = f"server {{ {config.http2('H2_PORT', tls=False)} {locations} }}"
    return serve_module(config.site(locations, http=second))


@pytest.fixture(autouse=True)
def the_worker_lives(server):
    workers = server.worker_pids()
    yield
    for _ in range(4):
        assert http1.fetch(server, "/hello").text == "hello\n"
    assert server.worker_pids() == workers


def fetch(server, case, expression="", method="GET", body=b"", at="/odd/", headers=()):
    """One request, and then another on the same connection if that may go on, else on a new one."""
    with http1.Connection(server.port) as connection:
        connection.request(f"{at}{case}?{quote(expression)}", method, headers, body)
        response = connection.response(method)
        if response.complete and response.get("Connection") != "close":
            connection.request("/hello")
            assert connection.response().text == "hello\n"
        else:
            assert connection.is_closed()
    return response


def refused(server, case, expression, reason):
    """A 500, and the reason in the log."""
    server.expect("Traceback")
    response = fetch(server, case, expression)
    assert response.status == 500 and response.complete, response
    server.wait_log(reason)


# ---- start_response ----


@pytest.mark.parametrize(
    "arguments, reason",
    [
        ("", "start_response takes two arguments"),
        ("'200 OK'", "start_response takes two arguments"),
        ("'200 OK', [], None, None", "start_response takes two arguments"),
        ("'200 OK', [], exc=None", "start_response takes two arguments"),
        ("status='200 OK', headers=[]", "start_response takes two arguments"),
        ("b'200 OK', []", "the status must be str, not bytes"),
        ("200, []", "the status must be str, not int"),
        ("None, []", "the status must be str, not NoneType"),
        ("Texty(), []", "the status must be str, not (hostile_protocol.)?Texty"),
        ("['200 OK'], []", "the status must be str, not list"),
        ("'', []", "three digits"),
        ("'2', []", "three digits"),
        ("'200', []", "three digits"),
        ("'200OK', []", "three digits"),
        ("' 200 OK', []", "three digits"),
        ("'-20 OK', []", "three digits"),
        ("'1e3 OK', []", "three digits"),
        ("'\\u0661\\u0662\\u0663 OK', []", "latin-1"),
        ("'\u00b2\u00b2\u00b2 OK', []", "three digits"),
        ("'200\\tOK', []", "three digits"),
        ("'200 O\\x00K', []", "control character"),
        ("'200 O\\x7fK', []", "control character"),
        ("'000 OK', []", "below 100"),
        ("'101 Switching', []", "interim"),
        ("'100 Continue', []", "interim"),
        ("'200 OK', None", "must be a list of tuples, not NoneType"),
        ("'200 OK', {}", "must be a list of tuples, not dict"),
        ("'200 OK', ()", "must be a list of tuples, not tuple"),
        ("'200 OK', iter([])", "must be a list of tuples, not list_iterator"),
        ("'200 OK', 'ab'", "must be a list of tuples, not str"),
        ("'200 OK', ['ab']", "header 0 must be a tuple"),
        ("'200 OK', [None]", "header 0 must be a tuple"),
        ("'200 OK', [('A', 'b'), Pair()]", "header 1 must be a tuple"),
        ("'200 OK', [['X-A', '1']]", "header 0 must be a tuple"),
        ("'200 OK', [()]", "header 0 must be a tuple"),
        ("'200 OK', [('X-A',)]", "header 0 must be a tuple"),
        ("'200 OK', [('X-A', '1', None)]", "header 0 must be a tuple"),
        ("'200 OK', [(b'X-A', '1')]", "the name of header 0 must be str, not bytes"),
        ("'200 OK', [(None, '1')]", "the name of header 0 must be str, not NoneType"),
        ("'200 OK', [('X-A', b'1')]", "the value of header X-A must be str, not bytes"),
        ("'200 OK', [('X-A', None)]", "the value of header X-A must be str, not NoneType"),
        ("'200 OK', [('X-A', 1)]", "the value of header X-A must be str, not int"),
        ("'200 OK', [('X-A', '\\ud800')]", "X-A has a character beyond latin-1"),
        ("'200 OK', [('X-A', '\\x7f')]", "X-A has a control character"),
        ("'200 OK', [('X\\xe4', '1')]", "is not the name of a header"),
        ("'200 OK', [('Content-Length', '-1')]", "Content-Length"),
        ("'200 OK', [('Content-Length', '1e3')]", "Content-Length"),
        ("'200 OK', [('Content-Length', '0x10')]", "Content-Length"),
        ("'200 OK', [('Content-Length', '')]", "Content-Length"),
        ("'200 OK', [('Content-Length', '4, 4')]", "Content-Length"),
        ("'200 OK', [('Content-Length', '9' * 30)]", "Content-Length"),
        ("'200 OK', [('Content-Length', '4'), ('content-length', '5')]", "two different Content-Length"),
        ("'200 OK', [], True", "exc_info must be a tuple"),
        ("'200 OK', [], ()", "exc_info must be a tuple"),
        ("'200 OK', [], (1, 2)", "exc_info must be a tuple"),
        ("'200 OK', [], [None, None, None]", "exc_info must be a tuple"),
        ("'200 OK', [], exc_info='why'", "exc_info must be a tuple"),
    ],
)
def test_start_response_refuses(server, arguments, reason):
    refused(server, "starts", f"Arguments({arguments})", reason)


@pytest.mark.parametrize(
    "arguments",
    [
        "'200 OK', [], None",
        "'200 OK', [], exc_info=None",
        "'200 OK', [], (None, None, None)",
        "'200 OK', [], (1, 2, 3)",
        "Str('200 OK'), []",
        "'200 OK', List([('X-A', '1')])",
        "'200 OK', [Tuple(('X-A', '1'))]",
        "'200 OK', [(Str('X-A'), Str('1'))]",
        "'200 ', [('X-A', '1')]",
        "'200 OK', [('X-A', '')]",
        "'200 OK', [('X-A', ' spaces and\\ttabs ')]",
        "'200 OK', [('X-A', '\\xe4')]",
        "'200 OK', [('Content-Length', '4'), ('Content-Length', '4')]",
        "'200 OK', [('Content-Length', ' 4 ')]",
    ],
)
def test_start_response_accepts(server, arguments):
    response = fetch(server, "starts", f"Arguments({arguments})")
    assert (response.status, response.text) == (200, "body")


def test_white_space_round_a_value(server):
    """HTTP/2 has none: a client refuses the response else."""
    arguments = "Arguments('200 OK', [('X-A', ' a b\\t'), ('Set-Cookie', ' c=d')])"
    with http2.Connection(server.ports["H2_PORT"]) as connection:
        stream = connection.response(connection.request(f"/odd/starts?{quote(arguments)}"))
        assert (stream.status, stream.body) == (200, b"body")
        assert ("x-a", "a b") in stream.fields and ("set-cookie", "c=d") in stream.fields
    response = fetch(server, "starts", arguments)
    assert (response.get("X-A"), response.get("Set-Cookie")) == ("a b", "c=d")


# ---- chunks ----


@pytest.mark.parametrize("case", ["gives", "yields"])
@pytest.mark.parametrize(
    "chunk, name",
    [
        ("'text'", "str"),
        ("None", "NoneType"),
        ("5", "int"),
        ("[b'a']", "list"),
        ("bytearray(b'a')", "bytearray"),
        ("memoryview(b'a')", "memoryview"),
        ("Bytesy()", "(hostile_protocol.)?Bytesy"),
        ("ValueError", "type"),
    ],
)
def test_chunks_that_are_refused(server, case, chunk, name):
    """By name. What has gone out by then stays, cut off."""
    server.expect("Traceback")
    response = fetch(server, case, chunk)
    if case == "gives":
        assert response.status == 500 and response.complete
    else:
        assert (response.status, response.text, response.complete) == (200, "<", False)
    server.wait_log(f"it gave a chunk of type {name}; only bytes may be sent")


@pytest.mark.parametrize("case", ["gives", "yields"])
@pytest.mark.parametrize("chunk", ["b'a'", "Bytes(b'a')", "b''", "Bytes(b'')", "b'\\r\\n0\\r\\n\\r\\n'"])
def test_chunks_that_are_sent(server, case, chunk):
    response = fetch(server, case, chunk)
    assert response.body == b"<" + eval(chunk, {"Bytes": bytes}) + b">"


@pytest.mark.parametrize("data", ["'text'", "None", "bytearray(b'a')", "memoryview(b'a')", "", "b'a', b'b'", "[b'a']"])
def test_write_refuses(server, data):
    refused(server, "writes", f"Arguments({data})", r"write\(\)")


@pytest.mark.parametrize(
    "result, reason",
    [
        ("None", "it returned NoneType, which is not iterable"),
        ("5", "it returned int, which is not iterable"),
        ("application", "it returned function, which is not iterable"),
        ("'text'", "it gave a chunk of type str"),
        ("b'body'", "it gave a chunk of type int"),
        ("bytearray(b'body')", "it gave a chunk of type int"),
        ("{'a': 1}", "it gave a chunk of type str"),
        ("Pair", "it returned type, which is not iterable"),
        ("...", "it returned ellipsis, which is not iterable"),
    ],
)
def test_results_that_are_refused(server, result, reason):
    refused(server, "returns", result, reason)


@pytest.mark.parametrize(
    "result", ["[b'body']", "(b'body',)", "List([b'body'])", "Tuple((b'body',))", "{b'body': 1}", "{b'body'}"]
)
def test_results_that_are_sent(server, result):
    assert fetch(server, "returns", result).text == "body"


@pytest.mark.parametrize("iterator", ["None", "5", "[b'a']", "b'a'"])
def test_iter_that_returns_no_iterator(server, iterator):
    refused(server, "disguises", iterator, "TypeError: .*non-iterator")


@pytest.mark.parametrize("close", ["None", "5", "'text'", "lambda: 1 / 0", "lambda needed: None"])
def test_odd_close(server, close):
    """A failure like any other; that None can be called is said by nobody."""
    refused(server, "closes", close, r"exception in close\(\)")


def test_a_list_that_changes(server):
    response = fetch(server, "changes_its_list")
    assert response.status == 200 and response.complete
    assert response.text == "".join(f"{number} " for number in range(len(response.text.split())))


# ---- wsgi.input ----


@pytest.mark.parametrize("at", ["/odd/", "/streamed/"])
@pytest.mark.parametrize(
    "call, result",
    [
        ("'read', Arguments('1')", "'TypeError'"),
        ("'read', Arguments(1.0)", "'TypeError'"),
        ("'read', Arguments(1, 2)", "'TypeError'"),
        ("'read', Arguments(b'')", "'TypeError'"),
        ("'read', Arguments(10 ** 30)", "('OverflowError'|b'one.ntwo')"),
        ("'read', Arguments(-10 ** 30)", "('OverflowError'|b'one.ntwo')"),
        ("'read', Arguments(2 ** 62)", "b'one.ntwo'"),
        ("'read', Arguments(True)", "b'o'"),
        ("'read', Arguments(None)", "b'one.ntwo'"),
        ("'read', Arguments(-1)", "b'one.ntwo'"),
        ("'readline', Arguments(0)", "b''"),
        ("'readline', Arguments(2 ** 62)", "b'one.n'"),
        ("'readline', Arguments([])", "'TypeError'"),
        ("'readlines', Arguments(1)", r"\[b'one.n'\]"),
        ("'readlines', Arguments('x')", "'TypeError'"),
        ("'readinto', Arguments()", "'TypeError'"),
        ("'readinto', Arguments(b'fixed')", "('TypeError'|'BufferError')"),
        ("'readinto', Arguments('text')", "'TypeError'"),
        ("'readinto', Arguments(bytearray())", "0"),
        ("'readinto', Arguments(memoryview(bytearray(6))[::2])", "('TypeError'|'BufferError'|3)"),
        ("'readinto', Arguments(memoryview(bytearray(8)).cast('I'))", "7"),
        ("'seek', Arguments()", "'TypeError'"),
        ("'seek', Arguments('x')", "'TypeError'"),
        ("'close', Arguments()", "None"),
        ("'fileno', Arguments()", "'(AttributeError|OSError|UnsupportedOperation)'"),
        ("'__next__', Arguments()", "b'one.n'"),
        ("'__iter__', Arguments()", "<.*>"),
    ],
)
def test_wsgi_input(server, at, call, result):
    response = fetch(server, "reads", call, "POST", b"one\ntwo", at)
    assert re.fullmatch(result, response.text), response.text


# ---- after the end ----


@pytest.mark.parametrize("place", ["here", "thread"])
@pytest.mark.parametrize(
    "use, result",
    [
        ("start_response", "AssertionError: start_response was called after the call had ended"),
        ("restart", "AssertionError: start_response was called after the call had ended"),
        ("write", "RuntimeError: write\\(\\) was called after the call had ended"),
        ("write_nothing", "RuntimeError: write\\(\\) was called after the call had ended"),
        ("read", "b'a body'"),
        ("readline", "b'a body'"),
        ("seek", "0"),
        ("errors", "12"),
    ],
)
def test_what_a_call_has_left(server, use, result, place):
    assert fetch(server, "leaves", method="POST", body=b"a body").text == "left"
    response = fetch(server, "uses", f"{use}-{place}")
    assert re.fullmatch(result, response.text), response.text


def test_a_thread_that_writes_when_its_call_has_ended(server):
    """Its bytes are in the response until then, and in no other's."""
    with http1.Connection(server.port) as connection, Gate(server, "background") as gate:
        connection.request("/odd/background?background")
        head = connection.head()
        for _ in range(3):
            assert set(connection.read_chunk(head)) == {ord("x")}
        gate.open()
        connection.read_body(head)
        assert head.complete and set(head.body) == {ord("x"), *b"end"}
        for _ in range(20):
            connection.request("/hello")
            assert connection.response().text == "hello\n"
    report = until(lambda: _text(server.dir / "background"), "the thread has ended")
    assert report.endswith(" RuntimeError")


def _text(path):
    return path.read_text() if path.exists() else ""


@pytest.mark.parametrize("at", ["/odd/", "/streamed/"])
def test_the_body_and_write_from_another_thread(server, at):
    response = fetch(server, "body_from_another_thread", method="POST", body=b"y" * 200_000, at=at)
    assert response.text == "written elsewhere: " + "y" * 200_000


def test_many_threads_write(server):
    body = fetch(server, "many_writers").text
    pieces = re.findall(r"a+|b+|c+|d+", body)
    assert len(body) == 200_000 and all(len(piece) % 1000 == 0 for piece in pieces)


@pytest.mark.parametrize("at", ["/odd/", "/streamed/"])
def test_many_threads_read(server, at):
    body = bytes(range(256)) * 4000
    response = fetch(server, "many_readers", method="POST", body=body, at=at)
    assert response.text == f"{len(body)} {sum(body)}"


@pytest.mark.parametrize("way", ["list", "write", "stream", "raise", "context"])
def test_nothing_is_left_of_a_call(server, way):
    server.expect("Traceback")
    for _ in range(5):
        assert fetch(server, "leaves_nothing", way).status == (500 if way == "raise" else 200)
    until(lambda: fetch(server, "remaining").text == "0", "the calls' objects are gone")


# ---- a lot ----


def test_ten_thousand_headers(server):
    response = fetch(server, "many_headers", "10000", at="/hostile/")
    assert response.text == "many"
    numbers = [value for name, value in response.fields if name.startswith("X-Number")]
    assert numbers == [f"value {number}" for number in range(10_000)]


@pytest.mark.parametrize("case", ["long_header", "long_reason"])
@pytest.mark.parametrize("length", [4_000, 70_000, 1_000_000])
def test_a_long_line_in_the_head(server, case, length):
    response = fetch(server, case, str(length), at="/hostile/")
    assert response.text == "long"
    assert max(len(response.get("X-Long", "")), len(response.reason)) == length


@pytest.mark.parametrize("case", ["huge", "huge_streamed"])
def test_half_a_gibibyte_in_one_piece(server, case):
    mebibytes = 512
    digest, length = hashlib.sha256(), 0
    with http1.Connection(server.port) as connection:
        connection.send(http1.encode(f"/hostile/{case}?{mebibytes}", version="HTTP/1.0"))
        connection.head()
        for piece in iter(lambda: connection.buffer or connection.socket.recv(1 << 20), b""):
            connection.buffer = b""
            digest.update(piece)
            length += len(piece)
    extra = 1000 if case == "huge_streamed" else 0
    assert length == (mebibytes << 20) + extra
    wanted, block = hashlib.sha256(), bytes(range(256)) * 4096
    wanted.update(block[:extra])
    for _ in range(mebibytes):
        wanted.update(block)
    assert digest.digest() == wanted.digest()


def test_empty_chunks_for_ever(server):
    """An application that has nothing to say is still told that its client has gone."""
    with http1.Connection(server.port) as connection:
        connection.request("/hostile/endless_empties")
        connection.socket.settimeout(0.2)
        with pytest.raises(socket.timeout):
            connection.head()
    until(lambda: (server.dir / "empties.left").exists(), "its close()")
