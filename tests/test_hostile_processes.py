"""Applications that fork, start processes and use signals."""

import json
import os
import signal
import socket
import threading

import pytest

from harness import config, http1, processes
from harness.gate import Gate
from harness.waiting import until

CONF = """
    wsgi_param test.dir @DIR@;
    location /process/ { wsgi_pass hostile_processes; }
    location /gates/ { wsgi_pass gates; }
    location /hello { wsgi_pass hello; }
    location = /status { wsgi_status; }
"""
SITE = config.site(CONF, server="keepalive_requests 1000000;")


@pytest.fixture(scope="module")
def shared(serve_module):
    return serve_module(SITE)


@pytest.fixture
def server(shared):
    """The same worker, before and afterwards."""
    shared.expect("signal.signal")
    workers = shared.worker_pids()
    yield shared
    for _ in range(4):
        assert http1.fetch(shared, "/hello").text == "hello\n"
    assert shared.worker_pids() == workers
    until(lambda: not processes.children(workers[0]), "no child of the worker is left")


def fetch(server, case, query="", method="GET", body=b""):
    """One request, and another on the same connection: the child had better not touch it."""
    with http1.Connection(server.port) as connection:
        connection.request(f"/process/{case}?{query}", method, body=body)
        response = connection.response(method)
        connection.request("/hello")
        assert connection.response().text == "hello\n"
    return response


# ---- fork ----

ENDS = {
    "returns": 0,
    "exits": 3,
    "exits_silently": 4,
    "exits_with_text": 1,
    "fails": 1,
    "is_killed": -signal.SIGKILL,
    "is_terminated": -signal.SIGTERM,
    "is_interrupted": -signal.SIGINT,
    "quits": -signal.SIGQUIT,
    "threaded": 0,
    "starts_others": 6,
    "forks_again": 7,
    "sockets": 0,
    "execs": 5,
    "prints": 0,
}


ANSWER = ("returns", "threaded", "prints")


@pytest.mark.parametrize("child", ENDS)
@pytest.mark.parametrize("place", ["call", "step"])
def test_fork(server, child, place):
    server.expect("Traceback", "Unlucky")
    # What returns in a call goes on to call start_response(), which no child can.
    end = 1 if place == "call" and child in ANSWER else ENDS[child]
    text = fetch(server, "forks", f"{child}-{place}").text
    assert text == (f"<{end}>" if place == "step" else str(end))


@pytest.mark.parametrize("child", ["returns", "exits", "exits_silently", "is_terminated"])
def test_fork_in_a_thread(server, child):
    """There a child's end is Python's: what its thread leaves by is of no consequence."""
    server.expect("Traceback")
    assert fetch(server, "forks", f"{child}-thread").text in (str(ENDS[child]), "0")


@pytest.mark.parametrize("child", ["returns", "exits", "fails"])
def test_fork_in_close(server, child):
    server.expect("Traceback", "Unlucky")
    path = server.dir / "closed"
    path.unlink(missing_ok=True)
    assert fetch(server, "forks", f"{child}-close").text == "closing"
    assert until(lambda: path.exists() and path.read_text(), "the child's end") == f"{ENDS[child]}\n"


def test_a_child_counts_nothing(server):
    """It has the memory in which the workers count, and its copy of the call ends, too."""
    server.expect("Traceback", "Unlucky")

    def pool():
        return json.loads(http1.fetch(server, "/status").text)["pools"]["default"]

    until(lambda: pool()["busy"] == 0, "nothing runs")
    for where in ("returns-call", "returns-step", "fails-call", "exits-close", "exits_silently-thread"):
        fetch(server, "forks", where)
    until(lambda: pool()["busy"] == 0, "nothing runs any more")
    with Gate(server, "counted") as closed, http1.Connection(server.port) as connection:
        connection.request("/gates/counted")
        closed.wait_entered()
        assert (pool()["busy"], pool()["queued"]) == (1, 0)
        closed.open()
        assert connection.response().status == 200


def test_what_a_child_says(server):
    """It goes to the worker's standard error, not to a client."""
    server.expect("Traceback", "Unlucky")
    fetch(server, "forks", "exits_with_text-call")
    fetch(server, "forks", "fails-call")
    fetch(server, "forks", "prints-call")
    said = server.stderr_text() + server.log()
    for words in ("a last word", "Unlucky: in the child", "a word from the child", "a record from the child"):
        assert words in said


@pytest.mark.parametrize("what", ["start_response", "write", "large_write"])
def test_a_child_cannot_answer(server, what):
    """Whatever lock another thread had at the moment of the fork, the child gets an error, and at once."""
    assert fetch(server, "answers_in_a_child", what).text == "RuntimeError: a child process that os.fork() made cannot answer " \
        "the worker's request"


def test_many_forks_under_load(server):
    stop = threading.Event()
    wrong = []

    def load():
        with http1.Connection(server.port) as connection:
            while not stop.is_set():
                connection.request("/hello")
                if connection.response().text != "hello\n":
                    wrong.append(connection)

    loaders = [threading.Thread(target=load) for _ in range(3)]
    for loader in loaders:
        loader.start()
    try:
        for _ in range(3):
            assert fetch(server, "forks_while_others_work").text == "{9}"
    finally:
        stop.set()
        for loader in loaders:
            loader.join()
    assert not wrong


@pytest.mark.parametrize("way", ["forks_and_leaves", "daemonizes"])
def test_a_child_that_lives_on(serve, way):
    """It keeps no connection and no port, and outlives nginx if it wants to."""
    server = serve(SITE)
    server.expect("signal.signal")
    with Gate(server, way) as gate, http1.Connection(server.port) as other:
        other.request("/hello")
        assert other.response().text == "hello\n"
        with http1.Connection(server.port) as connection:
            connection.request(f"/process/{way}?{way}", headers=[("Connection", "close")])
            child = int(connection.response().text)
            assert connection.is_closed(), "the child does not keep it open"
        gate.wait_entered()
        assert processes.alive(child)
        other.request("/hello")
        assert other.response().text == "hello\n"
        server.quit()
        assert server.wait() == 0
        assert other.is_closed() and processes.alive(child)
        with socket.socket() as again:
            again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            again.bind(("127.0.0.1", server.port))
            again.listen()
        gate.open()
        until(lambda: not processes.alive(child), "the child ends")
        assert gate.left() == 1


def test_a_child_that_lives_on_can_be_terminated(serve):
    server = serve(SITE)
    server.expect("signal.signal")
    with Gate(server, "terminated"):
        child = int(fetch(server, "forks_and_leaves", "terminated").text)
        os.kill(child, signal.SIGTERM)
        until(lambda: not processes.alive(child), "the child ends")


# ---- other processes ----


def test_posix_spawn(server):
    assert fetch(server, "posix_spawns").text == "8"


def test_os_system_and_popen(server):
    assert fetch(server, "system").text == "11 popen"


def test_no_signal_is_blocked_or_ignored_in_a_child(server):
    blocked, ignored, _ = json.loads(fetch(server, "signals_of_a_child").text)
    assert blocked == []
    assert set(ignored) <= {signal.SIGXFSZ, signal.SIGSYS}, "Python itself ignores the one, nginx the other"


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1"])
def test_a_child_ends_at_a_signal(server, name):
    server.expect("Traceback")  # KeyboardInterrupt, in the child
    assert fetch(server, "terminates", name).text == str(-getattr(signal, name))


def test_a_child_that_takes_too_long(server):
    assert fetch(server, "times_out").text == "expired"


def test_much_goes_through_a_child(server):
    body = os.urandom(500_000)
    assert fetch(server, "talks", method="POST", body=body).body == body


def test_a_child_inherits_nothing_of_the_server_s(server):
    ours, theirs = json.loads(fetch(server, "descriptors_of_a_child").text)
    assert ours > 8 and len(theirs) <= 8, theirs


# ---- multiprocessing ----


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing(serve, method):
    """In a server of its own: helpers of multiprocessing's live as long as the worker."""
    server = serve(SITE)
    server.expect("signal.signal", "Traceback", "Unlucky")
    workers = server.worker_pids()
    assert json.loads(fetch(server, "multiprocess", method).text) == [49, 0, [0, 1, 4, 9, 16]]
    assert json.loads(fetch(server, "executor", method).text) == [0, 1, 4, 9]
    assert fetch(server, "process_that_fails", method).text == "1"
    assert fetch(server, "process_that_is_terminated", method).text == str(-signal.SIGTERM)
    assert server.worker_pids() == workers
    helpers = processes.children(workers[0])
    server.quit()
    assert server.wait() == 0
    until(lambda: not any(map(processes.alive, helpers)), "multiprocessing's helpers have ended")


# ---- signals ----


def test_signal_handlers_are_not_set(serve):
    """nginx reloads, reopens its logs and quits by the signals that the application has wanted."""
    server = serve(SITE)
    server.expect("signal.signal")
    for case in ("sets_signals", "blocks", "alarms"):
        assert fetch(server, case).status == 200
    server.wait_log(r"signal\.signal\(.*\) is ignored: signals of this process belong to nginx")
    old = server.reload()
    assert fetch(server, "sets_signals").status == 200
    until(lambda: not any(map(processes.alive, old)), "the old worker has ended")
    server.signal(signal.SIGUSR1)
    server.wait_log("reopening logs")
    assert fetch(server, "blocks").text == "blocked"
    server.quit()
    assert server.wait() == 0


def test_a_worker_obeys_signals_of_its_own(serve):
    """As administrators send them: SIGTERM to the worker, and the master starts another one."""
    server = serve(SITE)
    server.expect("signal.signal")
    assert fetch(server, "sets_signals").status == 200
    assert fetch(server, "blocks").status == 200
    (worker,) = server.worker_pids()
    server.workers = None
    os.kill(worker, signal.SIGTERM)
    until(lambda: server.worker_pids() not in ([], [worker]), "another worker")
    assert http1.fetch(server, "/hello").text == "hello\n"


@pytest.mark.parametrize("query", ["", "usr2"])
def test_an_application_that_signals_itself(server, query):
    assert fetch(server, "signals_itself", query).text == "0"


def test_alarms(server):
    assert fetch(server, "alarms").text == "alive"
