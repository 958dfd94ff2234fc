"""A barrier: /NAME?N answers when N calls have come."""

import threading

BARRIERS = {}
LOCK = threading.Lock()


def application(environ, start_response):
    count = int(environ["QUERY_STRING"])
    with LOCK:
        barrier = BARRIERS.setdefault(environ["PATH_INFO"], threading.Barrier(count))
    barrier.wait(timeout=20)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "3")])
    return [b"met"]
