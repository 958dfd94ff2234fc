"""The same small site in Flask, Django, Falcon, Bottle and Pyramid: bare, and behind wsgiref.validate."""

import hashlib
import json
import os

import pytest

from harness import http1
from harness.browser import Browser

PARTS = bytes(range(256)) * 1000
SITES = {
    "Flask": "flask_site",
    "Django": "django_site",
    "Falcon": "falcon_app",
    "Bottle": "bottle_app",
    "Pyramid": "pyramid_app",
}


@pytest.fixture(scope="module", params=["application", "validated"])
def servers(request, serve_module):
    """One nginx, a port for each framework."""
    blocks = [
        f"""server {{
            listen 127.0.0.1:@{name.upper()}_PORT@;
            client_max_body_size 0;
            location / {{ wsgi_pass {module}:{request.param}; }}
            location /unbuffered/ {{ wsgi_pass {module}:{request.param}; wsgi_request_buffering off; rewrite ^/unbuffered(.*)$ $1 break; }}
        }}"""
        for name, module in SITES.items()
    ]
    return serve_module("wsgi_pool default threads=4;\n" + "\n".join(blocks))


@pytest.fixture(params=SITES)
def site(request, servers):
    """The name of a framework, and a visitor of its site."""
    port = servers.ports[f"{request.param.upper()}_PORT"]
    return request.param, Browser(port, f"localhost:{port}")


def fetch(site, path, *arguments, **options):
    return http1.fetch(None, path, *arguments, port=site[1].port, host=site[1].host, **options)


def test_hello(site):
    response = fetch(site, "/hello")
    assert (response.status, response.text) == (200, f"hello from {site[0]}")


def test_head(site):
    """Who says no length lets it be: of a body that streams through the validator it is not known."""
    response = fetch(site, "/hello", "HEAD")
    length = str(len(f"hello from {site[0]}"))
    assert (response.status, response.body) == (200, b"")
    assert response.get("Content-Length", length) == length


def test_a_file_that_reads_other_bytes_than_its_descriptor_has(servers):
    port = servers.ports["DJANGO_PORT"]
    response = http1.fetch(None, "/packed", port=port)
    assert (response.status, response.body == PARTS, response.complete) == (200, True, True)


def test_sessions(site):
    assert [site[1].get("/count").text for _ in range(4)] == ["1", "2", "3", "4"]
    cookies = fetch(site, "/count").all("Set-Cookie")
    assert len(cookies) == 2 and sorted(cookie.startswith("other=") for cookie in cookies) == [False, True]


@pytest.mark.parametrize("at", ["", "/unbuffered"])
@pytest.mark.parametrize("size", [0, 10, 100_000, 3_000_000])
def test_upload(site, size, at):
    data = os.urandom(size)
    page = site[1].post(f"{at}/upload", {"name": "value", "other": "\u20ac"}, {"file": ("data.bin", data)})
    assert page.status == 200, page
    got = json.loads(page.text)
    assert got["files"] == {"file": ["data.bin", size, hashlib.sha256(data).hexdigest()]}
    assert got["fields"]["name"] == "value"


@pytest.mark.parametrize("at", ["", "/unbuffered"])
@pytest.mark.parametrize("size", [0, 10, 300_000])
def test_echo(site, size, at):
    data = os.urandom(size)
    assert fetch(site, f"{at}/echo", "POST", body=data).body == data


@pytest.mark.parametrize("size", [0, 10, 300_000])
def test_chunked_echo(site, size):
    """Its length is known to the application: nginx has read it all."""
    data = os.urandom(size)
    chunks = [data[start : start + 50_000] for start in range(0, size, 50_000)]
    assert fetch(site, "/echo", "POST", {"Transfer-Encoding": "chunked"}, http1.chunked(*chunks)).body == data


def test_stream(site):
    response = fetch(site, "/stream?who=me")
    assert response.text == "".join(f"{number} for me\n" for number in range(5))
    assert len(response.chunks) == 5 and response.chunks[4][0] - response.chunks[0][0] > 0.02


def test_file(site):
    response = fetch(site, "/file")
    assert response.body == PARTS and response.get("Content-Length") == str(len(PARTS))


def test_redirect(site):
    assert fetch(site, "/away").get("Location").endswith("/hello")
    assert site[1].get("/away").text == f"hello from {site[0]}"


def test_not_found(site):
    assert fetch(site, "/nowhere").status == 404


def test_failure(site, servers):
    """It is the framework's to answer, and to log."""
    servers.expect("Traceback")
    with http1.Connection(site[1].port) as connection:
        connection.request("/fails")
        assert connection.response().status == 500
    assert fetch(site, "/hello").status == 200


def test_keep_alive_through_everything(site):
    """One connection for all of it: no answer is another's."""
    with http1.Connection(site[1].port) as connection:
        for _ in range(3):
            connection.request("/nowhere")
            assert connection.response().status == 404
            connection.request("/echo", "POST", body=b"body that is not read, on a page that is not there")
            assert connection.response().body.startswith(b"body that")
            connection.request("/nowhere", "POST", body=b"x" * 20_000)
            assert connection.response().status in (404, 405)
            connection.request("/hello", "HEAD")
            assert connection.response("HEAD").status == 200
            connection.request("/stream?who=us")
            assert connection.response().text.count("for us") == 5
            connection.request("/hello")
            assert connection.response().text == f"hello from {site[0]}"
