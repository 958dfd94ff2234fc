"""Two kilobytes of JSON, made anew for each request, as an API does."""

import json

ROWS = 28


def rows():
    return [{"id": 100000 + n, "name": f"row {n:02}", "price": n * 1.25 + 100, "tags": ["a", "b"]} for n in range(ROWS)]


def application(environ, start_response):
    body = json.dumps({"path": environ["PATH_INFO"], "rows": rows()}).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]
