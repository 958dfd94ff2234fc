"""Twelve bytes."""

HEADERS = [("Content-Type", "text/plain"), ("Content-Length", "12")]


def application(environ, start_response):
    start_response("200 OK", HEADERS)
    return [b"Hello World!"]
