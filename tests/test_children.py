"""Processes that an application starts: their exit status is the application's, and they have nothing of nginx's."""

import os

import pytest

from harness import config, http1
from harness.gate import Gate
from harness.waiting import until


@pytest.mark.parametrize("main", ["", "master_process off;"])
def test_exit_statuses(serve, main):
    server = serve(config.site("location / { wsgi_pass children; }"), main=main)
    assert http1.fetch(server, "/40").text.split() == ["3"] * 40
    assert "unknown process" not in server.log() and "waitpid" not in server.log()


OPEN = """
    wsgi_param test.dir @DIR@;
    client_body_buffer_size 1k;
    location /open/ { wsgi_pass children; }
    location /static { return 200 quick; }
    location /gates/ { proxy_pass http://127.0.0.1:@INNER_PORT@; }
    location /upload { wsgi_pass gates; }
"""
INNER = "server { listen 127.0.0.1:@INNER_PORT@; wsgi_param test.dir @DIR@; location / { wsgi_pass gates; } }"


@pytest.fixture(scope="module")
def busy(serve_module):
    """A server with a client of a static file, one whose request is proxied, and one that uploads."""
    server = serve_module(config.site(OPEN, http=INNER))
    with Gate(server, "held") as gate:
        static, proxied, uploading = connections = [http1.Connection(server.port) for _ in range(3)]
        http1.Connection.opened.clear()  # they outlast a test
        static.request("/static")
        assert static.response().text == "quick"
        proxied.request("/gates/held")
        gate.wait_entered()
        uploading.send(b"POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n" + b"x" * 50000)
        folder = f"/proc/{server.workers[0]}/fd"
        until(lambda: any("client_body_temp" in link for link in links(folder)), "a temporary file")
        yield server
        for connection in connections:
            connection.close()


def links(folder):
    for number in os.listdir(folder):
        try:
            yield os.readlink(f"{folder}/{number}")
        except FileNotFoundError:
            continue


@pytest.mark.parametrize("way", ["system", "spawn", "posix_spawn", "os.popen", "popen", "subprocess"])
def test_a_child_has_nothing_of_nginx_s(busy, way):
    open_files = http1.fetch(busy, f"/open/{way}").text.splitlines()
    assert any(path.endswith("/open") for path in open_files), "the listing itself"
    assert not [path for path in open_files if "socket:" in path or "_temp" in path or "anon_inode" in path]
