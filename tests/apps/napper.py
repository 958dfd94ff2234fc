"""Sleeps for the milliseconds in the query."""

import time


def application(environ, start_response):
    time.sleep(int(environ["QUERY_STRING"]) / 1000)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "4")])
    return [b"nap\n"]
