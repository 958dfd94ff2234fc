"""The nginx border: random conversations on the wire, each request of which has its own token, which must come back.

A conversation is a pipeline of requests; the last may be broken, or the client may leave in the middle of it.
"""

import hashlib
import json
import random
import re
import string
import threading

from harness import http1

LOCATIONS = """
    client_max_body_size 300k;
    client_body_buffer_size 8k;
    lingering_timeout 1s;
    location /echo/ { wsgi_pass fuzzed:echo; }
    location /streamed/ { wsgi_pass fuzzed:echo; wsgi_request_buffering off; }
"""
METHODS = ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "PROPFIND", "M-SEARCH", "FOO_BAR"]
UNRESERVED = string.ascii_letters + string.digits + "-_~!$&'()*,;=:@+"
NAMES = string.ascii_letters + string.digits + "-"
VALUE = [byte for byte in range(0x20, 0x100) if byte != 0x7F] + [9]
SHAPES = ["list", "length", "generator", "write", "file"]
STATUSES = ["200 OK", "200 OK", "200 OK", "201 Created", "204 No Content", "304 Not Modified", "404 None", "500 Own"]


class Request:
    """A request that is in order, and what must be answered."""

    def __init__(self, rng, token):
        self.random, self.token = rng, token
        self.method = rng.choice(METHODS)
        self.version = "HTTP/1.0" if self.chance(0.1) else "HTTP/1.1"
        self.streamed = self.chance(0.4)
        self.closes = self.chance(0.1)
        self.make_target()
        self.make_body()
        self.ask = {
            "token": token,
            "read": rng.choice(["all", "all", "some", "none"]),
            "size": rng.choice([0, 0, 10, 1000, 20_000, 200_000]),
            "shape": rng.choice(SHAPES),
            "status": rng.choice(STATUSES),
        }
        self.headers = [("X-Ask", json.dumps(self.ask).encode())]
        self.headers += [self.header() for _ in range(rng.choice([0, 1, 3, 8]))]

    def chance(self, probability):
        return self.random.random() < probability

    def make_target(self):
        """A path in nginx's prefix, percent-encoded here and there, and a query."""
        raw, decoded = bytearray(), bytearray()
        for _ in range(self.random.choice([0, 1, 5, 40])):
            byte = self.random.choice([ord(self.random.choice(UNRESERVED)), self.random.randrange(1, 256)])
            if byte in b"./":
                byte = 0x61
            plain = chr(byte) in UNRESERVED or byte >= 0x80
            raw += bytes([byte]) if plain and self.chance(0.7) else b"%%%02X" % byte
            decoded.append(byte)
        prefix = b"/streamed/" if self.streamed else b"/echo/"
        query = "".join(self.random.choices(UNRESERVED + "%/?.", k=self.random.choice([0, 0, 1, 20]))).encode()
        self.path, self.query = (prefix + decoded).decode("latin-1"), query.decode()
        self.target = prefix + raw + (b"?" + query if query or self.chance(0.1) else b"")
        if self.chance(0.05):
            self.target = b"http://localhost" + self.target

    def make_body(self):
        size = self.random.choice([0, 1, 10, 1000, 8192, 9000, 60_000, 250_000])
        framings = ["none", "length", "length"] + (["chunked", "chunked"] if self.version == "HTTP/1.1" else [])
        self.framing = self.random.choice(framings)
        self.body = b"" if self.framing == "none" else self.random.randbytes(size)

    def header(self):
        name = "X-" + "".join(self.random.choices(NAMES, k=self.random.choice([1, 5, 20])))
        if self.chance(0.1):
            name += self.random.choice(["_x", "!", "'", "~", "|"])
        blank = self.random.choice(["", " ", "\t", "  "])
        value = bytes(self.random.choices(VALUE, k=self.random.choice([0, 1, 10, 200])))
        return name, blank.encode() + value + blank.encode()

    # ---- on the wire ----

    def head(self):
        fields = [*self.headers, ("Host", b"localhost")]
        if self.framing == "length":
            fields.append(("Content-Length", str(len(self.body)).encode()))
        elif self.framing == "chunked":
            fields.append(("Transfer-Encoding", self.random.choice([b"chunked", b"Chunked"])))
        if self.closes:
            fields.append(("Connection", b"close"))
        elif self.version == "HTTP/1.0":
            fields.append(("Connection", b"keep-alive"))
        if self.framing != "none" and self.version == "HTTP/1.1" and self.chance(0.1):
            fields.append(("Expect", b"100-continue"))
        self.random.shuffle(fields)
        self.fields = fields
        lines = b"".join(name.encode() + b":" + b" " * self.chance(0.9) + value + b"\r\n" for name, value in fields)
        line = b"%s %s %s\r\n" % (self.method.encode(), self.target, self.version.encode())
        return b"\r\n" * self.chance(0.1) + line + lines + b"\r\n"

    def encoded_body(self):
        if self.framing != "chunked":
            return self.body
        out, rest = bytearray(), self.body
        while rest:
            size = self.random.randrange(1, min(len(rest), 1 << self.random.randrange(1, 18)) + 1)
            extension = self.random.choice([b"", b"", b";a=b", b";x"])
            size_line = self.random.choice([b"%x", b"%X", b"00%x"]) % size
            out += size_line + extension + b"\r\n" + rest[:size] + b"\r\n"
            rest = rest[size:]
        trailer = b"X-Trailer: 1\r\n" if self.chance(0.1) else b""
        return bytes(out) + b"0\r\n" + trailer + b"\r\n"

    def encode(self):
        return self.head() + self.encoded_body()

    # ---- the answer ----

    def passed(self):
        """Header fields as environ has them: names that nginx finds odd are left out, values trimmed and joined."""
        found = {}
        for name, value in self.fields:
            if name.startswith("X-") and name != "X-Ask" and all(char in NAMES for char in name):
                key = "HTTP_" + name.upper().replace("-", "_")
                text = value.strip(b" \t").decode("latin-1")
                found[key] = f"{found[key]}, {text}" if key in found else text
        return found

    def expected(self):
        read = {"all": self.body, "some": self.body[:100], "none": b""}[self.ask["read"]]
        return {
            "method": self.method,
            "path": self.path,
            "query": self.query,
            "headers": self.passed(),
            "sha": hashlib.sha256(read).hexdigest(),
            "filler": "f" * self.ask["size"],
        }

    def compare(self, response):
        """What is wrong with a response; None if nothing is."""
        if response.get("X-Token") != str(self.token):
            return f"the answer is to {response.get('X-Token')}: {response!r}"
        if f"{response.status} {response.reason}" != self.ask["status"] or not response.complete:
            return f"the status is {response.line!r}, complete: {response.complete}"
        if self.method == "HEAD" or response.status in (204, 304):
            return None
        got, expected = json.loads(response.body), self.expected()
        differs = {key: (str(got[key])[:500], str(expected[key])[:500]) for key in got if got[key] != expected[key]}
        return f"of what was sent came {differs}" if differs else None

    def may_close(self):
        """Whether the connection may end behind the answer: a body that was not read to its end is not waited for."""
        unread = self.streamed and self.framing != "none" and (self.ask["read"] != "all" or self.ask["status"] == "x")
        return unread or self.closes


# ---- what breaks ----


def broken_line(rng, request):
    line = rng.choice([b"GET\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"GET / HTTP/3.7\r\n\r\n", b"\0\0\0\0\r\n\r\n"])
    return rng.choice([line, rng.randbytes(50) + b"\r\n\r\n", b"get /echo/ HTTP/1.1\r\nHost: a\r\n\r\n"])


def inserted(field):
    """Breaks a head by one more field."""

    def breaks(rng, request):
        head, body = request.head(), request.encoded_body()
        line = field(rng) if callable(field) else field
        return head[:-2] + line + b"\r\n\r\n" + body

    return breaks


def without_host(rng, request):
    request.version = "HTTP/1.1"
    return re.sub(rb"\r\nHost:[^\r]*", b"", request.head()) + request.encoded_body()


def bad_chunk(rng, request):
    request.framing, request.version = "chunked", "HTTP/1.1"
    body = rng.choice([b"xyz\r\nabc\r\n0\r\n\r\n", b"3\r\nabcdef\r\n0\r\n\r\n", b"-1\r\n\r\n", b"f" * 20 + b"\r\n", b"\r\n\r\n"])
    return request.head() + body


def too_long(rng, request):
    request.framing = "length"
    request.body = b"b" * 310_000
    return request.encode()


def long_line(rng, request):
    return b"GET /echo/" + b"x" * rng.choice([9_000, 40_000]) + b" HTTP/1.1\r\nHost: localhost\r\n\r\n"


BREAKS = {
    "line": broken_line,
    "two lengths": inserted(b"Content-Length: 1\r\nContent-Length: 2"),
    "both framings": inserted(b"Content-Length: 1\r\nTransfer-Encoding: chunked"),
    "odd length": inserted(lambda rng: b"Content-Length: " + rng.choice([b"-1", b"x", b"1 1", b"9" * 30])),
    "odd coding": inserted(b"Transfer-Encoding: gzip"),
    "NUL": inserted(b"X-Nul: a\0b"),
    "CR": inserted(b"X-Cr: a\rb"),
    "no colon": inserted(lambda rng: rng.randbytes(10).replace(b":", b"").replace(b"\n", b"") + b"\1"),
    "no host": without_host,
    "two hosts": inserted(b"Host: other"),
    "long field": inserted(b"X-Long: " + b"l" * 40_000),
    "long line": long_line,
    "too long": too_long,
    "bad chunk": bad_chunk,
}


class Conversation:
    """What happens on one connection."""

    def __init__(self, number):
        self.number = number
        self.random = random.Random(f"wire {number}")
        count = self.random.choice([1, 1, 2, 3, 6])
        self.requests = [Request(self.random, number * 100 + index) for index in range(count)]
        encoded = [request.encode() for request in self.requests]
        self.last = self.random.choice([None, None, "leave", "reset", *BREAKS]) if self.random.random() < 0.5 else None
        if self.last in BREAKS:
            encoded.append(BREAKS[self.last](self.random, Request(self.random, number * 100 + 99)))
        self.bytes = b"".join(encoded)
        if self.last in ("leave", "reset"):
            self.bytes = self.bytes[: self.random.randrange(len(self.bytes))]
        self.cuts = sorted(self.random.randrange(len(self.bytes) + 1) for _ in range(self.random.choice([0, 1, 3, 10])))

    def _send(self, connection):
        edges = [0, *self.cuts, len(self.bytes)]
        try:
            for begin, end in zip(edges, edges[1:]):
                connection.send(self.bytes[begin:end])
        except OSError:
            pass  # the server has closed: what came is judged below

    def run(self, port):
        """What went wrong; None if nothing did."""
        with http1.Connection(port) as connection:
            sender = threading.Thread(target=self._send, args=(connection,))
            sender.start()
            try:
                return self._leave(connection, sender) if self.last in ("leave", "reset") else self._read(connection)
            finally:
                connection.close()
                sender.join()
                http1.Connection.opened.remove(connection)

    def _leave(self, connection, sender):
        sender.join()
        if self.last == "reset":
            connection.reset()

    def _read(self, connection):
        closed = False
        for request in self.requests:
            try:
                response = connection.response(request.method)
            except (EOFError, OSError) as error:
                return None if closed else f"{error!r} instead of the answer to {request.token}"
            wrong = request.compare(response)
            if wrong:
                return f"{request.token}: {wrong}"
            if response.get("Connection") == "close":
                return None if connection.is_closed(20) else f"{request.token}: the connection is not closed"
            closed = closed or request.may_close()
        return self._read_the_end(connection) if self.last else None

    def _read_the_end(self, connection):
        """A broken request gets an error of nginx's, or none at all; then the connection ends."""
        try:
            response = connection.response()
        except (EOFError, OSError):
            return None
        own = response.get("X-Token") == str(self.number * 100 + 99)
        if not own and not 400 <= response.status < 600:
            return f"{self.last}: {response!r}"
        if self.last not in ALLOWED and not connection.is_closed(20):
            return f"{self.last}: the connection goes on behind {response!r}"
        return None


# What nginx takes after all, at times: an odd field is ignored.
ALLOWED = {"no colon", "CR", "two hosts"}
