"""Applications that misuse the protocol: the query is an expression that says how. /odd/NAME calls NAME below."""

import gc
import threading
import time
import weakref
from urllib.parse import unquote

import gates

TEXT = [("Content-Type", "text/plain")]
CASES = {}


def case(function):
    CASES[function.__name__] = function
    return function


def application(environ, start_response):
    return CASES[environ["PATH_INFO"].rpartition("/")[2]](environ, start_response)


# ---- types for the expressions ----


class Str(str):
    """A str with methods that fail: nothing but its characters counts."""

    def encode(self, *_):
        raise AssertionError("encode() of a subclass was called")

    __str__ = __len__ = __iter__ = __getitem__ = __eq__ = __hash__ = encode


class Bytes(bytes):
    def __bytes__(self):
        raise AssertionError("__bytes__() of a subclass was called")

    __len__ = __iter__ = __getitem__ = __eq__ = __hash__ = __bytes__


class List(list):
    def __len__(self):
        raise AssertionError("a method of a list's subclass was called")

    __getitem__ = __bool__ = __len__


class Tuple(tuple):
    def __len__(self):
        raise AssertionError("a method of a tuple's subclass was called")

    __getitem__ = __bool__ = __len__


class Pair:
    """Looks like a tuple of two."""

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return ("X-A", "1")[index]


class Texty:
    """Looks like a str."""

    def __str__(self):
        return "200 OK"

    def encode(self, *_):
        return b"200 OK"


class Bytesy:
    """Looks like bytes."""

    def __bytes__(self):
        return b"body"

    def __len__(self):
        return 4


def value(environ):
    return eval(unquote(environ["QUERY_STRING"]))


class Arguments:
    def __init__(self, *positional, **named):
        self.positional, self.named = positional, named


@case
def starts(environ, start_response):
    """Calls start_response with the Arguments of the query."""
    arguments = value(environ)
    start_response(*arguments.positional, **arguments.named)
    return [b"body"]


@case
def gives(environ, start_response):
    """Returns a list with one chunk, between two others."""
    start_response("200 OK", TEXT)
    return [b"<", value(environ), b">"]


@case
def yields(environ, start_response):
    start_response("200 OK", TEXT)
    chunk = value(environ)
    return (each for each in (b"<", chunk, b">"))


@case
def writes(environ, start_response):
    write = start_response("200 OK", TEXT)
    write(*value(environ).positional)
    return [b"body"]


@case
def returns(environ, start_response):
    start_response("200 OK", TEXT)
    return value(environ)


@case
def reads(environ, start_response):
    """Calls a method of wsgi.input with the Arguments of the query; the error it raises is the answer."""
    name, arguments = value(environ)
    try:
        got = getattr(environ["wsgi.input"], name)(*arguments.positional, **arguments.named)
    except Exception as error:
        got = type(error).__name__
    start_response("200 OK", TEXT)
    return [repr(got).encode()]


class Stubborn:
    """An iterable with a close that is what the query says."""

    def __init__(self, close):
        self.close = close

    def __iter__(self):
        return iter([b"body"])


@case
def closes(environ, start_response):
    start_response("200 OK", TEXT)
    return Stubborn(value(environ))


class Disguised:
    """Its __iter__ returns what the query says."""

    def __init__(self, iterator):
        self.iterator = iterator

    def __iter__(self):
        return self.iterator


@case
def disguises(environ, start_response):
    start_response("200 OK", TEXT)
    return Disguised(value(environ))


class Growing(list):
    """A list that changes while it is sent."""


@case
def changes_its_list(environ, start_response):
    """One chunk makes room for others behind it from another thread; the list must not be read where it is not."""
    start_response("200 OK", TEXT)
    chunks = [b"%d " % number for number in range(10_000)]
    threading.Thread(target=chunks.clear).start()
    return chunks


# ---- what is left of a call when it is over ----

left = {}


@case
def leaves(environ, start_response):
    """Leaves start_response, write and wsgi.input to others."""
    left.update(start_response=start_response, input=environ["wsgi.input"], errors=environ["wsgi.errors"])
    left["write"] = start_response("200 OK", TEXT)
    return [b"left"]


USES = {
    "start_response": lambda: left["start_response"]("200 OK", TEXT),
    "restart": lambda: left["start_response"]("200 OK", TEXT, (ValueError, ValueError("later"), None)),
    "write": lambda: left["write"](b"late"),
    "write_nothing": lambda: left["write"](b""),
    "read": lambda: left["input"].read(),
    "readline": lambda: left["input"].readline(),
    "seek": lambda: left["input"].seek(0),
    "errors": lambda: left["errors"].write("a late line\n"),
}


@case
def uses(environ, start_response):
    """What comes of using what another call has left: in this call's thread, or in one of its own."""
    name, _, place = environ["QUERY_STRING"].partition("-")
    results = []

    def use():
        try:
            results.append(repr(USES[name]()))
        except Exception as error:
            results.append(f"{type(error).__name__}: {error}")

    if place == "thread":
        thread = threading.Thread(target=use)
        thread.start()
        thread.join()
    else:
        use()
    start_response("200 OK", TEXT)
    return [results[0].encode()]


@case
def background(environ, start_response):
    """A thread goes on with write() until that fails; the file says how."""
    write = start_response("200 OK", TEXT)
    path = environ["test.dir"] + "/background"

    def work():
        count = 0
        try:
            while True:
                write(b"x" * 1000)
                count += 1
                time.sleep(0.001)
        except Exception as error:
            with open(path, "w") as file:
                file.write(f"{count} {type(error).__name__}")

    threading.Thread(target=work).start()
    gates.wait(environ["test.dir"], environ["QUERY_STRING"])
    return [b"end"]


@case
def body_from_another_thread(environ, start_response):
    """All threads of a call may read its body and write its response, if only one does at a time."""
    answers = []

    def work():
        answers.append(environ["wsgi.input"].read())
        write = start_response("200 OK", TEXT)
        write(b"written elsewhere: ")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return answers


@case
def many_writers(environ, start_response):
    """All at once: each piece arrives whole."""
    write = start_response("200 OK", TEXT)

    def work(letter):
        for _ in range(50):
            write(letter * 1000)

    threads = [threading.Thread(target=work, args=(letter,)) for letter in (b"a", b"b", b"c", b"d")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return []


@case
def many_readers(environ, start_response):
    """All bytes of the body come to one of them."""
    pieces = []

    def work():
        while piece := environ["wsgi.input"].read(777):
            pieces.append(piece)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    start_response("200 OK", TEXT)
    return [b"%d %d" % (sum(map(len, pieces)), sum(map(sum, pieces)))]


# ---- what a call leaves behind ----


class Witness:
    """Whether it is still there tells whether the call's objects are."""


witnesses = weakref.WeakSet()


@case
def leaves_nothing(environ, start_response):
    """All objects of a call are gone after it: environ, what it returned, its exception."""
    witness = Witness()
    witnesses.add(witness)
    environ["witness"] = witness
    if environ["QUERY_STRING"] == "raise":
        raise ValueError("one that holds the frame")
    if environ["QUERY_STRING"] == "context":
        import contextvars

        contextvars.ContextVar("witness").set(witness)
    write = start_response("200 OK", TEXT)
    if environ["QUERY_STRING"] == "write":
        write(b"body")
    if environ["QUERY_STRING"] == "stream":
        return (chunk for chunk, _ in ((b"body", witness),))
    return [b"body"]


@case
def remaining(environ, start_response):
    gc.collect()
    start_response("200 OK", TEXT)
    return [b"%d" % len(witnesses)]
