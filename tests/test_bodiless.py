"""HEAD, 204 and 304: no body goes out, whatever the application gives, and the connection stays in step."""

import pytest

from harness import config, http1, http2, script
from harness.script import give, odd, play, send, start


@pytest.fixture(scope="module")
def server(serve_module):
    second = f"server {{ {config.http2('H2_PORT', tls=False)} {script.CONF} }}"
    return serve_module(config.site(script.CONF, http=second))


@pytest.fixture
def in_step(server):
    """Fetches, and then fetches something else on the same connection."""

    def fetch(path, method="GET"):
        with http1.Connection(server.port) as connection:
            connection.request(path, method)
            response = connection.response(method)
            for _ in range(2):
                connection.request("/hello")
                following = connection.response()
                assert (following.status, following.text) == (200, "hello\n")
        return response

    return fetch


@pytest.mark.parametrize("shape", ["iterator", "generator", "list"])
@pytest.mark.parametrize("steps", [[], [give("body")], [give("body", 500)], [send("written"), give("body")]])
def test_head(in_step, shape, steps):
    response = in_step(play(start(headers={"X-Own": "1"}), *steps, shape=shape), "HEAD")
    assert (response.status, response.get("X-Own"), response.body) == (200, "1", b"")


def test_head_tells_the_length_that_get_would_have(in_step):
    path = play(start(headers={"Content-Length": "4"}), give("body"))
    assert in_step(path, "HEAD").get("Content-Length") == "4"
    assert in_step(path, "GET").text == "body"


def test_head_without_a_body_may_tell_the_length(in_step):
    """A framework drops the body of a HEAD request itself and leaves Content-Length."""
    assert in_step(play(start(headers={"Content-Length": "4"}), shape="list"), "HEAD").get("Content-Length") == "4"


@pytest.mark.parametrize("at", ["/play", "/valid"])
def test_no_content(in_step, at):
    response = in_step(play(("start", "204 No Content", [("X-Own", "1")]), at=at))
    assert (response.status, response.get("X-Own")) == (204, "1")
    assert response.get("Content-Length") is None and response.get("Transfer-Encoding") is None


def test_no_content_may_have_a_type(server, in_step):
    path = play(start("204 No Content", {"Content-Type": "text/x"}))
    assert in_step(path).get("Content-Type") == "text/x"
    assert http2.fetch(server.ports["H2_PORT"], path).get("Content-Type") == "text/x"


@pytest.mark.parametrize("at", ["/play", "/valid"])
def test_not_modified(in_step, at):
    response = in_step(play(("start", "304 Not Modified", [("ETag", '"v1"')]), at=at))
    assert (response.status, response.get("ETag")) == (304, '"v1"')
    assert response.get("Transfer-Encoding") is None


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
@pytest.mark.parametrize("shape", ["iterator", "generator", "list"])
@pytest.mark.parametrize("steps", [[give("body")], [send("written"), give("body")], [odd("b'x' * 100_000")]])
def test_a_body_that_may_not_be_is_dropped(in_step, status, shape, steps):
    assert in_step(play(start(status), *steps, shape=shape)).status == int(status[:3])


def test_http_2(server):
    with http2.Connection(server.ports["H2_PORT"]) as connection:
        head = connection.response(connection.request(play(start(), give("body")), "HEAD"))
        assert (head.status, head.body, head.complete) == (200, b"", True)
        empty = connection.response(connection.request(play(("start", "204 No Content", []))))
        assert (empty.status, empty.body, empty.complete) == (204, b"", True)
        same = connection.response(connection.request(play(start("304 Not Modified"), give("body"))))
        assert (same.status, same.body, same.complete) == (304, b"", True)
        assert connection.response(connection.request("/hello")).text == "hello\n"
