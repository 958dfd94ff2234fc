"""Clients that leave at a random moment, many at once.

A client is a generator that does something with its connection and yields the seconds until it goes on.
"""

import heapq
import random
import socket
import time

import h2.exceptions
from harness import http1, http2
from soak import site

# What the clients ask for, by one of the ways to the application: (method, path, bytes of the body).
REQUESTS = [
    ("GET", "/hello", 0),
    ("HEAD", "/hello", 0),
    ("GET", "/sleep?0.002", 0),
    ("GET", "/sleep?0.02", 0),
    ("GET", "/stream?300000", 0),
    ("GET", "/stream?5000000", 0),
    ("GET", "/drip?10", 0),
    ("GET", "/file?{file}", 0),
    ("GET", "/redirect?/stream%3F300000", 0),
    ("POST", "/upload", 5_000),
    ("POST", "/upload", 300_000),
    ("POST", "/echo", 300_000),
]
PAUSES = [0, 0, 0.001, 0.005, 0.03]


def choose(chance, ways, file):
    """A request and the way that it goes."""
    method, path, size = chance.choice(REQUESTS)
    way = chance.choice(ways)
    if way == "/parts" and size:
        way = ""  # nginx itself takes no POST for a file
    return method, way + path.format(file=file), size


class Crowd:
    """Runs clients against one server until `count` have come and gone."""

    def __init__(self, server, file, tls=None, seed=1, ways=site.WAYS):
        self.server, self.file, self.tls, self.ways = server, file, tls, ways
        self.chance = random.Random(seed)
        # How many read a whole response before they left.
        self.answered = 0

    def run(self, count, at_once=100):
        """Lets `count` clients come, `at_once` of them at the same time."""
        waiting = [(0.0, number, self.client()) for number in range(min(at_once, count))]
        number = len(waiting)
        while waiting:
            moment, own, client = heapq.heappop(waiting)
            time.sleep(max(0.0, moment - time.monotonic()))
            try:
                heapq.heappush(waiting, (time.monotonic() + next(client), own, client))
            except StopIteration:
                if number < count:
                    number += 1
                    heapq.heappush(waiting, (0.0, number, self.client()))

    # ---- one client ----

    def client(self):
        """Sends something, waits or reads, and is gone."""
        over_tls = self.tls is not None and self.chance.random() < 0.1
        port = self.server.ports["TLS_PORT"] if over_tls else self.server.port
        connection = http1.Connection(port, self.tls if over_tls else None)
        try:
            yield from self.chance.choice([self.sends_a_part, self.sends_all, self.sends_all, self.reads_all])(
                connection
            )
        except OSError:  # the server may refuse, and close, before all was sent
            pass
        self.leave(connection)

    def leave(self, connection):
        way = self.chance.randrange(3)
        if way == 0:
            connection.reset()
        elif way == 1:
            connection.close()
        else:
            try:
                connection.socket.shutdown(socket.SHUT_WR)
            except OSError:
                pass
            connection.close()

    def message(self):
        method, path, size = choose(self.chance, self.ways, self.file)
        return http1.encode(path, method, body=b"b" * size)

    def sends_a_part(self, connection):
        """Leaves before the request is whole: in its head, or within its body."""
        message = self.message()
        end = self.chance.randrange(len(message))
        yield from self.send(connection, message[:end])
        yield self.chance.choice(PAUSES)

    def sends_all(self, connection):
        """Leaves while the request is queued, while it runs, or while its response comes."""
        yield from self.send(connection, self.message() * self.chance.choice([1, 1, 1, 3]))
        yield self.chance.choice(PAUSES)
        for _ in range(self.chance.randrange(4)):
            self.receive(connection)
            yield self.chance.choice(PAUSES)

    def reads_all(self, connection):
        """Leaves when it has its answer, which must be one."""
        size = self.chance.choice([100, 300_000])
        yield from self.send(connection, http1.encode(f"/stream?{size}"))
        data = b""
        while len(data) < size:
            yield 0.0005
            more = self.receive(connection)
            assert more != b"", f"a response ended after {len(data)} bytes"
            data += more or b""
        assert data.startswith(b"HTTP/1.1 200 ")
        self.answered += 1

    @staticmethod
    def send(connection, data):
        """Sends as much as goes at a time."""
        connection.socket.setblocking(False)
        while data:
            try:
                data = data[connection.socket.send(data) :]
            except (BlockingIOError, http1.ssl.SSLWantWriteError, http1.ssl.SSLWantReadError):
                if connection.socket.fileno() < 0 or Crowd.receive(connection) == b"":
                    return
                yield 0.001
        yield 0

    @staticmethod
    def receive(connection):
        """What has come: None if nothing has, empty at the end."""
        try:
            return connection.socket.recv(65536)
        except (BlockingIOError, http1.ssl.SSLWantReadError):
            return None


class Streams:
    """The same with streams of HTTP/2 connections: some are cancelled, some connections just go."""

    def __init__(self, server, file, seed=1, ways=site.WAYS):
        self.server, self.file, self.ways = server, file, ways
        self.chance = random.Random(seed)

    def run(self, count, on_each=20):
        for _ in range(count // on_each):
            with http2.Connection(self.server.ports["H2_PORT"]) as connection:
                connection.socket.settimeout(0.002)
                try:
                    self.converse(connection, [self.open(connection) for _ in range(on_each)])
                except (OSError, h2.exceptions.ProtocolError):
                    pass  # the connection has ended on one side or the other

    def open(self, connection):
        method, path, size = choose(self.chance, self.ways, self.file)
        size = min(size, 5_000)  # what flow control lets go without an answer
        if not size:
            return connection.request(path, method)
        whole = self.chance.random() < 0.5
        part = size if whole else self.chance.randrange(size)
        headers = [("content-length", str(size))]
        number = connection.request(path, method, headers, end=False)
        room = connection.h2.local_flow_control_window(number)
        if part <= room:
            connection.send(number, b"b" * part, end=whole)
        return number

    def converse(self, connection, streams):
        """Reads now and then, cancels half of the streams, and leaves."""
        for number in streams:
            if self.chance.random() < 0.3:
                self.look(connection)
            if self.chance.random() < 0.5 and not connection.streams[number].ended:
                connection.cancel(number)
        if self.chance.random() < 0.5:
            for _ in range(self.chance.randrange(10)):
                self.look(connection)

    @staticmethod
    def look(connection):
        try:
            connection._receive()
        except socket.timeout:
            pass
