"""A minute of clients that do not read, that read a byte a second, and that reset: no thread waits for any of them, memory
stays, and a quick client beside them notices little. HTTP/1.1 and HTTP/2, chunks of a byte to 4 MiB."""

import heapq
import random
import socket
import statistics
import threading
import time

from harness import config, http1, http2, processes
from harness.status import pool, running, until_pool
from soak import site

KIB, MIB = 1 << 10, 1 << 20
SECONDS, SILENT, TRICKLING, RESETTING = 60, 200, 200, 50
THREADS = 4
BOUND = 150 * MIB

# The sizes of chunks, and of whole responses of such.
SIZES = [(1, 128 * KIB), (100, MIB), (8_000, 3 * MIB), (64 * KIB, 3 * MIB), (700 * KIB, 4 * MIB), (4 * MIB, 8 * MIB)]
SHAPES = ["generator", "list", "write"]

LOCATIONS = """
    send_timeout 10m;
    keepalive_requests 1000000;
    location /status { wsgi_status; }
    location / { wsgi_pass gushing; }
    location /page { wsgi_pass soak; }
"""


def start(serve):
    connections = site.raise_descriptor_limit() - 200
    second = f"server {{ {config.http2('H2_PORT', tls=False)} {LOCATIONS} }}"
    text = config.whole(config.site("access_log off;" + LOCATIONS, http=second, pool=f"wsgi_pool default threads={THREADS};"))
    text = text.replace("worker_connections 512", f"worker_connections {connections}").replace("error.log info", "error.log notice")
    return running(serve("", text=text))


class QuickClient(threading.Thread):
    """Asks for a page, one after the other, and notes how long each took, in seconds."""

    def __init__(self, server, seconds, path="/page/sleep?0.02", pause=0):
        super().__init__(daemon=True)
        self.server, self.path, self.pause = server, path, pause
        self.end, self.times = time.monotonic() + seconds, []

    def run(self):
        with http1.Connection(self.server.port) as connection:
            while time.monotonic() < self.end:
                began = time.monotonic()
                connection.request(self.path)
                assert connection.response().status == 200
                self.times.append(time.monotonic() - began)
                time.sleep(self.pause)

    def p99(self):
        self.join()
        return statistics.quantiles(self.times, n=100)[-1]


class Slow:
    """A client that has asked for more than it reads."""

    def __init__(self, server, chance):
        size, total = chance.choice(SIZES)
        path = f"/{chance.choice(SHAPES)}?{size},{total}"
        if chance.random() < 0.5:
            self.connection = http1.Connection(server.port)
            self.connection.request(path)
        else:
            self.connection = http2.Connection(server.ports["H2_PORT"])
            if chance.random() < 0.5:
                self.connection.h2.increment_flow_control_window(1 << 30)
                self.connection.h2.update_settings({4: 1 << 30})
            self.connection.request(path)
        self.socket = self.connection.socket
        self.socket.setblocking(False)

    def read(self, size):
        try:
            return self.socket.recv(size)
        except BlockingIOError:
            return b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        """By a reset."""
        if self.socket.fileno() >= 0:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        self.socket.close()


def silent(server, chance):
    with Slow(server, chance):
        yield 3600


def trickling(server, chance):
    with Slow(server, chance) as client:
        while True:
            yield 1
            client.read(1)


def resetting(server, chance):
    while True:
        with Slow(server, chance) as client:
            yield chance.uniform(0, 5)
            client.read(chance.choice([0, 1000, MIB]))
            yield chance.uniform(0, 5)


class Watch:
    """What the worker takes meanwhile."""

    def __init__(self, server):
        self.server, (self.worker,) = server, server.worker_pids()
        self.highest, self.busy = 0, []

    def __call__(self):
        self.highest = max(self.highest, processes.resident(self.worker))
        self.busy.append(pool(self.server)["busy"])


def crowd(server, kinds, seconds, watch):
    """Lets clients act for that many seconds; returns those that are there then.

    They come, and reset, no faster than the worker's Python can make their responses: else the quick client would wait for
    that, and not for slow clients."""
    chance = random.Random(1)
    come = seconds / 3
    clients = [(chance.uniform(0, come), number, kind(server, chance)) for number, kind in enumerate(kinds)]
    heapq.heapify(clients)
    began, looked = time.monotonic(), 0.0
    while (now := time.monotonic() - began) < seconds:
        if now - looked > 0.5:
            watch()
            looked = now
        if clients[0][0] > now:
            time.sleep(min(clients[0][0] - now, 0.05))
            continue
        at, number, client = heapq.heappop(clients)
        heapq.heappush(clients, (now + next(client), number, client))
    return clients


def slow_clients(serve, seconds, counts):
    """Returns the quick client's p99 alone and beside the crowd; all else is asserted."""
    server = start(serve)
    watch = Watch(server)
    idle = QuickClient(server, min(seconds / 4, 5))
    idle.start()
    idle_p99 = idle.p99()
    quick = QuickClient(server, seconds)
    quick.start()
    event_loop = QuickClient(server, seconds, "/status", pause=0.005)
    event_loop.start()
    kinds = [kind for kind, count in zip((silent, trickling, resetting), counts) for _ in range(count)]
    clients = crowd(server, kinds, seconds, watch)
    busy_p99 = quick.p99()
    event_loop_p99 = event_loop.p99()
    until_pool(server, busy=0, queued=0)  # though hundreds have not read their responses
    watch()
    print(
        f"quick client's p99 {idle_p99 * 1e3:.1f} ms alone, {busy_p99 * 1e3:.1f} ms in the crowd ({len(quick.times)} pages);"
        f" status page's p99 {event_loop_p99 * 1e3:.1f} ms;"
        f" memory {watch.highest / MIB:.0f} MiB; busy threads {statistics.mean(watch.busy):.1f} on average"
    )
    assert watch.highest < BOUND
    assert server.worker_pids() == [watch.worker]
    for _, _, client in clients:
        client.close()
    return idle_p99, busy_p99


def test_slow_clients(serve):
    idle, busy = slow_clients(serve, SECONDS, (SILENT, TRICKLING, RESETTING))
    assert busy < 2 * idle
