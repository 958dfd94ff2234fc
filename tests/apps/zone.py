"""Sets the process's time zone to what the query says, as Django does."""

import os
import time


def application(environ, start_response):
    os.environ["TZ"] = environ["QUERY_STRING"]
    time.tzset()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"ok"]
