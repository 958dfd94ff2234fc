"""Plays the random cases of tests/fuzz/cases.py: /run/.../NUMBER; /report tells how that went."""

import builtins
import hashlib
import io
import json
import os
import sys
import tempfile
import threading

sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from fuzz.cases import Case  # noqa: E402

TEXT = [("Content-Type", "text/plain")]
lock = threading.Lock()
mismatches, closed = [], {}


class Reader:
    """wsgi.input side by side with what it should be like."""

    def __init__(self, case, stream):
        self.case, self.stream = case, stream
        self.model = io.BytesIO(case.body)

    def read(self, name, size):
        if name == "read1":
            return self.read1(size)
        if name == "seek":
            return self.seek(*size)
        ours, theirs = (outcome(stream, name, size) for stream in (self.stream, self.model))
        if ours != theirs:
            self.complain(name, size, ours, theirs)

    def read1(self, size):
        """Any number of bytes will do, if there is one at all."""
        got = outcome(self.stream, "read1", size)
        if isinstance(got, bytes):
            wanted = self.model.read(len(got))
            limit = size if isinstance(size, int) and size >= 0 else len(wanted)
            at_end = self.model.tell() >= len(self.case.body)
            if got != wanted or len(got) > limit or (not got and limit and not at_end):
                self.complain("read1", size, got, wanted)

    def seek(self, offset, whence):
        """As in a file: there is nothing before the beginning (where BytesIO stops)."""
        base = [0, self.model.tell(), len(self.case.body), 0][whence]
        if not self.stream.seekable():
            wanted = "OSError"
        elif base + offset < 0:
            wanted = "ValueError"
        else:
            wanted = outcome(self.model, "seek", (offset, whence))
        got = outcome(self.stream, "seek", (offset, whence))
        if got != wanted:
            self.complain("seek", offset, whence, got, wanted)

    def complain(self, *what):
        with lock:
            mismatches.append(f"case {self.case.number}: " + ", ".join(repr(each)[:200] for each in what))


def outcome(stream, name, size):
    """What a call gives: a value, or the name of an exception."""
    try:
        if name == "next":
            return next(stream, None)
        if name == "tell":
            return stream.tell()
        if name == "seek":
            return stream.seek(*size)
        if name == "readinto":
            room = bytearray(size)
            count = stream.readinto(room)
            return bytes(room[:count])
        return getattr(stream, name)(size)
    except Exception as error:
        return type(error).__name__


class Play:
    """The steps of a case: all that comes before a chunk is played when the chunk is asked for."""

    def __init__(self, case, environ, start_response):
        self.case, self.start_response = case, start_response
        self.reader = Reader(case, environ["wsgi.input"])
        self.write = None

    def chunks(self):
        for kind, *rest in self.case.steps:
            if kind == "chunk":
                yield rest[0]
            elif kind != "close":
                getattr(self, "do_" + kind)(*rest)

    def do_read(self, name, size):
        self.reader.read(name, size)

    def do_start(self, status, headers, again):
        if not again:
            self.write = self.start_response(status, headers)
            return
        try:
            raise LookupError("a change of mind")
        except LookupError:
            self.write = self.start_response(status, headers, sys.exc_info())

    def do_write(self, chunk):
        self.write(chunk)

    def do_raise(self, kind):
        raise getattr(builtins, kind)("raised on purpose")


class Iterator:
    def __init__(self, play):
        self.play, self.chunks = play, play.chunks()

    def __iter__(self):
        return self

    def __next__(self):
        return next(self.chunks)


class Closing(Iterator):
    """One whose close() is counted, and may raise."""

    def close(self):
        case = self.play.case
        with lock:
            closed[case.number] = closed.get(case.number, 0) + 1
        for kind, *rest in case.steps:
            if kind == "close":
                self.play.do_raise(*rest)


def answer(case, play, environ):
    if case.shape in ("list", "tuple", "list_iterator"):
        chunks = list(play.chunks())
        return {"list": chunks, "tuple": tuple(chunks), "list_iterator": iter(chunks)}[case.shape]
    if case.shape in ("file", "filelike"):
        data = b"".join(play.chunks())
        file = tempfile.TemporaryFile() if case.shape == "file" else io.BytesIO()
        file.write(data)
        file.seek(0)
        return environ["wsgi.file_wrapper"](file, 1000)
    if case.shape == "generator":
        return play.chunks()
    return {"iterator": Iterator, "closing": Closing}[case.shape](play)


def report():
    with lock:
        text = json.dumps({"mismatches": mismatches, "closed": closed})
        mismatches.clear()
        closed.clear()
    return text.encode()


def application(environ, start_response):
    name = environ["PATH_INFO"].rpartition("/")[2]
    if name == "report":
        start_response("200 OK", TEXT)
        return [report()]
    case = Case(int(name))
    return answer(case, Play(case, environ, start_response), environ)


# ---- what the conversations of fuzz/wire.py ask for ----


def said(environ, ask):
    """What came of a request, as JSON."""
    body = environ["wsgi.input"]
    read = {"all": body.read, "some": lambda: body.read(100), "none": lambda: b""}[ask["read"]]()
    headers = {key: value for key, value in environ.items() if key.startswith("HTTP_X_") and key != "HTTP_X_ASK"}
    told = {
        "method": environ["REQUEST_METHOD"],
        "path": environ["PATH_INFO"],
        "query": environ["QUERY_STRING"],
        "headers": headers,
        "sha": hashlib.sha256(read).hexdigest(),
        "filler": "f" * ask["size"],
    }
    return json.dumps(told).encode()


def echo(environ, start_response):
    ask = json.loads(environ["HTTP_X_ASK"])
    answer = said(environ, ask)
    headers = [("X-Token", str(ask["token"])), ("Content-Type", "application/json")]
    if ask["shape"] == "length":
        headers.append(("Content-Length", str(len(answer))))
    write = start_response(ask["status"], headers)
    if ask["status"][:3] in ("204", "304"):
        return []
    if ask["shape"] == "write":
        write(answer)
        return []
    if ask["shape"] == "generator":
        return (answer[start : start + 7000] for start in range(0, len(answer), 7000))
    if ask["shape"] == "file":
        file = tempfile.TemporaryFile()
        file.write(answer)
        file.seek(0)
        return environ["wsgi.file_wrapper"](file)
    return [answer]
