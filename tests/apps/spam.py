"""Logs in a tight loop for as many seconds as the query says, and notes how many lines that were."""

import os
import sys
import time

import gates


def application(environ, start_response):
    gates.wait(environ["test.dir"], "spam")
    end = time.monotonic() + float(environ["QUERY_STRING"])
    count = 0
    while time.monotonic() < end:
        print("a line of the application")
        count += 1
    with open(os.path.join(environ["test.dir"], "spam.count"), "w") as file:
        file.write(str(count))
    print("the end of the application's lines", file=sys.stderr)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"done"]
