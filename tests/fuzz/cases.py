"""Random calls of an application: what it reads, how it answers, and what is wrong with that.

A case follows from its number alone, so that the application (tests/apps/fuzzed.py) and the model (fuzz/model.py)
have the same one without a word between them.
"""

import random

NOISE = random.Random(0).randbytes(1 << 20).replace(b"\r", b"\n")
SHAPES = ["list", "tuple", "list_iterator", "generator", "iterator", "closing", "file", "filelike"]
GATHERED = {"list", "tuple", "list_iterator"}
SIZES = [-1, 0, 1, 2, 7, 100, 4096, 8191, 16384, 65536, 1 << 31, 1 << 62, None]
ODD = ["text", 1.5, b"", [], True, -(1 << 40)]
TOKEN = "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
LATIN = [chr(code) for code in range(0x20, 0x100) if code != 0x7F] + ["\t"]
WIDE = ["\u20ac", "\u0100", "\ud800", "\U0001f600"]
CONTROLS = [chr(code) for code in [*range(0x20), 0x7F] if code != 9]
KINDS = ["ValueError", "KeyboardInterrupt", "SystemExit", "GeneratorExit", "StopIteration", "MemoryError", "OSError"]


class Sub(bytes):
    """A subclass is bytes, too."""


class Text(str):
    """A subclass is text, too."""


class Case:
    """One call."""

    def __init__(self, number):
        self.number = number
        self.random = random.Random(number)
        self.method = self.pick("GET", "GET", "POST", "POST", "PUT", "HEAD")
        self.version = self.pick("HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.0")
        self.streamed = self.chance(0.4)
        self.chunked = self.version == "HTTP/1.1" and self.chance(0.4)
        self.body = self.noise(self.pick(0, 1, 5, 100, 5000, 20_000, 100_000))
        self.cuts = [self.random.randrange(1 + len(self.body)) for _ in range(self.random.randrange(5))]
        self.shape = self.pick(*SHAPES)
        self.fault = self.pick(*FAULTS) if self.chance(0.5) else None
        self.status = self.some_status()
        self.headers = [(self.name(), self.text()) for _ in range(self.random.choice([0, 1, 1, 2, 3, 10]))]
        self.writes = [self.chunk() for _ in range(self.random.choice([0, 0, 0, 1, 2]))]
        self.chunks = [self.chunk() for _ in range(self.random.choice([0, 1, 1, 2, 3, 6]))]
        self.declare()
        self.reads = [self.read() for _ in range(self.random.randrange(6))]
        self.steps = self.in_order()
        if self.fault:
            FAULTS[self.fault](self)

    def pick(self, *items):
        return self.random.choice(items)

    def chance(self, probability):
        return self.random.random() < probability

    def noise(self, size):
        start = self.random.randrange(len(NOISE) - size)
        return NOISE[start : start + size]

    # ---- what is in order ----

    def some_status(self):
        code = self.pick(200, 200, 200, 201, 202, 204, 205, 206, 226, 299, 304, 400, 404, 418, 422, 500, 503, 599, 799)
        reason = "".join(self.random.choices([c for c in LATIN if c != "\t"], k=self.pick(0, 2, 10, 100)))
        return self.maybe_sub(f"{code} {reason}")

    def name(self):
        return self.maybe_sub("X-F" + "".join(self.random.choices(TOKEN, k=self.pick(0, 1, 8, 60))))

    def text(self):
        return self.maybe_sub("".join(self.random.choices(LATIN, k=self.pick(0, 1, 10, 10, 100, 3000))))

    def maybe_sub(self, text):
        return Text(text) if self.chance(0.1) else text

    def chunk(self):
        data = self.noise(self.pick(0, 0, 1, 2, 10, 100, 1000, 5000, 40_000, 150_000))
        return Sub(data) if self.chance(0.1) else data

    def length(self):
        return sum(map(len, self.writes + self.chunks))

    def declare(self):
        """Content-Length, as it is, too long or too short."""
        self.declared = None
        if self.chance(0.4):
            self.declared = max(0, self.length() + self.pick(0, 0, 0, 0, 1, -1, 1000, -1000))
            value = self.pick("{}", "{} ", " {}", "00{}").format(self.declared)
            self.headers.append((self.pick("Content-Length", "content-length", "CONTENT-LENGTH"), value))

    def read(self):
        name = self.pick("read", "read", "readline", "readlines", "readinto", "next", "read1", "tell", "seek")
        size = self.random.choice(ODD if self.chance(0.1) else SIZES)
        if name == "readinto":
            size = self.pick(0, 1, 10, 1000, 70_000)
        elif name == "seek":
            size = (self.pick(0, 0, 5, -5, 10**6), self.pick(0, 0, 1, 2, 3))
        return ("read", name, size)

    def in_order(self):
        """Reads, the start, writes, chunks: reads may come anywhere."""
        steps = [("start", self.status, self.headers, False)]
        steps += [("write", chunk) for chunk in self.writes] + [("chunk", chunk) for chunk in self.chunks]
        for read in self.reads:
            steps.insert(self.random.randrange(len(steps) + 1), read)
        return steps

    # ---- what is not ----

    def index(self, *kinds):
        """Where a step of these kinds is, or could be."""
        places = [index for index, step in enumerate(self.steps) if step[0] in kinds]
        return self.random.choice(places) if places else len(self.steps)

    def restart(self, status=None, headers=None):
        """Replaces the start by another one."""
        index = self.index("start")
        _, old_status, old_headers, exc_info = self.steps[index]
        fresh = old_status if status is None else status, old_headers if headers is None else headers
        self.steps[index] = ("start", *fresh, exc_info)

    def bad_status(self):
        self.restart(
            self.random.choice(
                ["", "200", "20 OK", "2000 OK", "abc OK", "099 Low", "100 Continue", "101 No", " 200 OK", "200\tOK"]
                + ["200 " + self.pick(*WIDE), "200 a" + self.pick(*CONTROLS), "\u0662\u0660\u0660 OK", "-20 OK"]
                + [None.__class__, 200, b"200 OK", ["200 OK"], bytearray(b"200 OK"), object()]
            )
        )

    def bad_headers(self):
        name, value = self.name(), self.text()
        bad = [
            (name, value + self.pick(*CONTROLS) + "x"),
            (name, self.pick(*WIDE)),
            (name + self.pick(" ", ":", "\n", "\r", "\0", "\t", "\xe4", "(", "\u20ac"), value),
            ("", value),
            (name, value.encode("latin-1")),
            (name.encode("latin-1"), value),
            (name, None),
            (None, value),
            (name, 5),
            (name,),
            (name, value, value),
            [name, value],
            name,
            None,
            7,
            ("Content-Length", self.pick("-1", "x", "", "1e3", "1.0", "0x1", "9" * 40, "1 1", "+1")),
        ]
        headers = list(self.headers)
        headers.insert(self.random.randrange(len(headers) + 1), self.random.choice(bad))
        self.restart(headers=self.pick(headers, headers, headers, tuple(self.headers), None, "ab", iter(())))

    def no_start(self):
        self.steps = [step for step in self.steps if step[0] not in ("start", "write")]

    def start_twice(self):
        again = ("start", self.some_status(), [(self.name(), self.text())], False)
        self.steps.insert(self.random.randrange(self.index("start") + 1, len(self.steps) + 1), again)

    def change_of_mind(self):
        """start_response again, with exc_info: right before the first byte, an exception after it."""
        again = ("start", self.some_status(), [(self.name(), self.text())], True)
        self.steps.insert(self.random.randrange(self.index("start") + 1, len(self.steps) + 1), again)

    def bad_chunk(self):
        chunk = self.pick("text", None, 5, bytearray(b"a"), memoryview(b"a"), [b"a"], object(), 1.5, (b"a",), Text("b"))
        after = self.index("start")
        self.steps.insert(self.random.randrange(after + 1, len(self.steps) + 1), (self.pick("write", "chunk"), chunk))

    def raises(self):
        self.steps.insert(self.random.randrange(len(self.steps) + 1), ("raise", self.pick(*KINDS)))

    def bad_close(self):
        self.shape = "closing"
        self.steps.append(("close", self.pick(*KINDS)))


FAULTS = {
    "bad status": Case.bad_status,
    "bad headers": Case.bad_headers,
    "no start": Case.no_start,
    "start twice": Case.start_twice,
    "change of mind": Case.change_of_mind,
    "bad chunk": Case.bad_chunk,
    "raises": Case.raises,
    "bad close": Case.bad_close,
}
