"""Counts its calls since its import."""

import itertools

COUNT = itertools.count(1)


def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(next(COUNT)).encode()]
