"""Applications that change the state of the process, the thread or the interpreter. /state/NAME calls the function NAME below."""

import asyncio
import atexit
import contextvars
import decimal
import faulthandler
import gc
import hashlib
import os
import re
import sys
import threading
import time
import warnings
from urllib.parse import unquote

import gates

TEXT = [("Content-Type", "text/plain")]
CASES = {}


def case(function):
    CASES[function.__name__] = function
    return function


def application(environ, start_response):
    return CASES[environ["PATH_INFO"].rpartition("/")[2]](environ, start_response)


def answer(start_response, text="done"):
    start_response("200 OK", TEXT)
    return [str(text).encode()]


@case
def does(environ, start_response):
    """Executes what the query says."""
    scope = {"environ": environ, **globals()}
    exec(unquote(environ["QUERY_STRING"]), scope)
    return answer(start_response, scope.get("result", "done"))


@case
def says(environ, start_response):
    """Writes to all streams."""
    word = environ["QUERY_STRING"]
    print(f"stdout {word}")
    print(f"stderr {word}", file=sys.stderr)
    print(f"errors {word}", file=environ["wsgi.errors"])
    return answer(start_response)


# ---- tracing ----

calls = {"trace": 0, "profile": 0}


def trace(frame, event, argument):
    calls["trace"] += 1
    return trace


def profile(frame, event, argument):
    calls["profile"] += 1


def failing(frame, event, argument):
    raise ValueError("the trace function fails")


# ---- what belongs to one request ----

variable = contextvars.ContextVar("variable", default="unset")
local = threading.local()


def state():
    """What a call finds at its beginning."""
    return [
        variable.get(),
        str(decimal.getcontext().prec),
        str(sys.exc_info()[0]),
        "tracing" if sys.gettrace() or sys.getprofile() else "",
        getattr(local, "value", "unset"),
    ]


def change(value):
    variable.set(value)
    decimal.getcontext().prec = 3
    local.value = value


@case
def finds(environ, start_response):
    return answer(start_response, " ".join(state()))


@case
def changes(environ, start_response):
    """Changes what belongs to a context, in the call, a step or close(); each sees what came before."""
    place = environ["QUERY_STRING"]
    seen = []

    class Body:
        def __iter__(self):
            yield b"first "
            if place == "step":
                change("step")
            seen.append(variable.get())
            yield seen[-1].encode()

        def close(self):
            seen.append(variable.get())
            if place == "close":
                change("close")
            with open(environ["test.dir"] + "/seen", "w") as file:
                file.write(" ".join(seen))

    if place == "call":
        change("call")
    start_response("200 OK", TEXT)
    try:
        raise ValueError("handled, while the response is made")
    except ValueError:
        if place == "handling":
            return (sys.exc_info()[0].__name__.encode() for _ in range(1))
        return Body()


@case
def runs_a_loop(environ, start_response):
    """asyncio, as many libraries use it below."""

    async def work():
        variable.set("in a task")
        await asyncio.sleep(0.01)
        return await asyncio.get_running_loop().run_in_executor(None, threading.current_thread)

    return answer(start_response, asyncio.run(work()).name)


# ---- calls that take long ----


def hold_the_gil(seconds):
    """One instruction of the interpreter that takes about so long."""
    number, size = 7, 1 << 14
    while True:
        factor = number**size
        begin = time.perf_counter()
        factor * factor
        took = time.perf_counter() - begin
        if took > seconds / 3:
            return took
        size *= 2


@case
def holds_the_gil(environ, start_response):
    """Until the gate opens, in pieces of a second or so in which no other thread can run Python."""
    path = environ["test.dir"] + "/" + environ["QUERY_STRING"]
    gates.note(path + ".entered")
    longest = 0
    deadline = time.monotonic() + 60
    while not os.path.exists(path + ".open") and time.monotonic() < deadline:
        longest = max(longest, hold_the_gil(1))
    return answer(start_response, longest)


@case
def backtracks(environ, start_response):
    """A regular expression that takes for ever, or nearly, with the GIL."""
    gates.note(environ["test.dir"] + "/backtracks.entered")
    re.match(r"(a|aa)+$", "a" * 34 + "b")
    return answer(start_response)


@case
def derives(environ, start_response):
    """Long work without the GIL."""
    gates.note(environ["test.dir"] + "/derives.entered")
    return answer(start_response, hashlib.pbkdf2_hmac("sha512", b"password", b"salt", 1_500_000).hex())


@case
def spins(environ, start_response):
    """Python code that never waits, until the gate opens."""
    path = environ["test.dir"] + "/" + environ["QUERY_STRING"]
    gates.note(path + ".entered")
    count = 0
    deadline = time.monotonic() + 60
    while True:
        count += 1
        if not count % 100_000 and (os.path.exists(path + ".open") or time.monotonic() > deadline):
            return answer(start_response)


# ---- the end ----


@case
def registers(environ, start_response):
    """Functions for the interpreter's end, some of which fail."""
    path = environ["test.dir"] + "/atexit"

    def fails(error):
        gates.note(path)
        raise error

    atexit.register(gates.note, path)
    for error in (SystemExit(3), ValueError("at exit"), KeyboardInterrupt(), OSError("last")):
        atexit.register(fails, error)
    return answer(start_response)
