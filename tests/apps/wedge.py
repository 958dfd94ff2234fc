"""Calls that take too long, each in its own way."""

import ctypes
import hashlib
import os
import time
from pathlib import Path
from urllib.parse import parse_qs

import ngx_wsgi


def note(environ, text):
    with Path(environ["test.dir"], "notes").open("a") as notes:
        notes.write(text + "\n")


def loop(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def hold_the_gil(seconds):
    """One C call that lets nobody else run."""
    ctypes.PyDLL(None).usleep(int(seconds * 1_000_000))


def application(environ, start_response):
    query = parse_qs(environ["QUERY_STRING"])
    seconds = float(query.get("s", ["30"])[0])
    kind = environ["PATH_INFO"].rpartition("/")[2]
    note(environ, f"{kind} begins")
    try:
        if kind == "loop":
            loop(seconds)
        elif kind == "sleep":
            time.sleep(seconds)
        elif kind == "hold":
            hold_the_gil(seconds)
        elif kind == "catch":
            try:
                loop(seconds)
            except ngx_wsgi.RequestTimeout:
                note(environ, "caught")
        elif kind == "stubborn":
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                try:
                    loop(end - time.monotonic())
                except ngx_wsgi.RequestTimeout:
                    pass
        elif kind == "stream":
            start_response("200 OK", [("Content-Type", "text/plain")])
            return stream(seconds)
    except ngx_wsgi.RequestTimeout:
        note(environ, f"{kind} interrupted")
        raise
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{os.getpid()} {hashlib.md5(kind.encode()).hexdigest()}".encode()]


def stream(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield b"still here\n"
        time.sleep(0.1)
