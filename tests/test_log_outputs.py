"""Where the error log goes: a file that is rotated, and outputs that are no files."""

import re
import select
import signal
import socket
import subprocess
import threading
import time

import pytest

from harness import config, http1, processes
from harness.gate import Gate
from harness.waiting import until

# Between reading the number of a descriptor and writing to it, a thread may be held up. Here it always is.
SLOW_WRITE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/syscall.h>
#include <unistd.h>

ssize_t write(int fd, const void *data, size_t size)
{
    if (fd > 2 && size > 20 && syscall(SYS_gettid) != getpid())
        usleep(20000);
    return syscall(SYS_write, fd, data, size);
}
"""


@pytest.fixture
def slow_write(tmp_path):
    """A library that holds up each write() of threads."""
    source, library = tmp_path / "slow.c", tmp_path / "slow.so"
    source.write_text(SLOW_WRITE)
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source], check=True)
    return library


def test_rotation_never_makes_a_thread_write_to_another_file(serve, slow_write):
    """nginx closes the log's descriptor when it reopens the log, and the next client's socket gets its number."""
    server = serve(config.site("location / { wsgi_pass rotated; }"), environ={"LD_PRELOAD": str(slow_write)})
    http1.fetch(server, "/start")
    for number in range(10):
        server.wait_log("a line of a thread", since=0)
        server.error_log.rename(server.dir / f"error.log.{number}")
        server.signal(signal.SIGUSR1)
        clients = []
        while "a line of a thread" not in server.log(since=0):
            clients.append(socket.create_connection(("127.0.0.1", server.port)))
            time.sleep(0.002)
        assert not any(map(readable, clients)), "a client that has sent nothing was sent a line of the log"
    assert http1.fetch(server, "/stop").text == "stopped"


def readable(client):
    ready = select.select([client], [], [], 0)[0]
    client.close()
    return bool(ready)


def spam(serve, main, seconds=1):
    server = serve(
        "wsgi_param test.dir @DIR@;" + config.site("location /spam { wsgi_pass spam; } location / { return 200 quick; }"),
        main=main,
    )
    client = threading.Thread(target=http1.fetch, args=(server, f"/spam?{seconds}"))
    with Gate(server, "spam") as gate:
        client.start()
        gate.wait_entered()
    slowest = 0
    while client.is_alive():
        began = time.monotonic()
        assert http1.fetch(server, "/static").text == "quick"
        slowest = max(slowest, time.monotonic() - began)
    client.join()
    return server, slowest


def test_a_log_that_is_no_file_neither_stalls_nor_grows(serve, tmp_path):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as syslog:
        syslog.bind(("127.0.0.1", 0))
        port = syslog.getsockname()[1]
        # The file gets each line that syslog gets.
        main = f"error_log syslog:server=127.0.0.1:{port} notice; error_log @DIR@/copy.log notice;"
        server, slowest = spam(serve, main)
        assert slowest < 0.5, "the event loop is busy with the log"
        assert processes.resident(server.workers[0]) < 100 << 20
        written = int((server.dir / "spam.count").read_text())
        copy = server.dir / "copy.log"

        def accounted():
            text = copy.read_text(errors="replace")
            dropped = sum(map(int, re.findall(r" (\d+) log records? dropped: ", text)))
            return text.count("of the application") + dropped == written + 1 and dropped

        dropped = until(accounted, "every record is there, or counted as dropped")
        assert dropped > 1000
        until(lambda: b"a line of the application" in syslog.recv(4096), "the line in syslog")


def test_what_the_level_leaves_out_is_not_kept_for_the_event_loop(serve):
    """Else it would push out what the level lets in."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as syslog:
        syslog.bind(("127.0.0.1", 0))
        port = syslog.getsockname()[1]
        server, _ = spam(serve, f"error_log syslog:server=127.0.0.1:{port} error; error_log @DIR@/copy.log error;", 0.2)
        copy = server.dir / "copy.log"
        until(lambda: "the end of the application's lines" in copy.read_text(), "the one that counts")
        assert "dropped" not in copy.read_text() and "a line of" not in copy.read_text()
