"""What the soak tests load: /hello, /sleep?SECONDS, /stream?BYTES, /drip?COUNT, /file?PATH, /redirect?URI,
/upload, /echo, /counts.

`counts` says how many calls were begun, and how many of their bodies were closed.
"""

import threading
import time
from urllib.parse import unquote

PIECE = 65536
BLOCK = bytes(range(256)) * (PIECE // 256)
TEXT = [("Content-Type", "text/plain")]

lock = threading.Lock()
counts = {"begun": 0, "closed": 0}


def count(what):
    with lock:
        counts[what] += 1


class Body:
    """A streamed body whose close() is counted."""

    def __init__(self, pieces):
        self.pieces = pieces

    def __iter__(self):
        return iter(self.pieces)

    def close(self):
        count("closed")


def pieces(size):
    for _ in range(size // PIECE):
        yield BLOCK
    if size % PIECE:
        yield BLOCK[: size % PIECE]


def drip(count):
    for _ in range(count):
        yield b"drop\n"
        time.sleep(0.001)


def reads(stream):
    """A body in pieces, as far as it comes: what a client that leaves does not send is not missed."""
    while True:
        try:
            piece = stream.read(PIECE)
        except OSError:
            return
        if not piece:
            return
        yield piece


def answer(environ, way, query):
    """The body, and its length if that is known."""
    if way == "sleep":
        time.sleep(float(query))
    elif way == "stream":
        return Body(pieces(int(query))), int(query)
    elif way == "drip":
        return Body(drip(int(query))), None
    elif way == "file":
        return environ["wsgi.file_wrapper"](open(query, "rb"), PIECE), None
    elif way == "echo":
        return Body(reads(environ["wsgi.input"])), None
    elif way == "upload":
        size = sum(map(len, reads(environ["wsgi.input"])))
        return [str(size).encode()], len(str(size))
    elif way == "counts":
        text = f"{counts['begun']} {counts['closed']}".encode()
        return [text], len(text)
    return [b"hello\n"], 6


def application(environ, start_response):
    way = environ["PATH_INFO"].rpartition("/")[2]
    if way != "counts":
        count("begun")
    query = environ["QUERY_STRING"]
    body, length = answer(environ, way, query)
    headers = TEXT + ([] if length is None else [("Content-Length", str(length))])
    if way == "redirect":
        headers.append(("X-Accel-Redirect", unquote(query)))
    start_response("200 OK", headers)
    return body
