"""Writes what the query says in the way that the path names."""

import logging
import sys
import threading
from urllib.parse import unquote

LOGGER = logging.getLogger("loud")


def long_text(count):
    return "".join(f"<{number}>" for number in range(count)) + "long-end"


def in_a_thread(text):
    thread = threading.Thread(target=lambda: print(text, file=sys.stderr))
    thread.start()
    thread.join()


def file_like(name):
    """What libraries ask of sys.stdout and sys.stderr."""
    stream = getattr(sys, name)
    stream.flush()
    assert stream.isatty() is False
    assert stream.writable() and not stream.readable()
    assert stream.encoding.lower().replace("-", "") == "utf8"
    assert stream.write("two\u20ac\n") == 5
    stream.writelines(["a\n", "b\n"])
    return "ok"


def write(environ, how, text):
    errors = environ["wsgi.errors"]
    if how == "errors":
        errors.write(text if text.endswith("\n") else text + "\n")
        errors.flush()
    elif how == "errors-lines":
        errors.writelines([text, "\n"])
    elif how == "errors-long":
        errors.write(long_text(int(text)) + "\n")
    elif how == "stderr-long":
        sys.stderr.write(long_text(int(text)) + "\n")
    elif how == "warning-long":
        LOGGER.warning(long_text(int(text)))
    elif how == "stderr":
        print(text, end="" if text.endswith("\n") else "\n", file=sys.stderr)
    elif how == "stdout":
        sys.stdout.write(text + "\n")
    elif how == "print":
        print(text)
    elif how == "unfinished":
        errors.write(text)
    elif how == "thread":
        in_a_thread(text)
    else:
        getattr(LOGGER, how)(text)


def application(environ, start_response):
    how, text = environ["PATH_INFO"].rpartition("/")[2], unquote(environ["QUERY_STRING"])
    answer = b"ok"
    if how == "file":
        answer = file_like(text).encode()
    else:
        write(environ, how, text)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(answer)))])
    return [answer]
