"""Litmus, the test suite for WebDAV servers, on WsgiDAV."""

import re
import subprocess

import pytest

from harness import config

# How many tests each suite has at least; it depends on the version.
SUITES = {"basic": 16, "copymove": 13, "props": 30, "locks": 40, "http": 4}
# What WsgiDAV does wrong by itself: it copies what is in a collection even where Depth is 0. Litmus asks since 0.14.
KNOWN = {"copy_shallow"}


@pytest.mark.parametrize("buffering", ["on", "off"])
def test_litmus(serve, tmp_path, buffering):
    files = tmp_path / "files"
    files.mkdir()
    app = f"wsgi_app dav {{ module litmus_dav; path @APPS@; env DAV_ROOT={files}; }}"
    server = serve(app + config.site(f"location / {{ wsgi_pass dav; wsgi_request_buffering {buffering}; }}"))
    command = ["litmus", "--keep-going", f"http://127.0.0.1:{server.port}/"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=120)
    text = done.stdout.decode("latin-1")
    failed = {re.split(r"[ .]+", line.strip())[1] for line in text.splitlines() if "FAIL" in line}
    assert failed <= KNOWN and "SKIPPED" not in text, text
    summaries = re.findall(r"summary for `(\w+)': of (\d+) tests run: (\d+) passed", text)
    assert [name for name, _, _ in summaries] == list(SUITES), text
    assert all(int(run) >= SUITES[name] for name, run, _ in summaries), text
    assert sum(int(run) - int(passed) for _, run, passed in summaries) == len(failed), text
