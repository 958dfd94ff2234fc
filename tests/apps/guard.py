"""An authorization service for auth_request: it answers what X-Answer asks for."""

import json
from wsgiref.validate import validator


@validator
def application(environ, start_response):
    answer = environ.get("HTTP_X_ANSWER", "403")
    headers = [("Content-Type", "text/plain")]
    if answer == "tell":
        told = {key: environ[key] for key in ("REQUEST_URI", "PATH_INFO", "REQUEST_METHOD", "HTTP_HOST")}
        start_response("401 Unauthorized", [*headers, ("WWW-Authenticate", json.dumps(told))])
    else:
        start_response(f"{answer} As Asked", headers)
    return [b"ignored"]
