"""An application that handles signals which nginx does not use."""

import json
import os
import signal
import threading
import time

CAUGHT = {}
THREADS = set()


def handler(number, frame):
    CAUGHT[number] = CAUGHT.get(number, 0) + 1
    THREADS.add(threading.current_thread() is threading.main_thread())


def unlucky(number, frame):
    raise RuntimeError("in a handler")


WANTED = (signal.SIGVTALRM, signal.SIGPROF, signal.SIGRTMIN, signal.SIGXCPU)
BEFORE = [signal.signal(number, handler) == signal.SIG_DFL for number in WANTED]
signal.signal(signal.SIGRTMIN + 1, unlucky)
REFUSED = signal.signal(signal.SIGTERM, handler)


def spin(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def child():
    """How often a child's own handler has run there, as its exit code."""
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    CAUGHT.clear()
    os.kill(os.getpid(), signal.SIGRTMIN)
    os._exit(CAUGHT.get(signal.SIGRTMIN, 0))


def in_a_call():
    try:
        signal.signal(signal.SIGPROF, handler)
    except ValueError as error:
        return str(error)


def profile():
    """What a sampling profiler does."""
    for timer in (signal.ITIMER_VIRTUAL, signal.ITIMER_PROF):
        signal.setitimer(timer, 0.005, 0.005)


CASES = {
    "caught": lambda: {signal.Signals(number).name: count for number, count in CAUGHT.items()},
    "threads": lambda: sorted(THREADS),
    "before": lambda: BEFORE,
    "handlers": lambda: [signal.getsignal(number) is handler for number in WANTED],
    "profile": profile,
    "spin": lambda: spin(0.3),
    "child": child,
    "in_a_call": in_a_call,
    "wakeup": lambda: REFUSED,
}


def application(environ, start_response):
    result = CASES[environ["PATH_INFO"].rpartition("/")[2]]()
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(result).encode()]
