"""Calls that take their time: /sleep?SECONDS waits, /spin?SECONDS computes, /stream?SECONDS yields five chunks so far
apart, /tick?SECONDS starts a thread that computes a little so often (0 ends it), /interval?SECONDS sets the interpreter's
switch interval, /gate?PATH waits until that file exists; anything else answers at once."""

import os
import sys
import threading
import time

PATIENCE = 300.0


def spin(seconds):
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        for _ in range(500):
            pass


def gate(path):
    deadline = time.monotonic() + PATIENCE
    while not os.path.exists(path) and time.monotonic() < deadline:
        time.sleep(0.01)


TICKING = threading.Event()


def tick(seconds):
    while not TICKING.wait(seconds):
        spin(0.0001)


def start_ticking(query):
    if float(query) == 0:
        TICKING.set()
    else:
        TICKING.clear()
        threading.Thread(target=tick, args=(float(query),), daemon=True).start()


def stream(seconds):
    for _ in range(5):
        yield b"x"
        time.sleep(seconds)


WAYS = {
    "sleep": lambda query: time.sleep(float(query)),
    "spin": lambda query: spin(float(query)),
    "interval": lambda query: sys.setswitchinterval(float(query)),
    "gate": gate,
    "tick": start_ticking,
}
HEADERS = [("Content-Type", "text/plain"), ("Content-Length", "12")]


def application(environ, start_response):
    if environ["PATH_INFO"] == "/stream":
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
        return stream(float(environ["QUERY_STRING"]))
    way = WAYS.get(environ["PATH_INFO"].rpartition("/")[2])
    if way:
        way(environ["QUERY_STRING"])
    start_response("200 OK", HEADERS)
    return [b"Hello World!"]
