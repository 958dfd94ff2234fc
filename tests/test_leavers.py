"""Clients that leave at a random moment: before, during and after the call, with half a body sent, on HTTP/2 too.

LEAVERS=20000 for the long version.
"""

import os
import random
import socket

import pytest

from harness import config, http1, http2, processes, script
from harness.script import give, odd, play, start
from harness.waiting import until

LEAVERS = int(os.environ.get("LEAVERS", "2000"))
CONF = (
    script.CONF
    + """
    location /body { client_body_buffer_size 8k; wsgi_pass body; }
    location /napper { wsgi_pass napper; }
"""
)
PATHS = [
    "/hello",
    "/napper?1",
    "/napper?5",
    play(start(), give("x" * 100, 200)),
    play(start(), odd("b'x' * 700_000"), odd("b'y' * 700_000")),
    play(start(headers={"Content-Length": "300000"}), odd("b'z' * 300_000")),
]


@pytest.fixture(scope="module")
def server(serve_module):
    second = f"server {{ {config.http2('H2_PORT', tls=False)} {CONF} }}"
    return serve_module(config.site(CONF, pool="wsgi_pool default threads=4 queue=5000;", http=second))


def leave(connection, chance):
    if chance.random() < 0.5:
        connection.reset()
    else:
        connection.close()


def linger(connection, chance):
    """Reads a little, or not at all."""
    connection.socket.settimeout(chance.choice([0.0001, 0.001, 0.005]))
    try:
        for _ in range(chance.randrange(3)):
            connection.socket.recv(chance.choice([1, 100, 65536]))
    except OSError:
        pass


def by_http_1(server, chance):
    connection = http1.Connection(server.port)
    if chance.random() < 0.3:
        size = chance.choice([10, 10_000, 200_000])
        data = http1.encode("/body", "POST", body=b"b" * size)
        connection.send(data[: chance.randrange(len(data))] if chance.random() < 0.7 else data)
    else:
        data = http1.encode(chance.choice(PATHS)) * chance.choice([1, 1, 3])
        connection.send(data if chance.random() < 0.9 else data[: chance.randrange(len(data))])
    linger(connection, chance)
    leave(connection, chance)


def by_http_2(server, chance):
    with http2.Connection(server.ports["H2_PORT"]) as connection:
        numbers = [connection.request(chance.choice(PATHS)) for _ in range(5)]
        half = connection.request("/body", "POST", body=b"b" * 1000, end=False)
        connection.socket.settimeout(0.002)
        try:
            for _ in range(chance.randrange(4)):
                connection._receive()
        except socket.timeout:
            pass
        for number in [*numbers, half]:
            stream = connection.streams[number]
            if chance.random() < 0.5 and not stream.ended:
                connection.cancel(number)


def crowd(server, count, seed):
    chance = random.Random(seed)
    while count > 0:
        if chance.random() < 0.05:
            by_http_2(server, chance)
            count -= 6
        else:
            by_http_1(server, chance)
            count -= 1


def settled(worker, descriptors):
    until(lambda: processes.descriptors(worker) <= descriptors + 1, "all connections and bodies are closed", 60)


def test_nobody_who_left_is_missed(server):
    (worker,) = server.worker_pids()
    assert http1.fetch(server, "/hello").status == 200
    descriptors = processes.descriptors(worker)
    crowd(server, LEAVERS // 2, seed=1)
    settled(worker, descriptors)
    resident = processes.resident(worker)
    crowd(server, LEAVERS // 2, seed=2)
    settled(worker, descriptors)
    assert processes.resident(worker) - resident < 16 << 20, "memory has levelled off"
    assert server.worker_pids() == [worker]
    for path in PATHS:
        response = http1.fetch(server, path)
        assert response.status == 200 and response.complete
