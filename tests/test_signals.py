"""Signals that nginx does not use are the application's; those that it uses are not."""

import json
import os
import signal

import pytest

from harness import config, http1, processes
from harness.waiting import until

SITE = config.site("location /signals/ { wsgi_pass signalled; } location /static { return 200 static; }")


@pytest.fixture
def server(serve):
    server = serve(SITE)
    server.expect("signal.signal", "exception in a signal handler", "Traceback")
    return server


def ask(server, case):
    response = http1.fetch(server, f"/signals/{case}")
    assert response.status == 200
    return json.loads(response.text)


def test_the_application_s_handlers_are_set(server):
    assert ask(server, "before") == [True] * 4
    assert ask(server, "handlers") == [True] * 4
    server.wait_log(r"signal\.signal\(<Signals\.SIGTERM: 15>, \.\.\.\) is ignored")
    assert server.count("is ignored") == 1


def test_a_handler_runs_though_nothing_else_does(server):
    """In python-main, which is Python's main thread."""
    ask(server, "before")
    (worker,) = server.worker_pids()
    for count in (1, 2):
        os.kill(worker, signal.SIGRTMIN)
        until(lambda: ask(server, "caught").get("SIGRTMIN") == count, "its handler has run")
    assert ask(server, "threads") == [True]


def test_a_sampling_profiler(server):
    """Its timers end no worker, nor do they when the worker ends."""
    ask(server, "profile")
    ask(server, "spin")
    until(lambda: {"SIGVTALRM", "SIGPROF"} <= ask(server, "caught").keys(), "both handlers have run")
    assert server.count("epoll_wait.. failed") == 0, "the event loop is not interrupted"
    old = server.reload()
    until(lambda: not any(map(processes.alive, old)), "the old worker has ended")
    assert http1.fetch(server, "/static").text == "static"
    assert not server.count("exited on signal")


def test_an_exception_in_a_handler(server):
    ask(server, "before")
    os.kill(server.worker_pids()[0], signal.SIGRTMIN + 1)
    server.wait_log(r"\[error\].*exception in a signal handler")
    server.wait_log("RuntimeError: in a handler")
    os.kill(server.worker_pids()[0], signal.SIGRTMIN)
    until(lambda: ask(server, "caught").get("SIGRTMIN") == 1, "others run on")


def test_a_call_is_not_in_the_main_thread(server):
    assert "main thread" in ask(server, "in_a_call")


def test_a_child_handles_its_own(server):
    assert ask(server, "child") == 1
    assert "SIGRTMIN" not in ask(server, "caught")
