"""wsgi_status tells of all workers, whichever of them is asked, and of what becomes of them."""

import os
import signal

from harness import config, http1
from harness.gate import Gate
from harness.script import give, play, start
from harness.status import LOCATIONS, POOLS, metrics, pool, running, status, until_pool
from harness.waiting import until


def test_all_workers_are_told_of_by_each(serve):
    server = running(serve(config.site(LOCATIONS, pool=POOLS), workers=3))
    with Gate(server, "each") as closed:
        asked = [http1.ask(server, "/gate/each") for _ in range(12)]
        closed.wait_entered(2)
        until(lambda: pool(server)["busy"] + pool(server)["queued"] == 12, "all of them are told of")
        for _ in range(20):
            found = status(server)
            assert [worker["worker"] for worker in found["workers"]] == [0, 1, 2]
            assert {worker["pid"] for worker in found["workers"]} == set(server.workers)
            every = [worker["pools"]["default"] for worker in found["workers"]]
            for key in ("threads", "busy", "queued", "queue", "requests"):
                assert found["pools"]["default"][key] == sum(each[key] for each in every)
    assert {connection.response().status for connection in asked} == {200}
    until_pool(server, busy=0, queued=0, requests=12)
    assert pool(server)["threads"] == 6 and pool(server)["queue"] == 3072
    assert {labels for name, labels in metrics(server) if name == "nginx_wsgi_worker_up"} == {
        (("worker", str(number)),) for number in range(3)
    }


def test_a_worker_that_is_stuck(serve):
    locations = LOCATIONS.replace("wsgi_pass gates;", "wsgi_pass gates pool=one;")
    pools = "wsgi_pool one threads=1; wsgi_pool small threads=1;"
    server = running(serve(config.site(locations, pool=pools), workers=2))

    def states():
        return sorted(worker["state"] for worker in status(server)["workers"])

    with Gate(server, "stuck") as closed:
        connection = http1.ask(server, "/gate/stuck")
        closed.wait_entered(1)
        until(lambda: states() == ["running", "stuck"], "one of them is")
        stuck = {name: value for (name, labels), value in metrics(server).items() if name.endswith("_stuck") and value}
        assert stuck == {"nginx_wsgi_worker_stuck": 1}
    assert connection.response().status == 200
    until(lambda: states() == ["running", "running"], "none is any more")


def test_a_worker_that_is_killed(serve):
    server = serve(config.site(LOCATIONS, pool=POOLS))
    http1.fetch(server, play(start(), give("x")))
    until_pool(server, requests=1, busy=0)
    with Gate(server, "killed") as closed:
        asked = [http1.ask(server, "/gate/killed") for _ in range(3)]
        closed.wait_entered(2)
        until_pool(server, busy=2, queued=1)
        old = server.workers
        server.workers = None
        server.expect(r"exited on signal 9")
        os.kill(old[0], signal.SIGKILL)
        until(lambda: server.worker_pids() not in ([], old), "a new worker")
        until(lambda: serves(server), "the new worker serves")
        (worker,) = status(running(server))["workers"]
        assert (worker["starts"], worker["pid"]) == (2, server.worker_pids()[0])
        found = worker["pools"]["default"]
        assert (found["threads"], found["busy"], found["queued"]) == (2, 0, 0), "its calls went with it"
        assert found["requests"] == 4, "what had been counted remains"
    assert all(connection.rest() == b"" for connection in asked)


def test_a_worker_that_imports(serve):
    locations = LOCATIONS + "location /slow { wsgi_pass slow_import; }"
    server = serve(config.site(locations, pool=POOLS), main="env WSGI_TEST_DIR;", environ={"WSGI_TEST_DIR": "@DIR@"})
    with Gate(server, "import") as closed:
        closed.wait_entered()
        call = http1.ask(server, "/slow")
        until_pool(server, threads=0, busy=0, queued=1)
        assert status(server)["workers"][0]["state"] == "starting"
    assert call.response().text == "imported"
    assert pool(running(server))["threads"] == 2


def serves(server):
    try:
        return http1.fetch(server, "/status").status == 200
    except (OSError, EOFError):
        return False


def test_a_reload_begins_anew(serve):
    server = serve(config.site(LOCATIONS, pool=POOLS))
    http1.fetch(server, play(start(), give("x")))
    until_pool(server, requests=1, busy=0)
    old = status(server)["workers"][0]["pid"]
    server.write_conf(config.whole(config.site(LOCATIONS, pool=POOLS + "wsgi_pool more threads=1;")))
    server.reload()
    until(lambda: status(server)["workers"][0]["pid"] != old, "a worker of the new configuration")
    (worker,) = status(server)["workers"]
    assert worker["starts"] == 1 and worker["pools"]["default"]["requests"] == 0


def test_without_a_master_process(serve):
    server = serve(config.site(LOCATIONS, pool=POOLS), main="master_process off;")
    http1.fetch(server, play(start(), give("x")))
    until_pool(server, requests=1, busy=0)
    (worker,) = status(server)["workers"]
    assert worker["pid"] == server.pid


def test_without_any_application(serve):
    server = serve("server { listen 127.0.0.1:@PORT@; " + LOCATIONS.split("location /gate/")[0] + "}")
    found = status(server)
    assert (found["pools"], found["workers"]) == ({}, [])
    assert metrics(server) and http1.fetch(server, "/page").status == 200
