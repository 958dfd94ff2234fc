"""Processes that an application starts: their exit status is the application's, and nobody else waits for them."""

import pytest

from harness import config, http1


@pytest.mark.parametrize("main", ["", "master_process off;"])
def test_exit_statuses(serve, main):
    server = serve(config.site("location / { wsgi_pass children; }"), main=main)
    assert http1.fetch(server, "/40").text.split() == ["3"] * 40
    assert "unknown process" not in server.log() and "waitpid" not in server.log()
