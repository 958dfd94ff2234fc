"""Threads that log, and open files, while the log is rotated: /start, then /stop."""

import os
import sys
import threading

going = threading.Event()
threads = []
stray = []


def log():
    while going.is_set():
        sys.stderr.write("a line of the application\n")


def open_files(folder):
    number = 0
    while going.is_set():
        number += 1
        path = os.path.join(folder, "files", str(number))
        with open(path, "xb") as file:
            threading.Event().wait(0.005)
            stray.append(os.fstat(file.fileno()).st_size)
        os.unlink(path)


def application(environ, start_response):
    folder = environ["test.dir"]
    start_response("200 OK", [("Content-Type", "text/plain")])
    if environ["PATH_INFO"] == "/start":
        os.mkdir(os.path.join(folder, "files"))
        going.set()
        threads.extend(threading.Thread(target=log) for _ in range(2))
        threads.extend(threading.Thread(target=open_files, args=(folder,)) for _ in range(1))
        for thread in threads:
            thread.start()
        return [b"started"]
    going.clear()
    for thread in threads:
        thread.join()
    return [b"%d bytes are in files of the application" % sum(stray)]
