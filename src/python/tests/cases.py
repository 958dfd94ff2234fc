"""Applications for the tests: every function of environ and start_response is one."""


def hello(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"Hello, ", b"world!\n"]
