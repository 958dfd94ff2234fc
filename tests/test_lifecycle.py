"""Start, reload and end: every call that has begun or waits is answered."""

import os
import signal

import pytest

from harness import config, http1, processes, script
from harness.gate import Gate
from harness.script import gate, give, play, start
from harness.waiting import until

CONF = (
    script.CONF
    + """
    location /gates/ { wsgi_pass gates; }
    location /static/ { alias @DIR@/; }
    location /pid { wsgi_pass lifetime:pid; }
"""
)
SITE = config.site(CONF, pool="wsgi_pool default threads=2;")


def in_flight(server, name):
    """Two running calls and two in the queue, and a response that is half sent."""
    closed = Gate(server, name)
    stream = http1.ask(server, play(start(), give("first"), gate(name), give("second")))
    response = stream.head()
    assert stream.read_chunk(response) == b"first"
    calls = [http1.ask(server, f"/gates/{name}") for _ in range(3)]
    closed.wait_entered(2)

    def check():
        stream.read_body(response)
        assert response.text == "firstsecond" and response.complete
        assert [call.response().text for call in calls] == [f"through {name}"] * 3

    return closed, check


@pytest.mark.parametrize("workers", [1, 2])
def test_reload_answers_what_is_in_flight(serve, workers):
    server = serve(SITE, workers=workers)
    closed, check = in_flight(server, "reload")
    old = server.reload()
    assert http1.fetch(server, "/hello").text == "hello\n", "the new workers serve meanwhile"
    assert any(map(processes.alive, old)), "the old ones wait for their calls"
    closed.open()
    check()
    until(lambda: not any(map(processes.alive, old)), "the old workers have ended")


def test_quit_answers_what_is_in_flight(serve):
    server = serve(SITE)
    closed, check = in_flight(server, "quit")
    server.quit()
    until(lambda: server.count("gracefully shutting down"), "the worker is leaving")
    closed.open()
    check()
    assert server.wait() == 0


def test_quit_with_idle_keep_alive_connections(serve):
    server = serve(SITE)
    idle = [http1.Connection(server.port) for _ in range(5)]
    for connection in idle:
        connection.request("/hello")
        assert connection.response().text == "hello\n"
    server.quit()
    assert server.wait(10) == 0
    assert all(connection.is_closed() for connection in idle)


def test_quit_while_nothing_happens_is_quick(serve):
    server = serve(SITE)
    assert http1.fetch(server, "/hello").status == 200
    server.quit()
    assert server.wait(5) == 0


def test_a_fast_stop_does_not_wait_for_calls(serve):
    server = serve(SITE)
    closed = Gate(server, "fast")
    http1.ask(server, f"/gates/{closed.name}")
    closed.wait_entered()
    server.workers = None
    server.signal(signal.SIGTERM)
    assert server.wait(10) == 0


def test_reloads_one_after_the_other(serve):
    server = serve(SITE)
    for _ in range(4):
        assert http1.fetch(server, "/hello").text == "hello\n"
        old = server.reload()
        until(lambda: not any(map(processes.alive, old)), "the old worker has ended")


def test_a_reload_takes_new_code_and_new_configuration(serve, tmp_path):
    (tmp_path / "fresh.py").write_text(FRESH.format(text="old"))
    conf = config.whole(f"wsgi_path {tmp_path};" + config.site("location / { wsgi_pass fresh; }"), with_python=False)
    server = serve("", text=conf)
    assert http1.fetch(server).text == "old"
    (tmp_path / "fresh.py").write_text(FRESH.format(text="newer"))
    server.write_conf(conf.replace("location / {", "location /moved {"))
    server.reload()
    assert http1.fetch(server, "/moved").text == "newer"
    assert http1.fetch(server, "/").status == 404


FRESH = """
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"{text}"]
"""


def test_a_reload_to_a_bad_configuration_changes_nothing(serve):
    server = serve(SITE)
    server.expect(r"\[emerg\]")
    workers = server.worker_pids()
    server.write_conf(config.whole(SITE.replace("wsgi_pass gates;", "wsgi_pass gates pool=none;")))
    server.signal(signal.SIGHUP)
    server.wait_log(r"\[emerg\].*none")
    assert server.worker_pids() == workers
    assert http1.fetch(server, "/hello").text == "hello\n"


def test_two_workers_both_serve(serve):
    # With a socket of its own for each worker, the kernel spreads connections over them.
    server = serve(SITE.replace("@PORT@;", "@PORT@ reuseport;"), workers=2)
    pids = set()
    until(lambda: pids.add(int(http1.fetch(server, "/pid").text)) or len(pids) == 2, "answers from both workers")
    assert pids == set(server.worker_pids())


def test_without_a_master_process(serve):
    server = serve(SITE, main="master_process off;")
    assert int(http1.fetch(server, "/pid").text) == server.pid
    closed, check = in_flight(server, "single")
    closed.open()
    check()
    server.quit()
    assert server.wait(10) == 0


def test_files_are_served_while_an_application_is_imported(serve):
    conf = config.site(CONF + "location /slow { wsgi_pass slow_import; }")
    server = serve(conf, main="env WSGI_TEST_DIR;", environ={"WSGI_TEST_DIR": "@DIR@"})
    closed = Gate(server, "import")
    with closed:
        closed.wait_entered()
        call = http1.ask(server, "/slow")
        for _ in range(20):
            assert http1.fetch(server, "/static/nginx.conf").status == 200
    assert call.response().text == "imported"


def test_a_broken_application_harms_no_other(serve):
    server = serve(
        config.site(CONF + "location /broken { wsgi_pass broken; } location /missing { wsgi_pass nowhere; }")
    )
    server.expect("Traceback")
    for _ in range(3):
        assert http1.fetch(server, "/broken").status == 500
        assert http1.fetch(server, "/missing").status == 500
        assert http1.fetch(server, "/hello").text == "hello\n"


def test_quit_during_an_import(serve):
    conf = config.site(CONF + "location /slow { wsgi_pass slow_import; }")
    server = serve(conf, main="env WSGI_TEST_DIR;", environ={"WSGI_TEST_DIR": "@DIR@"})
    closed = Gate(server, "import")
    closed.wait_entered()
    call = http1.ask(server, "/slow")
    server.quit()
    until(lambda: server.count("gracefully shutting down"), "the worker is leaving")
    closed.open()
    assert call.response().text == "imported"
    assert server.wait() == 0


def test_atexit_runs_and_threads_of_the_application_end(serve):
    server = serve(config.site(script.CONF + "location /at { wsgi_pass lifetime; }"))
    assert http1.fetch(server, "/at").text == "registered"
    server.quit()
    assert server.wait(15) == 0
    noted = (server.dir / "atexit").read_text().split()
    assert noted[0] != noted[1], "atexit functions run in python-main, not on the event loop"


def test_a_worker_that_is_killed_is_replaced(serve):
    """nginx does that; the new worker must find everything it needs."""
    server = serve(SITE)
    server.expect("exited on signal 9")
    (old,) = server.worker_pids()
    assert http1.fetch(server, "/hello").text == "hello\n"
    os.kill(old, signal.SIGKILL)
    until(lambda: server.worker_pids() and server.worker_pids() != [old], "a new worker")
    server.workers = server.worker_pids()
    assert http1.fetch(server, "/hello").text == "hello\n"
