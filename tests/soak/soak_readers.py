"""200 clients that read 10 KB/s of 10 MiB each: four threads serve them and are free again at once."""

import selectors
import time

from harness import http1
from harness.waiting import until
from soak import site

READERS, SIZE, RATE = 200, 10 * site.MIB, 10_000
SECONDS = 20
# wsgi_buffers for each reader, and what nginx itself holds for a connection.
BOUND = READERS * (256 + 64) * 1024


def begin(server):
    connection = http1.Connection(server.port)
    connection.request(f"/stream?{SIZE}")
    return connection


def trickle(readers, seconds, each_time):
    """Reads from all of them at RATE; returns how many bytes each has read."""
    read = dict.fromkeys(readers, 0)
    end, step = time.monotonic() + seconds, 0.2
    while time.monotonic() < end:
        began = time.monotonic()
        for reader in readers:
            read[reader] += len(reader.socket.recv(int(RATE * step)))
        each_time()
        time.sleep(max(0.0, step - (time.monotonic() - began)))
    return read


def test_slow_readers_hold_no_thread(serve, tmp_path):
    server, _ = site.start(serve, tmp_path, threads=4)
    watch = site.Watch(server)
    memory, descriptors = watch.resident(), watch.descriptors()
    slowest, peak = [0.0], [0]

    def hello():
        began = time.monotonic()
        watch.check()
        slowest[0] = max(slowest[0], time.monotonic() - began)
        peak[0] = max(peak[0], watch.resident())

    began = time.monotonic()
    readers = [begin(server) for _ in range(READERS)]
    until(lambda: hello() or watch.counts()[1] == READERS, "all calls have ended, though no reader has", 120)
    print(f"{READERS} calls of {SIZE / site.MIB:.0f} MiB ended after {time.monotonic() - began:.1f} s")
    slowest[0] = 0.0  # until then /hello stood in the queue behind them
    read = trickle(readers, SECONDS, hello)
    assert all(count > RATE * SECONDS / 2 for count in read.values()), "nobody starves"
    print(f"slowest /hello {slowest[0] * 1e3:.0f} ms, memory +{(peak[0] - memory) / site.MIB:.1f} MiB")
    assert slowest[0] < 0.5
    assert peak[0] - memory < BOUND
    finish(readers[:20], read)
    for reader in readers[20:]:
        reader.reset()
    watch.settle()
    until(lambda: watch.descriptors() <= descriptors + 1, "the temporary files are closed")
    assert [path for path in (server.dir / "wsgi_temp").rglob("*") if path.is_file()] == []


def finish(readers, read):
    """Reads the rest as fast as it comes; it must be all of it."""
    left = {reader: SIZE - count for reader, count in read.items() if reader in readers}
    selector = selectors.DefaultSelector()
    for reader in readers:
        selector.register(reader.socket, selectors.EVENT_READ, reader)
    # The response's head was counted too.
    while any(count > 0 for count in left.values()):
        for key, _ in selector.select(30):
            data = key.data.socket.recv(1 << 18)
            assert data, f"a response ended {left[key.data]} bytes too early"
            left[key.data] -= len(data)
    selector.close()
    for reader in readers:
        reader.close()
