"""Many requests quickly: pipelined on a few connections, each answer looked at."""

import re
import selectors
import socket

from harness import http1

STATUS = re.compile(rb"HTTP/1\.1 (\d\d\d) ")


class Pipeline:
    """A connection with `depth` requests under way."""

    def __init__(self, port, request, depth):
        self.connection = http1.Connection(port)
        self.connection.socket.setblocking(True)
        self.request, self.depth = request, depth
        self.answered = self.under_way = 0
        self.tail = b""

    def ask(self, count):
        self.connection.send(self.request * count)
        self.under_way += count

    def receive(self):
        """Counts the answers that have come; a status other than 200 is an error."""
        data = self.connection.socket.recv(1 << 18)
        if not data:
            raise EOFError(f"the server closed a connection with {self.under_way} requests under way")
        text = self.tail + data
        statuses = STATUS.findall(text)
        if any(status != b"200" for status in statuses):
            raise AssertionError(f"statuses {set(statuses)}")
        end = max((match.end() for match in STATUS.finditer(text)), default=0)
        # A status line may be cut in two, but is never counted twice.
        self.tail = text[max(end, len(text) - 16) :]
        self.answered += len(statuses)
        self.under_way -= len(statuses)


def requests(server, count, path="/hello", connections=16, depth=16):
    """Makes `count` requests, all of which must be answered with 200."""
    pipelines = [Pipeline(server.port, http1.encode(path), depth) for _ in range(connections)]
    selector = selectors.DefaultSelector()
    left = count
    for pipeline in pipelines:
        selector.register(pipeline.connection.socket, selectors.EVENT_READ, pipeline)
        step = min(left, depth)
        pipeline.ask(step)
        left -= step
    while any(pipeline.under_way for pipeline in pipelines):
        ready = selector.select(30)
        if not ready:
            raise socket.timeout("no answer for 30 s")
        for key, _ in ready:
            key.data.receive()
            step = min(left, depth - key.data.under_way)
            if step > depth // 2 or step == left:
                if step:
                    key.data.ask(step)
                left -= step
    selector.close()
    for pipeline in pipelines:
        pipeline.connection.close()
    assert sum(pipeline.answered for pipeline in pipelines) == count
