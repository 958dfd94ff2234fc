"""Requests for tests/apps/script.py, which does what they say.

Shapes of the answer: `iterator` (the default; start_response in the call, the rest as it is iterated), `generator`
(all of it as it is iterated), `list`, `tuple`, `sequence` (all of it in the call), `failing` (an iterator whose close()
raises), `itself` (the first thing that would be yielded is returned).
"""

import json
from urllib.parse import quote

TEXT = [("Content-Type", "text/plain")]

CONF = """
    wsgi_param test.dir @DIR@;
    location /play { wsgi_pass script; }
    location /valid { wsgi_pass script:validated; }
    location /hello { wsgi_pass hello; }
"""


def start(status="200 OK", headers=()):
    """start_response, with a Content-Type unless the headers have one."""
    return "start", status, with_type(headers)


def restart(status, headers=()):
    """start_response with exc_info."""
    return "restart", status, with_type(headers)


def with_type(headers):
    headers = list(headers.items() if isinstance(headers, dict) else headers)
    return headers if any(name.lower() == "content-type" for name, _ in headers) else TEXT + headers


def give(text, count=1):
    """yield."""
    return "yield", text, count


def odd(expression):
    """yield of something else than bytes."""
    return "odd", expression


def send(text, count=1):
    """write()."""
    return "send", text, count


def gate(name):
    """Wait until the test opens the gate."""
    return "gate", name


def fail(kind="ValueError", message="on request"):
    """raise."""
    return "fail", kind, message


def play(*steps, shape="iterator", closes=None, at="/play"):
    """The path of a request for these steps."""
    return f"{at}?" + quote(json.dumps({"shape": shape, "closes": closes, "steps": steps}))
