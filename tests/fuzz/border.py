"""The Python border: random cases (fuzz/cases.py), each of which must come out as the model (fuzz/model.py) says."""

import json
import re

from harness import http1

from .cases import Case
from .model import Expected

LOCATIONS = """
    client_max_body_size 0;
    location /run/buffered/ { wsgi_pass fuzzed; }
    location /run/streamed/ { wsgi_pass fuzzed; wsgi_request_buffering off; }
    location /report { wsgi_pass fuzzed; }
"""
RECORD = re.compile(r"^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d \[(\w+)\] ", re.M)
NUMBER = re.compile(r'request: "\w+ /run/\w+/(\d+) ')


def path(case):
    return f"/run/{'streamed' if case.streamed else 'buffered'}/{case.number}"


def request(case):
    """The bytes of a case's request."""
    if not case.chunked:
        headers = [("Content-Length", str(len(case.body)))] if case.body or case.method != "GET" else []
        return http1.encode(path(case), case.method, headers, case.body, case.version)
    cuts = sorted({0, len(case.body), *case.cuts})
    pieces = [case.body[start:end] for start, end in zip(cuts, cuts[1:]) if start < end]
    return http1.encode(path(case), case.method, {"Transfer-Encoding": "chunked"}, http1.chunked(*pieces))


class Client:
    """Plays cases on connections that are kept alive as long as that is possible."""

    def __init__(self, server):
        self.server, self.connection = server, None

    def play(self, number):
        """What is wrong with a case's response; None if nothing is."""
        case = Case(number)
        expected = Expected(case)
        if self.connection is None:
            self.connection = http1.Connection(self.server.port)
        try:
            self.connection.send(request(case))
            response = self.connection.response(case.method)
        except (OSError, EOFError) as error:
            silent = isinstance(error, EOFError) and not self.connection.buffer and expected.allows_silence()
            self.close()
            return None if silent else f"{type(error).__name__}: {str(error)[:300]}"
        wrong = expected.compare(response)
        closes = response.get("Connection") == "close" or case.version == "HTTP/1.0"
        if wrong or not response.complete:
            self.close()
        elif closes or not expected.over:
            # Until then the application goes on, and may find fault with itself.
            if not self.connection.is_closed(20):
                wrong = "the connection goes on though it should be closed"
            self.close()
        return wrong

    def close(self):
        if self.connection:
            http1.Connection.opened.remove(self.connection)
            self.connection.close()
            self.connection = None


def records(log):
    """The error log's records by the number of the case: [(level, text)]."""
    found = {}
    begins = [match.start() for match in RECORD.finditer(log)] + [len(log)]
    for begin, end in zip(begins, begins[1:]):
        text = log[begin:end]
        number = NUMBER.search(text)
        if number:
            found.setdefault(int(number[1]), []).append((RECORD.match(text)[1], text))
    return found


def check_log(log, numbers):
    """What is wrong with the log: reasons that are missing, errors that have no reason."""
    found, wrong = records(log), []
    for number in numbers:
        errors = [text for level, text in found.get(number, []) if level not in ("info", "notice", "debug")]
        errors = [text for text in errors if "is buffered to a temporary file" not in text]
        expected = Expected(Case(number))
        reasons = expected.reasons
        for reason in [] if expected.unsure else reasons:
            if not any(re.search(reason, text) for text in errors):
                wrong.append(f"case {number}: the log does not say {reason!r}, but {errors}")
        if errors and not reasons:
            wrong.append(f"case {number}: the log complains without a reason: {errors}")
    return wrong


def check_report(server, numbers):
    """What the application itself found wrong, and whether each close() was called once."""
    report = json.loads(http1.fetch(server, "/report").text)
    wrong = report["mismatches"]
    closing = {number for number in numbers if Case(number).shape == "closing"}
    for number in closing:
        count = report["closed"].get(str(number), 0)
        if count != 1:
            wrong.append(f"case {number}: close() was called {count} times")
    return wrong
