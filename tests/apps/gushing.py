"""More than a client takes: /SHAPE?SIZE,TOTAL answers with TOTAL bytes in chunks of SIZE.

SHAPE is `generator`, `list`, `write`, or `fresh` (a generator whose chunks are objects of their own).
"""

import itertools

HEADERS = [("Content-Type", "application/octet-stream")]


def chunks(size, total):
    """Chunks of one byte value each, so that a missing or a doubled one shows."""
    for number in range(total // size):
        yield bytes((number % 251,)) * size
    if total % size:
        yield b"\xff" * (total % size)


def application(environ, start_response):
    shape = environ["PATH_INFO"].rpartition("/")[2]
    size, total = map(int, environ["QUERY_STRING"].split(","))
    write = start_response("200 OK", HEADERS)
    if shape == "generator":
        return chunks(size, total)
    if shape == "list":
        return list(chunks(size, total))
    if shape == "mixed":
        return itertools.chain.from_iterable((b"-", chunk) for chunk in chunks(size, total))
    for chunk in chunks(size, total):
        write(chunk)
    return []
