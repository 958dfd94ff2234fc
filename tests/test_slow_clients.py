"""With `wsgi_buffering on`, no thread waits for a client: what that does not take goes to a temporary file."""

import sys

import pytest

sys.path.insert(0, __file__.rpartition("/")[0] + "/apps")

from harness import config, http1, http2, processes
from harness.status import pool, running, until_pool
from harness.waiting import until

import gushing

KIB, MIB = 1 << 10, 1 << 20
TOTAL = 12 * MIB

LOCATIONS = """
    location /status { wsgi_status; }
    location / { wsgi_pass gushing; }
    location /narrow/ { wsgi_pass gushing; wsgi_buffers 4k; }
    location /packed/ { wsgi_pass gushing; gzip on; gzip_types *; }
    location /limited/ { wsgi_pass gushing; wsgi_max_temp_file_size 5m; }
    location /memory/ { wsgi_pass gushing; wsgi_max_temp_file_size 0; }
    location /unbuffered/ { wsgi_pass gushing; wsgi_buffering off; }
"""


@pytest.fixture(scope="module")
def server(serve_module, certificate):
    others = f"""
    server {{ {config.http2("H2_PORT", tls=False)} {LOCATIONS} }}
    server {{ listen 127.0.0.1:@TLS_PORT@ ssl; {certificate.directives()} {LOCATIONS} }}"""
    return running(serve_module(config.site(LOCATIONS, http=others, pool="wsgi_pool default threads=1;")))


class Plain:
    """A response that is asked for and not read."""

    def __init__(self, server, path, context=None):
        self.connection = http1.Connection(server.ports["TLS_PORT"] if context else server.port, context)
        self.connection.request(path)

    def body(self):
        response = self.connection.response()
        assert response.complete
        return response.body


class OverTls(Plain):
    def __init__(self, server, path, certificate):
        super().__init__(server, path, certificate.client())


class Stream:
    def __init__(self, server, path, *_):
        self.connection = http2.Connection(server.ports["H2_PORT"])
        self.number = self.connection.request(path)

    def body(self):
        pieces = []
        stream = self.connection.streams[self.number]
        while not stream.ended and not self.connection.closed:
            self.connection._receive()
            pieces.append(stream.body)
            stream.body = b""
        assert stream.complete
        return b"".join(pieces)


class WideStream(Stream):
    """One whose flow control lets everything go, so that only the socket holds it up."""

    def __init__(self, server, path, *_):
        self.connection = http2.Connection(server.ports["H2_PORT"])
        self.connection.h2.increment_flow_control_window(1 << 30)
        self.connection.h2.update_settings({4: 1 << 30})
        self.number = self.connection.request(path)


WAYS = {"http1": lambda server, path, _: Plain(server, path), "tls": OverTls, "http2": Stream, "wide": WideStream}


@pytest.fixture(params=WAYS)
def ask(request, server, certificate):
    """Asks, and reads nothing."""
    clients = []

    def ask(path):
        clients.append(WAYS[request.param](server, path, certificate))
        return clients[-1]

    yield ask
    for client in clients:
        client.connection.socket.close()


def expected(size, total=TOTAL):
    return b"".join(gushing.chunks(size, total))


@pytest.fixture
def until_free(server):
    """Waits until the pool's only thread has answered so many requests, and has nothing to do."""
    before = pool(server)["requests"]
    return lambda count=1: until_pool(server, requests=before + count, busy=0, queued=0)


def same(got, wanted):
    """pytest's comparison of megabytes that differ takes minutes."""
    return got == wanted


@pytest.mark.parametrize(
    "shape, size",
    [("list", 8_000), ("generator", 240 * KIB), ("generator", 700 * KIB), ("write", MIB), ("list", 4 * MIB)],
)
def test_no_thread_waits_for_a_client(until_free, ask, shape, size):
    client = ask(f"/{shape}?{size},{TOTAL}")
    until_free()
    assert same(client.body(), expected(size))


def test_chunks_of_one_byte(until_free, ask):
    total = MIB // 8
    client = ask(f"/narrow/generator?1,{total}")
    until_free()
    assert same(client.body(), expected(1, total))


@pytest.mark.parametrize("way, size", [("/narrow", 1000), ("/narrow", 100 * KIB), ("/packed", 2 * MIB)])
def test_whatever_is_between(until_free, ask, way, size):
    """Small windows, and a filter that keeps what it is given."""
    client = ask(f"{way}/mixed?{size},{TOTAL}")
    until_free()
    wanted = b"".join(b"-" + chunk for chunk in gushing.chunks(size, TOTAL))
    assert same(client.body(), wanted)


@pytest.mark.parametrize("way, size", [("/limited", 700 * KIB), ("/memory", 8_000), ("/unbuffered", MIB)])
def test_a_thread_waits_when_there_is_no_more_room_on_disk(server, ask, way, size):
    client = ask(f"{way}/generator?{size},{TOTAL + 8 * MIB}")
    until_pool(server, busy=1)
    other = http1.Connection(server.port)
    other.request(f"/generator?5,{KIB}")
    until_pool(server, busy=1, queued=1)
    assert same(client.body(), expected(size, TOTAL + 8 * MIB))
    assert other.response().body == expected(5, KIB)


def test_memory_does_not_follow(serve):
    """The C library gives large blocks back at once here, so resident is what the worker uses."""
    http = config.site(LOCATIONS, pool="wsgi_pool default threads=1;")
    server = running(serve(http, environ={"MALLOC_MMAP_THRESHOLD_": "131072"}))
    (worker,) = server.worker_pids()
    Plain(server, f"/generator?{4 * MIB},{TOTAL}").body()
    before = processes.resident(worker)
    clients = [Plain(server, f"/{shape}?{4 * MIB},{TOTAL}") for shape in ("generator", "list", "write") for _ in range(8)]
    until_pool(server, requests=1 + len(clients), busy=0, queued=0)
    until(lambda: processes.resident(worker) - before < 56 * MIB, "288 MiB are on disk")
    for client in clients:
        client.connection.reset()
