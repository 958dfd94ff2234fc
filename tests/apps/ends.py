"""Ends the worker that runs it, in the way that the path names."""

import ctypes
import os
import platform
import signal
import sys

libc = ctypes.CDLL(None)
EXIT_GROUP = {"x86_64": 231, "aarch64": 94}.get(platform.machine())

WAYS = {
    "os_exit_0": lambda: os._exit(0),
    "os_exit_1": lambda: os._exit(1),
    "os_exit_2": lambda: os._exit(2),
    "os_exit_255": lambda: os._exit(255),
    "c_exit_2": lambda: libc.exit(2),
    "c_quick_exit_2": lambda: libc._exit(2),
    "system_call_2": lambda: libc.syscall(EXIT_GROUP, 2),
    "abort": os.abort,
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "terminate": lambda: os.kill(os.getpid(), signal.SIGTERM),
    "segfault": lambda: ctypes.string_at(0),
    "fatal_error": lambda: ctypes.pythonapi.Py_FatalError(b"asked for"),
    "system_exit_2": lambda: sys.exit(2),
}


def application(environ, start_response):
    way = environ["PATH_INFO"].rpartition("/")[2]
    if way in WAYS:
        WAYS[way]()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
