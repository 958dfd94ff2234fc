"""Whatever an application does to its process costs it the worker at most: the master starts another."""

import pytest

from harness import config, http1
from harness.waiting import until

SITE = config.site("location /ends/ { wsgi_pass ends; }", pool="wsgi_pool default threads=1;")
# After these, the same worker goes on.
HARMLESS = {"system_exit_2"}
WAYS = [
    "os_exit_0",
    "os_exit_1",
    "os_exit_2",
    "os_exit_255",
    "c_exit_2",
    "c_quick_exit_2",
    "system_call_2",
    "abort",
    "kill",
    "terminate",
    "segfault",
    "fatal_error",
    "system_exit_2",
]


@pytest.fixture(scope="module")
def server(serve_module):
    server = serve_module(SITE)
    server.workers = None  # they come and go
    return server


def serving(server):
    """The process that answers, or None while there is none."""
    try:
        return int(http1.fetch(server, "/ends/").text)
    except (OSError, EOFError):
        return None


@pytest.mark.parametrize("way", WAYS)
def test_the_master_starts_another_worker(server, way):
    server.expect(r"exited on signal", r"exited with code", "Fatal Python error", "Traceback")
    old = until(lambda: serving(server), "a worker serves")
    with http1.Connection(server.port) as connection:
        connection.request(f"/ends/{way}")
        if way in HARMLESS:
            assert connection.response().status == 500
        else:
            connection.rest()
    new = until(lambda: serving(server), "a worker serves again")
    assert (new == old) == (way in HARMLESS)
    assert "cannot be respawned" not in server.log()


def test_a_worker_that_ends_at_import_is_started_again(serve, tmp_path):
    """Each time: the module that leaves may be mended meanwhile."""
    module = tmp_path / "leaves.py"
    module.write_text("import os\nos._exit(2)\n")
    server = serve(config.site(f"location / {{ wsgi_pass {module}; }}", pool="wsgi_pool default threads=1;"))
    server.workers = None
    server.expect("exited with code")
    until(lambda: server.count("exited with code 2") >= 10, "it leaves, and leaves again")
    module.write_text(GOOD)
    until(lambda: served(server) == "mended", "it is mended")
    assert "cannot be respawned" not in server.log()


GOOD = """
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"mended"]
"""


def served(server):
    try:
        return http1.fetch(server, "/").text
    except (OSError, EOFError):
        return None
