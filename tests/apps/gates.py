"""Calls that wait at a gate: /NAME answers once the test has opened the gate NAME (see harness/gate.py)."""

import os
import time
from wsgiref.validate import validator

PATIENCE = 60.0


def note(path):
    """Counts up; a short append is atomic."""
    with open(path, "a") as file:
        file.write("x\n")


def wait(directory, name):
    """Waits at the gate."""
    path = os.path.join(directory, name)
    note(path + ".entered")
    deadline = time.monotonic() + PATIENCE
    while not os.path.exists(path + ".open"):
        if time.monotonic() > deadline:
            raise TimeoutError(f"nobody opened the gate {name}")
        time.sleep(0.005)
    note(path + ".left")


@validator
def application(environ, start_response):
    name = environ["PATH_INFO"].rpartition("/")[2]
    wait(environ["test.dir"], name)
    body = f"through {name}".encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
