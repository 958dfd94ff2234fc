"""Applications that fail in odd ways: /hostile/NAME calls the function NAME below, with the query in `environ`."""

import ast
import copy
import json
import pickle
import sys
import threading
from urllib.parse import unquote

TEXT = [("Content-Type", "text/plain")]
CASES = {}


class Own(BaseException):
    """Not an Exception: `except Exception` lets it pass."""


def case(function):
    CASES[function.__name__] = function
    return function


def application(environ, start_response):
    return CASES[environ["PATH_INFO"].rpartition("/")[2]](environ, start_response)


def made(environ):
    """The exception that the query describes."""
    return eval(unquote(environ["QUERY_STRING"]))


# ---- exceptions, wherever Python code runs ----


class Answer:
    """An iterable that raises where it is told to."""

    def __init__(self, where, error, chunks=()):
        self.where, self.error, self.chunks = where, error, iter(chunks)

    def maybe(self, where):
        if self.where == where:
            raise self.error

    def __iter__(self):
        self.maybe("iter")
        return self

    def __next__(self):
        for chunk in self.chunks:
            return chunk
        self.maybe("next")
        raise StopIteration

    def close(self):
        self.maybe("close")


class Dying(Answer):
    """One whose end raises, too."""

    def __del__(self):
        raise self.error


class NoClose(Answer):
    """One whose close cannot even be looked up."""

    close = property(lambda self: self.maybe("close"))


@case
def at_call(environ, start_response):
    raise made(environ)


@case
def after_start(environ, start_response):
    start_response("200 OK", TEXT)
    raise made(environ)


def answers(name, kind, where, *chunks):
    def answer(environ, start_response):
        start_response("200 OK", TEXT)
        return kind(where, made(environ), chunks)

    CASES[name] = answer


answers("in_iter", Answer, "iter")
answers("in_first_next", Answer, "next")
answers("in_later_next", Answer, "next", b"first")
answers("in_close", Answer, "close")
answers("in_later_close", Answer, "close", b"first")
answers("in_looking_close_up", NoClose, "close", b"first")
answers("in_del", Dying, None, b"first")


@case
def in_a_generator_s_finally(environ, start_response):
    """Raises while it is closed: the client has got all that Content-Length promised, or left."""
    start_response("200 OK", [*TEXT, ("Content-Length", "5")])

    def generator():
        try:
            yield b"first"
            yield b"more"
        finally:
            raise made(environ)

    return generator()


@case
def ignores_its_end(environ, start_response):
    """A generator that goes on when it is told to end."""
    start_response("200 OK", TEXT)
    error = made(environ)

    def generator():
        try:
            yield b"first"
            raise error
        except BaseException:
            yield b"second"

    return generator()


class Mute(Exception):
    """Neither str() nor repr() of it works."""

    def __str__(self):
        raise Own("no text")

    __repr__ = __str__


class Exits(Exception):
    """Its text ends the process, it thinks."""

    def __str__(self):
        sys.exit(7)

    __repr__ = __str__


class Endless(Exception):
    """Its text needs itself."""

    def __str__(self):
        return str(self)


def chain(length):
    """An exception with a long history."""
    error = ValueError("the oldest")
    for number in range(length):
        newer = ValueError(f"number {number}")
        newer.__context__ = error
        error = newer
    return error


def circle():
    """Two exceptions, each the cause of the other."""
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    return first


# ---- recursion ----


class Nested(list):
    """Lists in lists, so deep that their end recurses, too."""

    def __init__(self, depth):
        super().__init__()
        inner = []
        for _ in range(depth):
            inner = [inner]
        self.append(inner)


def recurse():
    return recurse()


class Attribute:
    """Python calls C calls Python..."""

    def __getattr__(self, name):
        return getattr(self, name + "x")


class Compared:
    def __eq__(self, other):
        return [self] == [other]


def unpickled(depth):
    return pickle.loads(b"(" * depth + b"t" * depth + b".")


DEEP = {
    "python": recurse,
    "getattr": lambda: Attribute().a,
    "equal": lambda: Compared() == Compared(),
    "repr": lambda: repr(Nested(200_000)),
    "copy": lambda: copy.deepcopy(Nested(100_000)),
    "json": lambda: json.loads("[" * 200_000),
    "dumps": lambda: json.dumps(Nested(100_000)),
    "pickle": lambda: pickle.dumps(Nested(100_000)),
    "unpickle": lambda: unpickled(100_000),
    "ast": lambda: ast.parse("(" * 100_000),
    "compile": lambda: compile("-" * 100_000 + "1", "<deep>", "eval"),
    "literal": lambda: ast.literal_eval("+" * 5_000 + "1"),
    "isinstance": lambda: isinstance(1, tupled(200_000)),
}


def tupled(depth):
    inner = ()
    for _ in range(depth):
        inner = (inner,)
    return inner


@case
def deep(environ, start_response):
    """What a deep recursion ends in."""
    try:
        DEEP[environ["QUERY_STRING"]]()
        end = "nothing"
    except Exception as error:
        end = type(error).__name__
    start_response("200 OK", TEXT)
    return [end.encode()]


@case
def deep_and_uncaught(environ, start_response):
    start_response("200 OK", TEXT)
    DEEP[environ["QUERY_STRING"]]()
    return [b"nothing"]


@case
def deep_in_a_step(environ, start_response):
    """close() and the log need some stack, too, when it has just run out."""
    start_response("200 OK", TEXT)

    def generator():
        yield b"first"
        recurse()

    return generator()


@case
def deeper_than_usual(environ, start_response):
    """A library that raises the limit finds the stack for it."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(6_000)
    try:
        nest = Nested(0)
        for _ in range(1_500):
            nest = [nest]
        depth = repr(nest).count("[")
        steps = len(list(threaded(2_500)))
    finally:
        sys.setrecursionlimit(before)
    start_response("200 OK", TEXT)
    return [b"%d %d" % (depth, steps)]


def threaded(depth):
    yield depth
    if depth:
        yield from threaded(depth - 1)


# ---- more than usual ----


@case
def huge(environ, start_response):
    """One bytes object of so many MiB."""
    body = bytes(range(256)) * 4096 * int(environ["QUERY_STRING"])
    start_response("200 OK", [("Content-Type", "application/octet-stream")])
    return [body]


@case
def huge_streamed(environ, start_response):
    """The same from a generator."""
    body = bytes(range(256)) * 4096 * int(environ["QUERY_STRING"])
    start_response("200 OK", [("Content-Type", "application/octet-stream")])
    return (part for part in (body[:1000], body))


@case
def many_headers(environ, start_response):
    count = int(environ["QUERY_STRING"])
    start_response("200 OK", TEXT + [(f"X-Number-{number}", f"value {number}") for number in range(count)])
    return [b"many"]


@case
def long_header(environ, start_response):
    start_response("200 OK", [*TEXT, ("X-Long", "v" * int(environ["QUERY_STRING"]))])
    return [b"long"]


@case
def long_reason(environ, start_response):
    start_response("200 " + "r" * int(environ["QUERY_STRING"]), TEXT)
    return [b"long"]


@case
def endless_empties(environ, start_response):
    """Gives nothing, for ever; the test sees from a gate's file that it has been closed."""
    start_response("200 OK", TEXT)

    def generator():
        try:
            while True:
                yield b""
                threading.Event().wait(0.002)
        finally:
            with open(environ["test.dir"] + "/empties.left", "a") as file:
                file.write("x\n")

    return generator()


# ---- an environ that is not treated well ----


@case
def spoils_environ(environ, start_response):
    environ.clear()
    environ[1] = None
    start_response("200 OK", TEXT)
    return [b"spoilt"]


kept = []


@case
def keeps_environ(environ, start_response):
    """All environs so far are different ones, and stay as they were."""
    kept.append(environ)
    environ["number"] = len(kept)
    whole = [each["number"] for each in kept] == list(range(1, len(kept) + 1))
    start_response("200 OK", TEXT)
    return [b"%d %d %r" % (len(kept), len({id(each) for each in kept}), whole)]
