"""Starts processes and tells how they ended: /N starts N of them, each of which exits with 3."""

import subprocess


def application(environ, start_response):
    count = int(environ["PATH_INFO"].rpartition("/")[2])
    statuses = [subprocess.run(["sh", "-c", "exit 3"]).returncode for _ in range(count)]
    body = " ".join(map(str, statuses)).encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
