"""Threads that log while the log is rotated: /start, then /stop."""

import sys
import threading

going = threading.Event()
threads = []


def log():
    while going.is_set():
        sys.stderr.write("a line of a thread\n")


def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    if environ["PATH_INFO"] == "/start":
        going.set()
        threads.extend(threading.Thread(target=log) for _ in range(2))
        for thread in threads:
            thread.start()
        return [b"started"]
    going.clear()
    for thread in threads:
        thread.join()
    return [b"stopped"]
