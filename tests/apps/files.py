"""Sends a file of the test's directory by wsgi.file_wrapper: /NAME?position=5&length=10. A note tells of its close()."""

import os
import threading
from urllib.parse import parse_qsl

import gates

here = threading.local()


class Noted:
    """A file whose close() is noted, with whether it came on the thread of the call."""

    def __init__(self, path, note):
        self.file = open(path, "rb")
        self.read, self.fileno, self.tell = self.file.read, self.file.fileno, self.file.tell
        self.thread, self.note = threading.get_ident(), note

    def close(self):
        self.file.close()
        gates.note(f"{self.note}.closed" if threading.get_ident() == self.thread else f"{self.note}.elsewhere")


def application(environ, start_response):
    options = dict(parse_qsl(environ["QUERY_STRING"]))
    name = environ["PATH_INFO"].rpartition("/")[2]
    path = os.path.join(environ["test.dir"], name)
    file = Noted(path, os.path.join(environ["test.dir"], options.get("note", "unnoted")))
    file.file.seek(int(options.get("position", 0)))
    headers = [("Content-Type", options.get("type", "application/octet-stream")), ("ETag", '"one"')]
    if "length" in options:
        headers.append(("Content-Length", options["length"]))
    start_response("200 OK", headers)
    return environ["wsgi.file_wrapper"](file)
