"""wsgi.file_wrapper: nginx sends the file by its own means, and close() comes when the last byte has left."""

import os
import socket

import pytest
from harness import config, http1, http2
from harness.gate import Gate
from harness.waiting import until

SMALL = os.urandom(100_000)
LARGE = 64 << 20

LOCATION = "location /%s/ { %s wsgi_pass files; }"
WAYS = {
    "plain": "sendfile off;",
    "sendfile": "sendfile on; tcp_nopush on;",
    "aio": "sendfile on; aio threads;",
    "directio": "directio 4k; aio threads; output_buffers 2 64k;",
    "ranges": "wsgi_force_ranges on;",
    "packed": "gzip on; gzip_types text/plain;",
    "replaced": "sub_filter aaaa bbbb; sub_filter_once off; sub_filter_types *;",
    "unbuffered": "wsgi_buffering off;",
    "limited": "wsgi_limit_rate 4m;",
}


def noted(server, name, count=1):
    """Whether a close() was noted so often, on the thread of its call."""
    gate = Gate(server, name)
    lines = lambda suffix: gate._lines(server.dir / f"{name}.{suffix}")  # noqa: E731
    until(lambda: lines("closed") + lines("elsewhere") >= count, f"{name} is closed")
    return (lines("closed"), lines("elsewhere")) == (count, 0)


@pytest.fixture(scope="module")
def server(serve_module, certificate):
    locations = "wsgi_param test.dir @DIR@; location /hello { wsgi_pass hello; }\n"
    locations += "\n".join(LOCATION % way for way in WAYS.items())
    second = f"server {{ {config.http2('H2_PORT', tls=False)} {locations} }}"
    third = f"server {{ {config.http2('TLS_PORT')} {certificate.directives()} {locations} }}"
    server = serve_module(config.site(locations, http=second + third))
    (server.dir / "small").write_bytes(SMALL)
    (server.dir / "text").write_text("aaaa\n" * 20_000)
    (server.dir / "empty").touch()
    with open(server.dir / "large", "wb") as file:
        file.truncate(LARGE)
    return server


@pytest.mark.parametrize("way", [way for way in WAYS if way != "replaced"])
def test_every_way_of_nginx_s_to_send_a_file(server, way):
    for _ in range(2):
        response = http1.fetch(server, f"/{way}/small?note={way}")
        assert (response.status, response.complete, response.body == SMALL) == (200, True, True)
        assert response.get("Content-Length") == "100000"
    assert noted(server, way, 2)


def test_from_where_it_stands_and_as_long_as_content_length_says(server):
    assert http1.fetch(server, "/sendfile/small?position=99990").body == SMALL[-10:]
    response = http1.fetch(server, "/sendfile/small?position=500&length=7000")
    assert (response.body, response.get("Content-Length")) == (SMALL[500:7500], "7000")
    assert http1.fetch(server, "/sendfile/empty?note=empty").get("Content-Length") == "0"
    assert noted(server, "empty")


def test_ranges(server):
    response = http1.fetch(server, "/ranges/small", headers=[("Range", "bytes=1000-1999")])
    assert (response.status, response.body) == (206, SMALL[1000:2000])
    assert response.get("Content-Range") == "bytes 1000-1999/100000"
    response = http1.fetch(server, "/ranges/small?position=1000", headers=[("Range", "bytes=-5")])
    assert (response.status, response.body) == (206, SMALL[-5:])
    assert http1.fetch(server, "/ranges/small", headers=[("Range", "bytes=100000-")]).status == 416
    unasked = http1.fetch(server, "/sendfile/small", headers=[("Range", "bytes=0-9")])
    assert (unasked.status, unasked.body == SMALL) == (200, True)


def test_conditions(server):
    response = http1.fetch(server, "/sendfile/small?note=same", headers=[("If-None-Match", '"one"')])
    assert (response.status, response.body) == (304, b"")
    assert noted(server, "same")


def test_filters_that_read_it(server):
    with http1.Connection(server.port) as connection:
        connection.request("/packed/text?type=text/plain", headers=[("Accept-Encoding", "gzip")])
        assert connection.response().get("Content-Encoding") == "gzip"
        connection.request("/replaced/text?type=text/plain")
        assert connection.response().text == "bbbb\n" * 20_000


def test_head(server):
    with http1.Connection(server.port) as connection:
        connection.request("/sendfile/small?note=head", method="HEAD")
        response = connection.response("HEAD")
        assert (response.get("Content-Length"), noted(server, "head")) == ("100000", True)
        connection.request("/hello")
        assert connection.response().text == "hello\n"


def test_http_2(server, certificate):
    assert http2.fetch(server.ports["H2_PORT"], "/sendfile/small?note=h2").body == SMALL
    response = http2.fetch(server.ports["TLS_PORT"], "/aio/small?note=h2", tls=certificate.client("h2"))
    assert response.body == SMALL
    assert noted(server, "h2", 2)


def slowly(server, note):
    """A request for the large file, by a client with room for little; its first bytes have come."""
    connection = http1.Connection(server.port)
    connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    connection.request(f"/sendfile/large?note={note}")
    response = connection.head()
    assert response.get("Content-Length") == str(LARGE)
    return connection, response


def test_close_comes_after_the_last_byte_and_no_thread_waits_for_it(server):
    """Twice as many slow readers as threads: none of them holds one, none is closed, and all are in the end."""
    slow = [slowly(server, "late") for _ in range(8)]
    for _ in range(8):
        assert http1.fetch(server, "/hello").text == "hello\n"
    assert not (server.dir / "late.closed").exists()
    for connection, response in slow:
        connection.read_body(response)
        assert (response.complete, len(response.body)) == (True, LARGE)
    assert noted(server, "late", 8)


@pytest.mark.parametrize("ending", ["close", "reset"])
def test_close_comes_when_the_client_leaves(server, ending):
    connection, _ = slowly(server, f"left-{ending}")
    assert not (server.dir / f"left-{ending}.closed").exists()
    getattr(connection, ending)()
    assert noted(server, f"left-{ending}")


def test_close_comes_before_the_worker_leaves(serve):
    locations = "wsgi_param test.dir @DIR@; location /sendfile/ { sendfile on; wsgi_pass files; }"
    server = serve(config.site(locations))
    with open(server.dir / "large", "wb") as file:
        file.truncate(LARGE)
    connection, response = slowly(server, "quit")
    server.quit()
    server.wait_log("gracefully shutting down")
    connection.read_body(response)
    assert response.complete and server.wait() == 0
    assert noted(server, "quit")
