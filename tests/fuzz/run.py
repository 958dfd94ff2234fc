"""Runs random cases side by side for a while, and says which went wrong."""

import itertools
import threading
import time

from harness import config, http1
from harness.waiting import until

from . import border, wire

THREADS = 4
ROUND = 2000
ACTIVE = "location = /active { return 200 $wsgi_active; }"


class Cases:
    """Numbers for some threads to take, until time is up or a round is full."""

    def __init__(self, first, deadline):
        self.numbers, self.deadline = itertools.count(first), deadline
        self.taken, self.wrong = [], []
        self.lock = threading.Lock()

    def take(self):
        with self.lock:
            if len(self.taken) >= ROUND or len(self.wrong) >= 5 or time.monotonic() > self.deadline:
                return None
            self.taken.append(next(self.numbers))
            return self.taken[-1]

    def run(self, make):
        """`make()` gives each thread two functions: one that plays a case and says what is wrong, and one for the end."""
        threads = [threading.Thread(target=self._run, args=(make,)) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _run(self, make):
        play, end = make()
        while (number := self.take()) is not None:
            try:
                wrong = play(number)
            except Exception as error:
                wrong = repr(error)
            if wrong:
                self.wrong.append(f"case {number}: {wrong}")
        end()


def rounds(server, first, seconds, make, check):
    """How many cases were played; raises AssertionError with what went wrong."""
    deadline, count = time.monotonic() + seconds, 0
    (worker,) = server.worker_pids()
    while time.monotonic() < deadline:
        since = server.error_log.stat().st_size
        cases = Cases(first + count, deadline)
        cases.run(make)
        until(lambda: http1.fetch(server, "/active").text == "0", "no request is left")
        wrong = cases.wrong + check(since, cases.taken)
        assert not wrong, "\n".join([*wrong[:20], "play one again: make fuzz CASE=NUMBER"])
        assert server.worker_pids() == [worker]
        count += len(cases.taken)
    return count


def python_border(serve, first, seconds):
    """What the application gives and takes."""
    server = serve(config.site(border.LOCATIONS + ACTIVE))
    server.expect("Traceback")

    def make():
        client = border.Client(server)
        return client.play, client.close

    def check(since, numbers):
        return border.check_report(server, numbers) + border.check_log(server.log(since), numbers)

    return rounds(server, first, seconds, make, check)


def nginx_border(serve, first, seconds):
    """What clients send."""
    server = serve(config.site(wire.LOCATIONS + ACTIVE))

    def make():
        return lambda number: wire.Conversation(number).run(server.port), lambda: None

    return rounds(server, first, seconds, make, lambda since, numbers: [])
