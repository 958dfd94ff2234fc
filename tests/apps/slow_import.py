"""A module whose import waits at the gate `import`."""

import os

import gates

gates.wait(os.environ["WSGI_TEST_DIR"], "import")


def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"imported"]
