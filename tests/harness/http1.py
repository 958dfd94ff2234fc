"""An HTTP/1 client that sends exactly the bytes it is told to and shows exactly the bytes that came."""

import socket
import ssl
import time


class Response:
    """One response as it stood on the wire."""

    def __init__(self, head):
        line, *fields = head.decode("latin-1").split("\r\n")
        self.line = line
        self.version, _, rest = line.partition(" ")
        self.status = int(rest[:3])
        self.reason = rest[4:]
        self.fields = [tuple(field.split(": ", 1)) if ": " in field else (field.rstrip(":"), "") for field in fields]
        self.body = b""
        self.chunks = []
        # False when the connection ended before the body did.
        self.complete = True

    def all(self, name):
        return [value for key, value in self.fields if key.lower() == name.lower()]

    def get(self, name, default=None):
        values = self.all(name)
        assert len(values) < 2, f"{name} came {len(values)} times: {values}"
        return values[0] if values else default

    @property
    def text(self):
        return self.body.decode()

    def __repr__(self):
        return f"<{self.line!r} {self.fields!r} {self.body[:200]!r} complete={self.complete}>"


class Connection:
    """A connection to a server on this machine."""

    # Those made in the present test, to be closed at its end (see conftest.py).
    opened = []

    def __init__(self, port, tls=None, timeout=20, path=None, address="127.0.0.1"):
        if path:
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.connect(str(path))
        else:
            self.socket = socket.create_connection((address, port))
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        Connection.opened.append(self)
        self.socket.settimeout(timeout)
        if tls:
            self.socket = tls.wrap_socket(self.socket, server_hostname="localhost")
        self.buffer = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def reset(self):
        """Ends the connection with a TCP reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        self.socket.close()

    @property
    def local_port(self):
        return self.socket.getsockname()[1]

    # ---- sending ----

    def send(self, data):
        self.socket.sendall(data.encode("latin-1") if isinstance(data, str) else data)

    def request(self, path="/", method="GET", headers=(), body=b"", version="HTTP/1.1", host="localhost"):
        """Sends one request; a body gets its Content-Length unless the headers say otherwise."""
        self.send(encode(path, method, headers, body, version, host))

    # ---- receiving ----

    def _more(self):
        try:
            data = self.socket.recv(65536)
        except (ConnectionResetError, ssl.SSLError):
            data = b""
        self.buffer += data
        return bool(data)

    def _until(self, mark):
        while mark not in self.buffer:
            if not self._more():
                raise EOFError(f"the connection ended before {mark!r}; there was {self.buffer!r}")
        text, _, self.buffer = self.buffer.partition(mark)
        return text

    def _exactly(self, size):
        """Up to `size` bytes, and whether they were all there."""
        pieces, have = [self.buffer], len(self.buffer)
        self.buffer = b""
        while have < size and self._more():
            pieces.append(self.buffer)
            have += len(self.buffer)
            self.buffer = b""
        whole = b"".join(pieces)
        self.buffer = whole[size:]
        return whole[:size], have >= size

    def head(self):
        """Reads status line and header fields only."""
        return Response(self._until(b"\r\n\r\n"))

    def response(self, method="GET"):
        """Reads one response whole; an interim (1xx) one is skipped."""
        response = self.head()
        while response.status < 200:
            response = self.head()
        self.read_body(response, method)
        return response

    def read_body(self, response, method="GET"):
        if method == "HEAD" or response.status in (204, 304):
            return
        if response.get("Transfer-Encoding") == "chunked":
            while self.read_chunk(response):
                pass
        elif response.get("Content-Length") is not None:
            response.body, response.complete = self._exactly(int(response.get("Content-Length")))
        else:
            response.body = self.rest()

    def read_chunk(self, response):
        """Reads one chunk into the response; empty when it was the last one or the connection ended."""
        try:
            size = int(self._until(b"\r\n").split(b";")[0], 16)
            chunk, whole = self._exactly(size)
            if not whole:
                raise EOFError
            if self._until(b"\r\n"):
                raise ValueError("a chunk is longer than its size says")
        except EOFError:
            response.complete = False
            return b""
        response.body += chunk
        if chunk:
            response.chunks.append((time.monotonic(), chunk))
        return chunk

    def rest(self):
        """Everything until the server closes."""
        while self._more():
            pass
        rest, self.buffer = self.buffer, b""
        return rest

    def is_closed(self, timeout=5):
        """Whether the server closes the connection and has sent nothing more."""
        self.socket.settimeout(timeout)
        try:
            return not self.buffer and not self._more()
        except socket.timeout:
            return False


def encode(path="/", method="GET", headers=(), body=b"", version="HTTP/1.1", host="localhost"):
    """The bytes of a request."""
    headers = list(headers.items() if isinstance(headers, dict) else headers)
    names = {name.lower() for name, _ in headers}
    if host and "host" not in names:
        headers.insert(0, ("Host", host))
    if (body or method in ("POST", "PUT", "PATCH")) and not names & {"content-length", "transfer-encoding"}:
        headers.append(("Content-Length", str(len(body))))
    fields = "".join(f"{name}: {value}\r\n" for name, value in headers)
    return f"{method} {path} {version}\r\n{fields}\r\n".encode("latin-1") + body


def chunked(*chunks):
    """A body in chunked coding."""
    return b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"


def ask(server, path, **options):
    """Asks on a connection of its own, which it returns: the response is still to be read."""
    connection = Connection(server.port)
    connection.request(path, **options)
    return connection


def fetch(server, path="/", method="GET", headers=(), body=b"", tls=None, port=None, **options):
    """One request on a connection of its own."""
    with Connection(port or server.port, tls) as connection:
        headers = list(headers.items() if isinstance(headers, dict) else headers)
        connection.request(path, method, [*headers, ("Connection", "close")], body, **options)
        return connection.response(method)
