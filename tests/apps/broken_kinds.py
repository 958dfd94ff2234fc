"""Names in a good module that are no applications."""

number = 42


def factory():
    raise RuntimeError("the factory is closed")
