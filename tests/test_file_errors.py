"""Files that cannot be sent as their size promises: cut short meanwhile, of no true size, or on a broken disk.

The response is cut off where the client can see it, the error log names the file, and the worker lives on.
"""

import os
import socket

import pytest
from harness import config, faults, http1, http2
from harness.gate import Gate
from harness.script import gate, give, play, start

SIZE = 8 << 20
CONTENT = bytes(SIZE)

WAYS = {
    "plain": "sendfile off;",
    "sendfile": "sendfile on; tcp_nopush on;",
    "threads": "sendfile off; aio threads;",
    "sendfile-threads": "sendfile on; aio threads;",
    "aio": "sendfile off; aio on;",
    "directio": "directio 4k; output_buffers 2 64k;",
    "filtered": "sendfile on; ssi on; ssi_types *;",
}
FILES = "wsgi_param test.dir @DIR@; location /hello { wsgi_pass hello; }\n" + "\n".join(
    f"location /{way}/ {{ {directives} wsgi_pass files; }}" for way, directives in WAYS.items()
)
# What nginx writes then, at the levels alert and crit.
COMPLAINTS = 'was truncated at|read only .* from|(sendfile|pread|aio read).* failed'


@pytest.fixture(scope="module")
def server(serve_module, certificate):
    second = f"server {{ {config.http2('H2_PORT', tls=False)} {FILES} }}"
    third = f"server {{ listen 127.0.0.1:@TLS_PORT@ ssl; {certificate.directives()} {FILES} }}"
    return serve_module(config.site(FILES, http=second + third))


@pytest.fixture(autouse=True)
def same_workers(server):
    server.expect(COMPLAINTS)
    workers = server.worker_pids()
    yield
    assert http1.fetch(server, "/hello").text == "hello\n"
    assert server.worker_pids() == workers


def large(directory, name):
    path = directory / name
    path.write_bytes(CONTENT)
    return path


def begin(port, path, tls=None, version="HTTP/1.1"):
    """The head of a response for a client that has room for little."""
    connection = http1.Connection(port, tls)
    connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    connection.request(path, version=version)
    return connection, connection.head()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("left", [0, 100_000])
def test_a_file_that_is_cut_short_while_it_is_sent(server, way, left):
    path = large(server.dir, f"{way}-{left}")
    connection, response = begin(server.port, f"/{way}/{path.name}")
    os.truncate(path, left)
    connection.read_body(response)
    assert (response.status, response.complete) == (200, False)
    server.wait_log(f'"{path}"')


def test_on_tls(server, certificate):
    path = large(server.dir, "on-tls")
    connection, response = begin(server.ports["TLS_PORT"], f"/sendfile/{path.name}", certificate.client())
    os.truncate(path, 0)
    connection.read_body(response)
    assert not response.complete


def test_on_http_2(server):
    path = large(server.dir, "on-http-2")
    with http2.Connection(server.ports["H2_PORT"]) as connection:
        stream = connection.request(f"/plain/{path.name}")
        connection.head(stream)
        os.truncate(path, 0)
        assert not connection.response(stream).complete


def test_without_a_length_the_connection_is_reset(server):
    path = large(server.dir, "no-length")
    connection, response = begin(server.port, f"/filtered/{path.name}", version="HTTP/1.0")
    assert response.get("Content-Length") is None
    os.truncate(path, 0)
    with pytest.raises(ConnectionResetError):
        while connection.socket.recv(65536):
            pass


def test_files_that_are_shorter_than_their_size_says(server):
    sys_file = "/sys/devices/system/cpu/online"
    # A container may lack /sys.
    for name, path in [("proc", "/proc/version")] + [("sys", sys_file)] * os.path.exists(sys_file):
        os.symlink(path, server.dir / name)
        with open(path, "rb") as file:
            content = file.read()
        for way in WAYS:
            response = http1.fetch(server, f"/{way}/{name}")
            assert (response.status, response.body, response.complete) == (200, content, True)


def test_a_filter_that_reads_the_file_ahead_of_the_client(serve):
    """All of the file is in nginx's buffers, which still refer to it, long before the client has it."""
    directives = "sendfile on; ssi on; ssi_types *; limit_rate 30k;"
    locations = f"wsgi_param test.dir @DIR@; location / {{ {directives} wsgi_pass files; }}"
    server = serve(config.site(locations))
    content = os.urandom(60_000)
    (server.dir / "ahead").write_bytes(content)
    (server.dir / "other").write_bytes(b"x" * 60_000)
    with http1.Connection(server.port) as first, http1.Connection(server.port) as second:
        first.request("/ahead")
        response = first.head()
        second.request("/other")
        second.head()
        first.read_body(response)
        assert (response.complete, response.body == content) == (True, True)


# ---- a broken disk ----


@pytest.fixture(scope="module")
def broken(serve_module, tmp_path_factory):
    """A server that cannot read files, temporary ones included, whose path has /faulty in it."""
    locations = f"""{FILES}
        location /play {{ wsgi_buffers 64k; wsgi_temp_path @DIR@/faulty_spool; sendfile off; wsgi_pass script; }}
        location /sent/play {{ wsgi_buffers 64k; wsgi_temp_path @DIR@/faulty_spool; sendfile on; wsgi_pass script; }}
        location /body {{ client_body_temp_path @DIR@/faulty_body; client_body_buffer_size 8k; wsgi_pass body; }}
    """
    environ = faults.environ(tmp_path_factory.mktemp("faults"), "/faulty")
    server = serve_module(config.site(locations, server="client_max_body_size 1m;"), environ=environ)
    return server


@pytest.mark.parametrize("way", [way for way in WAYS if way != "aio"])  # the kernel reads by itself then
def test_a_file_that_cannot_be_read(broken, way):
    broken.expect(COMPLAINTS)
    path = large(broken.dir, f"faulty-{way}")
    response = http1.fetch(broken, f"/{way}/{path.name}")
    assert (response.status, response.complete) == (200, False) and len(response.body) <= 65536
    broken.wait_log(f'"{path}"|sendfile\\(\\) failed')


@pytest.mark.parametrize("prefix", ["", "/sent"])
def test_a_temporary_file_of_a_response_that_cannot_be_read(broken, prefix):
    broken.expect(COMPLAINTS)
    connection = http1.Connection(broken.port)
    connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    name = f"spooled{len(prefix)}"
    connection.request(prefix + play(start(), give("x" * 3000, 4000), gate(name)))
    Gate(broken, name).wait_entered()  # the client has read nothing: what it has no room for is in the file
    Gate(broken, name).open()
    response = connection.response()
    assert (response.status, response.complete) == (200, False)
    broken.wait_log("faulty_spool|sendfile\\(\\) failed")


def test_a_temporary_file_of_a_request_that_cannot_be_read(broken):
    broken.expect("Traceback")
    assert http1.fetch(broken, "/body", "POST", body=b"x" * 60_000).status == 200
    assert http1.fetch(broken, "/body", "POST", body=b"x" * 200_000).status == 500
    broken.wait_log("OSError: \\[Errno 5\\]")

