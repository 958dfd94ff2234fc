"""Reads its body in the way that the query names, and tells what it got."""

import hashlib
import json
import random
import time
from urllib.parse import parse_qs
from wsgiref.validate import validator


def read_all(stream, size):
    return [stream.read(size)]


def read_by(stream, size):
    return list(iter(lambda: stream.read(size), b""))


def readline(stream, _):
    return list(iter(stream.readline, b""))


def readlines(stream, size):
    return stream.readlines(size)


def iterate(stream, _):
    return list(stream)


def mixed(stream, size):
    """Many reads of one size, and others between them."""
    chance, pieces = random.Random(size), []
    while not pieces or pieces[-1]:
        kind = chance.random()
        if kind < 0.8:
            pieces.append(stream.read(size))
        elif kind < 0.85:
            pieces.append(stream.read(chance.choice([1, 1000, 32_768, size - 1, size + 1])))
        elif kind < 0.9:
            pieces.append(stream.read1(size))
        elif kind < 0.95:
            pieces.append(stream.readline())
        else:
            buffer = bytearray(size)
            pieces.append(bytes(buffer[: stream.readinto(buffer)]))
        if chance.random() < 0.2:
            time.sleep(0.001)
    return pieces


def nothing(stream, _):
    return []


HOW = {
    "all": read_all,
    "by": read_by,
    "readline": readline,
    "readlines": readlines,
    "iterate": iterate,
    "mixed": mixed,
    "nothing": nothing,
}


def answer(environ, start_response):
    query = parse_qs(environ["QUERY_STRING"])
    how = HOW[query.get("how", ["by"])[0]]
    size = int(query.get("size", [10**9])[0])
    stream = environ["wsgi.input"]
    pieces = how(stream, size)
    rest = b"" if how is nothing else stream.read(10)
    whole = b"".join(pieces)
    body = json.dumps(
        {
            "length": len(whole),
            "sha": hashlib.sha256(whole).hexdigest(),
            "pieces": [piece.decode("latin-1") for piece in pieces] if len(whole) < 4096 else len(pieces),
            "rest": rest.decode("latin-1"),
            "content_length": environ.get("CONTENT_LENGTH"),
        }
    ).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


application = validator(answer)


def late(environ, start_response):
    """Reads its body only while the response is iterated."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield b"body: "
    yield environ["wsgi.input"].read(10**9)


def bare(environ, start_response):
    """The calls that wsgiref.validate does not allow, and frameworks make: read() and readline(SIZE)."""
    stream = environ["wsgi.input"]
    parts = [stream.read(0), stream.readline(3), stream.readline(), stream.read(-1), stream.read()]
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps([part.decode("latin-1") for part in parts]).encode()]


def length(environ, start_response):
    """Reads all of its body by the call that the query names."""
    stream, how = environ["wsgi.input"], environ["QUERY_STRING"]
    if how == "readline":
        got = len(stream.readline())
    elif how == "readlines":
        got = sum(map(len, stream.readlines()))
    else:
        got = len(stream.read(*([1 << 40] if how == "huge" else [])))
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(got).encode()]
