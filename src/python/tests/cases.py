"""Applications of the tests: every function of environ and start_response is one."""
import textwrap

kept = {}


def code(environ, start_response):
    """What a test spells out in CODE, as the body of this function."""
    source = "def application(environ, start_response):\n" + textwrap.indent(environ["CODE"], "    ")
    namespace = dict(globals())
    exec(compile(source, "<test>", "exec"), namespace)
    return namespace["application"](environ, start_response)


def hello(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"Hello, world!\n"]
