"""Starts processes: /N starts N of them, each of which exits with 3, and tells how they ended; /open/WAY tells what a child
that was started that way has open."""

import ctypes
import os
import subprocess

LISTING = "for each in /proc/$$/fd/*; do readlink $each; done > %s"


def spawn(command):
    os.waitpid(os.posix_spawn("/bin/sh", ["sh", "-c", command], os.environ), 0)


def popen(command):
    libc = ctypes.CDLL(None)
    libc.popen.restype = ctypes.c_void_p
    libc.pclose.argtypes = [ctypes.c_void_p]
    libc.pclose(libc.popen(command.encode(), b"r"))


WAYS = {
    "system": os.system,
    "spawn": lambda command: os.spawnv(os.P_WAIT, "/bin/sh", ["sh", "-c", command]),
    "posix_spawn": spawn,
    "os.popen": lambda command: os.popen(command).close(),
    "popen": popen,
    "subprocess": lambda command: subprocess.call(command, shell=True),
}


def listing(environ, way):
    path = os.path.join(environ["test.dir"], "open")
    WAYS[way](LISTING % path)
    with open(path) as file:
        return file.read()


def exits(count):
    statuses = [subprocess.run(["sh", "-c", "exit 3"]).returncode for _ in range(count)]
    return " ".join(map(str, statuses))


def application(environ, start_response):
    first, _, last = environ["PATH_INFO"].rpartition("/")
    body = (listing(environ, last) if first else exits(int(last))).encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
