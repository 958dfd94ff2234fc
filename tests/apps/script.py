"""An application that does what the request tells it to: steps, as JSON in the query (see harness/script.py)."""

import builtins
import json
import os
import sys
import time
from urllib.parse import unquote
from wsgiref.validate import validator

import gates


class Play:
    """The steps of one call, as an iterator."""

    def __init__(self, environ, start_response, steps):
        self.environ = environ
        self.start_response = start_response
        self.steps = steps
        self.write = None
        self.generator = self.run()

    def run(self):
        for verb, *rest in self.steps:
            if verb == "yield":
                text, count = (*rest, 1)[:2]
                for _ in range(count):
                    yield text.encode("latin-1")
            elif verb == "odd":
                yield eval(rest[0])
            else:
                getattr(self, verb)(*rest)

    def start(self, status, headers):
        self.write = self.start_response(status, [tuple(header) for header in headers])

    def restart(self, status, headers):
        try:
            raise LookupError("the reason for another response")
        except LookupError:
            self.write = self.start_response(status, [tuple(header) for header in headers], sys.exc_info())

    def send(self, text, count=1):
        for _ in range(count):
            self.write(text.encode("latin-1"))

    def gate(self, name):
        gates.wait(self.environ["test.dir"], name)

    def note(self, name):
        gates.note(os.path.join(self.environ["test.dir"], name))

    def pause(self, seconds):
        time.sleep(seconds)

    def fail(self, kind, message="on request"):
        raise getattr(builtins, kind)(message)


class Iterator(Play):
    """What a generator is, with a close() that leaves a trace."""

    closes = None

    def __iter__(self):
        return self

    def __next__(self):
        return next(self.generator)

    def close(self):
        if self.closes:
            self.note(self.closes)


class Sequence:
    """An iterable by the old protocol: __getitem__ alone."""

    def __init__(self, items):
        self.items = items

    def __getitem__(self, index):
        return self.items[index]


class Failing(Iterator):
    """One whose close() raises."""

    def close(self):
        super().close()
        raise ValueError("close() failed on request")


def iterator(kind, environ, start_response, script):
    """start_response (or an exception) in the call, the rest as the answer is iterated."""
    first, *rest = script["steps"]
    play = kind(environ, start_response, rest if first[0] in ("start", "fail") else script["steps"])
    play.closes = script["closes"]
    if play.steps is rest:
        getattr(play, first[0])(*first[1:])
    return play


def application(environ, start_response):
    script = json.loads(unquote(environ["QUERY_STRING"]))
    if script["shape"] == "iterator":
        return iterator(Iterator, environ, start_response, script)
    if script["shape"] == "failing":
        return iterator(Failing, environ, start_response, script)
    answer = Play(environ, start_response, script["steps"]).run()
    if script["shape"] == "generator":
        return answer
    items = list(answer)
    if script["shape"] == "itself":
        return items[0]
    return {"list": items, "tuple": tuple(items), "sequence": Sequence(items)}[script["shape"]]


validated = validator(application)
