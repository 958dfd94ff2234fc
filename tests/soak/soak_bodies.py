"""A gigabyte in, a gigabyte out: memory does not follow."""

import threading

import pytest
from harness import http1
from soak import site

GIB = 1 << 30
PIECE = bytes(range(256)) * 4096
BOUND = 16 * site.MIB


def send(connection, size):
    for _ in range(size // len(PIECE)):
        connection.send(PIECE)


def begin(server, path):
    connection = http1.Connection(server.port, timeout=300)
    connection.send(f"POST {path} HTTP/1.0\r\nHost: localhost\r\nContent-Length: {GIB}\r\n\r\n")
    return connection


@pytest.fixture
def watch(serve, tmp_path):
    server, _ = site.start(serve, tmp_path)
    return site.Watch(server)


class Peak:
    """The highest memory use within a block, above what it was before."""

    def __init__(self, watch):
        self.watch = watch

    def __enter__(self):
        self.before = self.watch.resident()
        with open(f"/proc/{self.watch.worker}/clear_refs", "w") as file:
            file.write("5")
        return self

    def __exit__(self, *_):
        with open(f"/proc/{self.watch.worker}/status") as file:
            highest = int(file.read().partition("VmHWM:")[2].split()[0]) * 1024
        self.grown = highest - self.before
        print(f"memory grew by {self.grown / site.MIB:.1f} MiB")


@pytest.mark.parametrize("path", ["/upload", "/streamed/upload"])
def test_a_gigabyte_is_uploaded(watch, path):
    with Peak(watch) as peak, begin(watch.server, path) as connection:
        send(connection, GIB)
        response = connection.response()
    assert response.text == str(GIB)
    assert peak.grown < BOUND
    watch.settle()


def test_a_gigabyte_is_echoed_as_it_comes(watch):
    with Peak(watch) as peak, begin(watch.server, "/streamed/echo") as connection:
        sender = threading.Thread(target=send, args=(connection, GIB))
        sender.start()
        response = connection.head()
        assert response.status == 200
        have, buffer = 0, connection.buffer
        while buffer:
            offset = have % 256
            assert buffer == PIECE[offset : offset + len(buffer)], f"other bytes than were sent, at {have}"
            have += len(buffer)
            buffer = connection.socket.recv(1 << 19)
        sender.join()
    assert have == GIB
    assert peak.grown < BOUND
    watch.settle()
