"""Calls an application in a plain loop and prints the microseconds of CPU per call: what no server can save.

plain_python loop.py MODULE SECONDS
"""

import importlib
import io
import sys
import time

ENVIRON = {
    "REQUEST_METHOD": "GET",
    "SCRIPT_NAME": "",
    "PATH_INFO": "/",
    "QUERY_STRING": "",
    "SERVER_NAME": "localhost",
    "SERVER_PORT": "8080",
    "SERVER_PROTOCOL": "HTTP/1.1",
    "REMOTE_ADDR": "127.0.0.1",
    "REMOTE_PORT": "50000",
    "HTTP_HOST": "127.0.0.1:8080",
    "wsgi.version": (1, 0),
    "wsgi.url_scheme": "http",
    "wsgi.input": io.BytesIO(),
    "wsgi.errors": sys.stderr,
    "wsgi.multithread": True,
    "wsgi.multiprocess": False,
    "wsgi.run_once": False,
}


def start_response(status, headers, exc_info=None):
    return None


def call(application):
    result = application(ENVIRON.copy(), start_response)
    for _ in result:
        pass
    close = getattr(result, "close", None)
    if close:
        close()


def main(module, seconds):
    application = importlib.import_module(module).application
    for _ in range(2000):
        call(application)
    count, began = 0, time.process_time()
    while time.process_time() - began < seconds:
        for _ in range(500):
            call(application)
        count += 500
    print(1e6 * (time.process_time() - began) / count)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
