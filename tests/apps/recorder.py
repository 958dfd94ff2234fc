"""Keeps the last request's body in the file `recorded`."""

import os


def application(environ, start_response):
    path = os.path.join(environ["test.dir"], "recorded")
    with open(path + ".new", "wb") as file:
        file.write(environ["wsgi.input"].read())
    os.rename(path + ".new", path)
    start_response("204 No Content", [])
    return []
