"""What an application's response asks of nginx: X-Accel-* fields, and nginx's filters and proxies that go by its headers."""

import time

import pytest

from harness import config, http1, script
from harness.gate import Gate
from harness.script import gate, give, play, start

CONF = f"""{script.CONF}
    location /files/ {{ internal; alias @DIR@/files/; }}
    location /passing/play {{ wsgi_pass_header X-Accel-Buffering; wsgi_pass script; }}
    location /told/play {{ wsgi_ignore_headers X-Accel-Redirect; wsgi_pass_header X-Accel-Redirect; wsgi_pass script; }}
    location /sliced {{ slice 1k; wsgi_param HTTP_RANGE $slice_range; wsgi_pass ranged; }}
    location /front/ {{ proxy_pass http://unix:@DIR@/inner.sock:/; proxy_http_version 1.1; proxy_set_header Connection ""; }}
"""


@pytest.fixture(scope="module")
def server(serve_module):
    outer = CONF + "location /outer/ { internal; alias @DIR@/files/; }"
    server = serve_module(config.site(outer, http=f"server {{ listen unix:@DIR@/inner.sock; {CONF} }}"))
    (server.dir / "files").mkdir()
    (server.dir / "files" / "file").write_bytes(b"x" * 60_000)
    return server


def test_a_redirect_inside_nginx(server):
    headers = {"X-Accel-Redirect": "/files/file", "Content-Disposition": "attachment", "X-Own": "1"}
    response = http1.fetch(server, play(start("201 Created", headers), give("not this")))
    assert (response.status, len(response.body), response.get("Content-Disposition")) == (200, 60_000, "attachment")
    assert response.get("X-Own") is None and response.get("X-Accel-Redirect") is None


def test_a_limit_holds_for_the_file_behind_a_redirect(server):
    """The first 30,000 bytes come at once, the others a second later."""
    begun = time.monotonic()
    headers = {"X-Accel-Redirect": "/files/file", "X-Accel-Limit-Rate": "30000"}
    assert len(http1.fetch(server, play(start(headers=headers))).body) == 60_000
    assert time.monotonic() - begun > 0.9


def test_slices(server):
    """Each slice is a call of its own, and nginx reads their Content-Range to its terminating NUL."""
    response = http1.fetch(server, "/sliced")
    assert (response.status, response.complete, response.body) == (200, True, b"0123456789" * 1000)
    response = http1.fetch(server, "/sliced", headers=[("Range", "bytes=1000-3999")])
    assert (response.status, response.body) == (206, b"0123456789" * 300)


def test_x_accel_redirect_for_a_proxy_in_front(server):
    """The inner nginx ignores the field and passes it on: it has no such location, and the outer one sends the file."""
    redirect = start(headers={"X-Accel-Redirect": "/outer/file"})
    response = http1.fetch(server, play(redirect, give("ignored"), at="/front/told/play"))
    assert (response.status, response.body) == (200, b"x" * 60_000)


def test_x_accel_buffering_for_a_proxy_in_front(server):
    """This nginx obeys the field and hides it, but for wsgi_pass_header: then the proxy holds nothing back either."""
    unbuffered = start(headers={"X-Accel-Buffering": "no"})
    assert http1.fetch(server, play(unbuffered, give("x"))).get("X-Accel-Buffering") is None
    with http1.Connection(server.port) as connection, Gate(server, "front") as open_gate:
        path = play(unbuffered, give("first"), gate("front"), give("last"), at="/front/passing/play")
        connection.request(path)
        response = connection.head()
        assert connection.read_chunk(response) == b"first"
        open_gate.open()
        connection.read_body(response)
        assert (response.text, response.complete) == ("firstlast", True)
