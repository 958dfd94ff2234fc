"""What must become of a case (fuzz/cases.py): PEP 3333 and the module's documented behaviour, in some lines of Python."""

from .cases import CONTROLS, GATHERED, TOKEN

WITHOUT_BODY = (204, 304)
FILES = {"file", "filelike"}


class Problem(Exception):
    """The application's failure, with what the log must say of it."""

    def __init__(self, reason):
        super().__init__(reason)
        self.reason = reason


class Expected:
    """What the client must get: `status` 500 by the server, or the application's head and (part of) its body."""

    def __init__(self, case):
        self.case = case
        self.started = self.head_sent = self.over = False
        self.status, self.headers, self.declared = None, [], None
        # What has been sent of the body, and what is sent with the end.
        self.body = self.rest = b""
        # Patterns that the log must have for this request.
        self.reasons = []
        self.unsure = False
        self.truncated = False
        try:
            self._play()
            self._finish()
        except Problem as problem:
            self._fail(problem)

    # ---- what the application does ----

    def _play(self):
        gathered = []
        for kind, *rest in self.case.steps:
            if kind == "start":
                self._start(*rest)
            elif kind == "write":
                self._write(rest[0])
            elif kind == "raise":
                # A generator that lets StopIteration out is at fault itself.
                raise Problem(rest[0] if rest[0] != "StopIteration" else "RuntimeError: generator raised StopIteration")
            elif kind == "chunk" and self.case.shape in GATHERED | FILES:
                gathered.append(rest[0])
            elif kind == "chunk" and not self._chunk(rest[0]):
                break  # it is asked for no more
        self._gathered(gathered)
        for kind, *rest in self.case.steps:
            if kind == "close":
                raise Problem(f"exception in close\\(\\)(.|\n)*{rest[0]}")

    def _gathered(self, chunks):
        # What is written to a file need only look like bytes.
        allowed = (bytes, bytearray, memoryview) if self.case.shape in FILES else bytes
        if any(not isinstance(chunk, allowed) for chunk in chunks):
            raise Problem("TypeError" if self.case.shape in FILES else "it gave a chunk of type")
        data = b"".join(chunks)
        if self.case.shape == "filelike":
            self._chunk(data)
        elif self.case.shape == "file" and self.declared is not None:
            self.rest = data[: self.declared - len(self.body)]
        else:
            self.rest = data

    def _start(self, status, headers, again):
        if self.over:
            raise Problem("start_response was called after the call had ended")
        if self.started and not again:
            raise Problem("start_response was called a second time, without exc_info")
        if again and self.head_sent:
            raise Problem("LookupError: a change of mind")
        code = check_status(status)
        self.declared = check_headers(headers)
        self.started, self.status, self.line, self.headers = True, code, str.__str__(status), headers

    def _write(self, chunk):
        if not isinstance(chunk, bytes):
            raise Problem("write\\(\\) takes bytes, not")
        self._send(chunk, even_empty=True)

    def _chunk(self, chunk):
        if not isinstance(chunk, bytes):
            raise Problem("it gave a chunk of type")
        if chunk and not self.started:
            raise Problem("it gave a chunk before it called start_response")
        was_over = self.over
        # Who has nothing more to say when all has been sent may or may not be asked for more.
        self.unsure |= was_over and not chunk
        self._send(chunk)
        return not (was_over and chunk)

    # ---- what the server does ----

    @property
    def without_body(self):
        return self.case.method == "HEAD" or self.status in WITHOUT_BODY

    def _admit(self, data):
        if self.without_body:
            if data and self.case.method != "HEAD":
                self.reasons.append("a response of this status has no body")
            return b""
        room = len(data) if self.declared is None else self.declared - len(self.body)
        if len(data) > room:
            self.reasons.append("the response is longer than its Content-Length")
        return data[:room]

    def _send(self, data, even_empty=False):
        if self.over:
            if data and self.declared is not None:
                self.reasons.append("the response is longer than its Content-Length")
            return
        if not data and not even_empty:
            return
        data = self._admit(data)
        self.head_sent = True
        self.body += data
        self.over = bool(data) and len(self.body) == self.declared

    def _finish(self):
        if self.over:
            if self.rest:
                self._send(self.rest)
            return
        if not self.started:
            raise Problem("(without calling start_response|before it called start_response)")
        data = self._admit(self.rest)
        if self.declared is not None and not self.without_body and len(self.body) + len(data) < self.declared:
            raise Problem("of its Content-Length")
        self.body += data
        self.head_sent = self.over = True

    def _fail(self, problem):
        self.reasons.append(problem.reason)
        if self.over:
            return
        if self.head_sent:
            self.truncated = True
        else:
            self.status, self.headers, self.body, self.line = 500, [], b"", "500 Internal Server Error"

    # ---- what came ----

    def allows_silence(self):
        """A head alone, and then the end of the call: the connection may be closed before the head is out."""
        return self.truncated and not self.body

    def compare(self, response):
        """What is wrong with a response; None if nothing is."""
        if f"{response.status} {response.reason}" != self.line:
            return f"the status is {response.line!r} instead of {self.line!r}"
        wanted = [(str(n), str(v).strip(" \t")) for n, v in self.headers if not n.lower().startswith("content-")]
        got = [(name, value) for name, value in response.fields if name.startswith("X-F")]
        if got != wanted:
            return f"the headers are {got} instead of {wanted}"
        if self.line == "500 Internal Server Error" and not self.over and not self.head_sent:
            return None if response.complete else "the error response is not complete"
        if self.declared is not None and self.status != 204 and response.get("Content-Length") != str(self.declared):
            return f"Content-Length is {response.get('Content-Length')} instead of {self.declared}"
        if self.truncated:
            return self._compare_part(response)
        if response.body != self.body:
            return f"the body has {len(response.body)} bytes instead of {len(self.body)}, or others"
        return None if response.complete else "the response is not complete"

    def _compare_part(self, response):
        if not self.body.startswith(response.body):
            return f"the {len(response.body)} bytes of a body are not the first of {len(self.body)}"
        # Neither a body that ends with the connection nor one of length 0 shows what it lacks.
        framed = self.declared != 0 and (self.case.version == "HTTP/1.1" or self.declared is not None)
        if response.complete and framed and not self.without_body:
            return "the response is cut off, but looks complete"
        return None


def check_status(status):
    if not isinstance(status, str):
        raise Problem("the status must be str, not")
    text = str.__str__(status)
    if any(ord(char) > 0xFF for char in text):
        raise Problem("the status has a character beyond latin-1")
    code, rest = text[:3], text[3:4]
    if len(code) < 3 or not all("0" <= char <= "9" for char in code) or rest != " ":
        raise Problem("is not three digits, a space and a reason")
    if any(char in CONTROLS or char == "\t" for char in text):
        raise Problem("has a control character")
    if int(code) < 200:
        raise Problem("is below 100|is an interim one")
    return int(code)


def check_headers(headers):
    """The value of Content-Length."""
    if not isinstance(headers, list):
        raise Problem("the headers must be a list of tuples, not")
    declared = None
    for item in headers:
        if not isinstance(item, tuple) or len(item) != 2:
            raise Problem("must be a tuple")
        name, value = check_text(item[0], "the name of header"), item[1]
        if not name or any(char not in TOKEN for char in name):
            raise Problem("is not the name of a header")
        value = check_text(value, "the value of header")
        if any(char in CONTROLS for char in value):
            raise Problem("has a control character")
        if name.lower() == "content-length":
            declared = check_length(value, declared)
    return declared


def check_text(text, what):
    if not isinstance(text, str):
        raise Problem(f"{what} .*must be str, not")
    if any(ord(char) > 0xFF for char in text):
        raise Problem(f"{what} .*has a character beyond latin-1")
    return str.__str__(text)


def check_length(value, before):
    digits = value.strip(" \t")
    if not digits or any(char not in "0123456789" for char in digits) or int(digits) >= 1 << 63:
        raise Problem("is not a length")
    if before not in (None, int(digits)):
        raise Problem("two different Content-Length")
    return int(digits)
