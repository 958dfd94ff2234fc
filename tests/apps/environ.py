"""Shows what the application is told: environ as JSON, and the types that PEP 3333 asks for."""

import json
from wsgiref.validate import validator


def answer(environ, start_response):
    body = json.dumps(
        {
            "environ": {key: value for key, value in environ.items() if isinstance(value, (str, bool, tuple))},
            "types": {key: type(value).__name__ for key, value in environ.items()},
            "dict": type(environ) is dict,
        }
    ).encode()
    environ["leak"] = "left by an earlier call"
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


application = validator(answer)
