"""Calls that take their time: /sleep?SECONDS waits, /spin?SECONDS computes, /interval?SECONDS sets the interpreter's
switch interval, /gate?PATH waits until that file exists; anything else answers at once."""

import os
import sys
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


WAYS = {
    "sleep": lambda query: time.sleep(float(query)),
    "spin": lambda query: spin(float(query)),
    "interval": lambda query: sys.setswitchinterval(float(query)),
    "gate": gate,
}
HEADERS = [("Content-Type", "text/plain"), ("Content-Length", "12")]


def application(environ, start_response):
    way = WAYS.get(environ["PATH_INFO"].rpartition("/")[2])
    if way:
        way(environ["QUERY_STRING"])
    start_response("200 OK", HEADERS)
    return [b"Hello World!"]
