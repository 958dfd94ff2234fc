"""A client for what wrk cannot do: large bodies, slow and waiting clients."""

import socket
import time

PIECE = 1 << 20


class Failed(RuntimeError):
    """A server answered with what was not asked for."""


def connect(port, timeout=120):
    connection = socket.create_connection(("127.0.0.1", port), timeout)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def head(connection):
    """Reads up to the end of the header; returns the status, the fields and what came behind."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65536)
        if not more:
            raise Failed(f"the connection ended within the header: {data!r}")
        data += more
    text, _, rest = data.partition(b"\r\n\r\n")
    line, *fields = text.decode("latin-1").split("\r\n")
    pairs = (field.partition(":") for field in fields)
    return int(line.split()[1]), {name.lower(): value.strip() for name, _, value in pairs}, rest


def fetch(port, path, method="GET", connection=None):
    """A small response: (status, body)."""
    ours = connection or connect(port)
    ours.sendall(f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    status, fields, body = head(ours)
    length = int(fields.get("content-length", 0))
    while len(body) < length:
        more = ours.recv(65536)
        if not more:
            raise Failed(f"{path}: {len(body)} of {length} bytes")
        body += more
    if ours is not connection:
        ours.close()
    return status, body


def download(port, path, size):
    """Reads a body of `size` bytes as fast as it comes; returns the seconds it took."""
    buffer = bytearray(PIECE)
    with connect(port) as connection:
        began = time.perf_counter()
        connection.sendall(f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
        status, _, rest = head(connection)
        if status != 200:
            raise Failed(f"{path}: status {status}")
        have = len(rest)
        while True:
            count = connection.recv_into(buffer)
            if not count:
                break
            have += count
        if have != size:
            raise Failed(f"{path}: {have} of {size} bytes")
        return time.perf_counter() - began


def upload(port, path, size, method="POST"):
    """Sends a body of `size` bytes as fast as it goes; returns the seconds until the answer."""
    piece = memoryview(bytes(PIECE))
    with connect(port) as connection:
        began = time.perf_counter()
        connection.sendall(f"{method} {path} HTTP/1.0\r\nHost: localhost\r\nContent-Length: {size}\r\n\r\n".encode())
        left = size
        while left:
            left -= connection.send(piece[: min(left, PIECE)])
        status, _, _ = head(connection)
        if status not in (200, 201, 204):
            raise Failed(f"{path}: status {status}")
        return time.perf_counter() - began


def park(port, path, count):
    """Sends `count` requests, each on a connection of its own; returns the connections, unanswered."""
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    parked = []
    for _ in range(count):
        connection = connect(port)
        connection.sendall(request)
        parked.append(connection)
    return parked
