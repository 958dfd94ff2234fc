"""Evaluates what the request asks for, inside the application's interpreter, and answers it as JSON."""

import json
import locale  # noqa: F401  (what is evaluated may use these)
import os  # noqa: F401
import signal  # noqa: F401
import subprocess
import sys
import threading
from urllib.parse import unquote

AT_IMPORT = {"main": threading.current_thread() is threading.main_thread(), "native": threading.get_native_id()}
LOCAL = threading.local()


def child(code, *arguments):
    """What a Python process says that runs `code`."""
    return subprocess.check_output([sys.executable, *arguments, "-c", code], text=True).strip()


def visits():
    """How many calls this thread has seen, by its thread-local storage, and which Thread object it is."""
    LOCAL.count = getattr(LOCAL, "count", 0) + 1
    LOCAL.thread = getattr(LOCAL, "thread", threading.current_thread())
    return [threading.get_native_id(), LOCAL.count, LOCAL.thread is threading.current_thread()]


def deep(levels):
    return levels if levels == 0 else deep(levels - 1)


def in_processes(numbers):
    """The squares of numbers, each from a process of a pool."""
    import multiprocessing

    with multiprocessing.get_context("spawn").Pool(2) as pool:
        return pool.map(abs, numbers)


def application(environ, start_response):
    answer = json.dumps(eval(unquote(environ["QUERY_STRING"]))).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(answer)))])
    return [answer]
