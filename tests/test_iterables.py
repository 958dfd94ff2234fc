"""Whatever the application returns: lists, generators, odd iterables, write(), empty chunks, a changed mind."""

import hashlib

import pytest

from harness import config, http1, script
from harness.gate import Gate
from harness.script import fail, give, odd, play, restart, send, start

SHAPES = ["iterator", "generator", "list", "tuple", "sequence"]


@pytest.fixture(scope="module")
def server(serve_module):
    return serve_module(config.site(script.CONF))


def fetch(server, *steps, **options):
    response = http1.fetch(server, play(*steps, **options))
    assert response.complete, response
    return response


@pytest.mark.parametrize("at", ["/play", "/valid"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "steps, body",
    [
        ([], ""),
        ([give("one")], "one"),
        ([give("one"), give("two")], "onetwo"),
        ([give(""), give("one"), give(""), give(""), give("two"), give("")], "onetwo"),
        ([give("")], ""),
        ([give("ab", 1000)], "ab" * 1000),
    ],
    ids=["nothing", "one", "two", "with-empty", "only-empty", "many"],
)
def test_shapes(server, shape, steps, body, at):
    assert fetch(server, start(), *steps, shape=shape, at=at).text == body


@pytest.mark.parametrize("shape", SHAPES)
def test_a_large_chunk(server, shape):
    body = fetch(server, start(), odd("bytes(range(250)) * 40_000"), shape=shape).body
    assert hashlib.sha256(body).digest() == hashlib.sha256(bytes(range(250)) * 40_000).digest()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size, count", [(1, 3000), (1000, 5000)])
def test_many_chunks(server, shape, size, count):
    assert fetch(server, start(), give("y" * size, count), shape=shape).body == b"y" * size * count


def test_bytes_subclasses_are_bytes(server):
    assert fetch(server, start(), odd("type('B', (bytes,), {})(b'sub')")).text == "sub"


# ---- write() ----


@pytest.mark.parametrize("at", ["/play", "/valid"])
@pytest.mark.parametrize("shape", SHAPES)
def test_write_comes_before_what_is_returned(server, shape, at):
    steps = [start(), send("written "), send(""), send("again "), give("returned")]
    assert fetch(server, *steps, shape=shape, at=at).text == "written again returned"


def test_write_from_inside_a_generator(server):
    steps = [start(), send("a"), give("b"), send("c"), give("d"), send("e")]
    assert fetch(server, *steps, shape="generator").text == "abcde"


def test_write_alone(server):
    assert fetch(server, start(headers={"Content-Length": "4"}), send("only"), shape="list").text == "only"
    assert fetch(server, start(), send("w" * 1000, 2000), shape="list").text == "w" * 2_000_000


# ---- start_response twice ----


@pytest.mark.parametrize("at", ["/play", "/valid"])
@pytest.mark.parametrize("shape", ["iterator", "list"])
def test_another_response_before_the_first_byte(server, shape, at):
    steps = [start("200 OK", {"X-First": "1"}), restart("503 Later", {"X-Second": "1"}), give("sorry")]
    response = fetch(server, *steps, shape=shape, at=at)
    assert (response.line, response.text) == ("HTTP/1.1 503 Later", "sorry")
    assert response.get("X-Second") == "1" and response.get("X-First") is None


def test_an_empty_chunk_does_not_send_the_head(server):
    response = fetch(server, start(), give(""), restart("503 Later"), give("sorry"))
    assert response.status == 503


def test_another_response_after_the_first_byte_is_the_exception_it_names(server):
    server.expect("Traceback", "LookupError")
    response = http1.fetch(server, play(start(), give("first"), restart("503 Later"), give("never")))
    assert response.status == 200 and not response.complete and response.text == "first"
    server.wait_log("LookupError: the reason for another response")


# ---- close() ----


def closed(server, *steps, expect=(), shape="iterator", method="GET"):
    """Plays and returns how many times close() was called."""
    name = f"close-{len(list(server.dir.glob('close-*')))}"
    server.expect(*expect)
    with http1.Connection(server.port) as connection:
        connection.request(play(*steps, shape=shape, closes=f"{name}.left"), method)
        try:
            connection.response(method)
        except EOFError:
            pass
    gate = Gate(server, name)
    gate.wait_left()
    assert http1.fetch(server, "/hello").status == 200
    return gate.left()


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_close_is_called_once(server, method):
    assert closed(server, start(), give("one"), give("two"), method=method) == 1


def test_close_is_called_once_after_an_empty_body(server):
    assert closed(server, start()) == 1
    assert closed(server, start("304 Not Modified")) == 1


@pytest.mark.parametrize("before", [[], [give("one")]])
def test_close_is_called_once_after_an_exception(server, before):
    assert closed(server, start(), *before, fail(), expect=["Traceback"]) == 1


def test_close_is_called_once_when_the_answer_is_refused(server):
    assert closed(server, start(), odd("'not bytes'"), expect=["Traceback"]) == 1


def test_close_that_fails(server):
    assert (
        closed(server, start(headers={"Content-Length": "3"}), give("one"), shape="failing", expect=["Traceback"]) == 1
    )
    server.wait_log("ValueError: close\\(\\) failed on request")
