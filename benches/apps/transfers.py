"""Large bodies: /stream?BYTES sends, /file?PATH sends a file by wsgi.file_wrapper, /upload reads."""

from wsgiref.util import FileWrapper

PIECE = 65536
ZEROS = bytes(PIECE)


def stream(size, start_response):
    start_response("200 OK", [("Content-Type", "application/octet-stream"), ("Content-Length", str(size))])
    return pieces(size)


def pieces(size):
    for _ in range(size // PIECE):
        yield ZEROS
    if size % PIECE:
        yield ZEROS[: size % PIECE]


def file(path, environ, start_response):
    source = open(path, "rb")
    size = source.seek(0, 2)
    source.seek(0)
    start_response("200 OK", [("Content-Type", "application/octet-stream"), ("Content-Length", str(size))])
    return environ.get("wsgi.file_wrapper", FileWrapper)(source, PIECE)


def upload(environ, start_response):
    read, size = environ["wsgi.input"].read, 0
    while True:
        piece = read(PIECE)
        if not piece:
            break
        size += len(piece)
    body = str(size).encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


def application(environ, start_response):
    path, query = environ["PATH_INFO"], environ["QUERY_STRING"]
    if path.endswith("/stream"):
        return stream(int(query), start_response)
    if path.endswith("/file"):
        return file(query, environ, start_response)
    return upload(environ, start_response)
