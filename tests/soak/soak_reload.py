"""Reload and quit under load: every request that a worker has taken is answered."""

import re
import threading
import time

from harness import http1, processes
from harness.waiting import until
from soak import site

CLIENTS, RELOADS = 16, 15
PATHS = ["/hello", "/sleep?0.05", "/stream?300000", "/sleep?0.3"]


class Client(threading.Thread):
    """Asks on a new connection each time, or (`keeps`) on one as long as it lasts."""

    def __init__(self, server, number, keeps):
        super().__init__(daemon=True)
        self.server, self.path, self.keeps = server, PATHS[number % len(PATHS)], keeps
        self.answered, self.refused, self.wrong = 0, 0, []
        self.stopping = threading.Event()
        self.connection = None

    def run(self):
        while not self.stopping.is_set():
            try:
                self.once()
            except Exception as error:  # noqa: BLE001 (whatever it is, the test is to show it)
                self.wrong.append(f"{self.path}: {error!r}")
                self.connection = None

    def once(self):
        fresh = self.connection is None
        try:
            connection = self.connection or http1.Connection(self.server.port)
        except ConnectionRefusedError:
            self.refused += 1
            return
        self.connection = None
        headers = [] if self.keeps else [("Connection", "close")]
        try:
            connection.request(self.path, headers=headers)
            response = connection.response()
        except (EOFError, OSError) as error:
            # A server may close an idle connection just as the client uses it again: the client's turn to retry.
            if fresh or connection.buffer:
                raise RuntimeError(f"a request on a {'new' if fresh else 'used'} connection was cut off") from error
            return
        if response.status != 200 or not response.complete:
            raise RuntimeError(f"{response!r}")
        self.answered += 1
        if self.keeps and response.get("Connection") != "close":
            self.connection = connection
        else:
            connection.close()


def crowd(server):
    clients = [Client(server, number, keeps=number % 2 == 0) for number in range(CLIENTS)]
    for client in clients:
        client.start()
    return clients


def end(clients):
    for client in clients:
        client.stopping.set()
    for client in clients:
        client.join(30)


def reloads(server, count):
    """Reloads `count` times under load; nothing may go wrong."""
    clients = crowd(server)
    for _ in range(count):
        before = sum(client.answered for client in clients)
        old = server.reload()
        until(lambda: not any(map(processes.alive, old)), "the old worker has ended", 30)
        until(lambda: sum(client.answered for client in clients) > before + CLIENTS, "the new worker answers")
    end(clients)
    assert [wrong for client in clients for wrong in client.wrong] == []
    assert all(client.refused == 0 for client in clients)


def test_reloads_under_load(serve, tmp_path):
    server, _ = site.start(serve, tmp_path, threads=8)
    reloads(server, RELOADS)


def test_quit_under_load(serve, tmp_path):
    server, _ = site.start(serve, tmp_path, threads=8, access_log="@DIR@/access.log test")
    quit_under_load(server)


def quit_under_load(server):
    """What nginx has logged as answered is what the clients have got: no answer was cut off."""
    clients = crowd(server)
    until(lambda: all(client.answered for client in clients), "everybody has had an answer")
    server.quit()
    assert server.wait() == 0
    time.sleep(0.1)  # whoever had an answer has counted it
    end(clients)
    lines = [line for line in server.access() if re.match(r"GET /(hello|sleep|stream)", line)]
    assert {line.split()[2] for line in lines} == {"200"}
    assert sum(client.answered for client in clients) == len(lines)
