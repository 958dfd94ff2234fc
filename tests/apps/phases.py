"""Notes in the file $PHASES which thread runs which phase of a call's life."""

import atexit
import itertools
import json
import os
import threading

NUMBERS = itertools.count()


def note(phase, call=None):
    with open(os.environ["PHASES"], "a") as file:
        file.write(json.dumps([phase, os.getpid(), threading.get_native_id(), call]) + "\n")


note("import")
atexit.register(note, "atexit")


class Body:
    """An iterable that notes iteration, close() and its own end."""

    def __init__(self, call):
        self.call = call
        self.rest = [b"first ", b"second"]

    def __iter__(self):
        return self

    def __next__(self):
        note("iterate", self.call)
        if not self.rest:
            raise StopIteration
        return self.rest.pop(0)

    def close(self):
        note("close", self.call)

    def __del__(self):
        note("del", self.call)


def application(environ, start_response):
    call = next(NUMBERS)
    note("call", call)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return Body(call)
