"""Which process and thread runs what."""

import atexit
import os
import threading


def pid(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]


def application(environ, start_response):
    path = os.path.join(environ["test.dir"], "atexit")

    @atexit.register
    def note():
        with open(path, "w") as file:
            file.write(f"{os.getpid()} {threading.get_native_id()}")

    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"registered"]
