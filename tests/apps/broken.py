"""A module whose import fails."""

1 / 0


def application(environ, start_response):
    raise AssertionError("never called")
