"""Litmus, the test suite for WebDAV servers, on WsgiDAV."""

import re
import subprocess

import pytest

from harness import config

SUITES = {"basic": 16, "copymove": 13, "props": 30, "locks": 41, "http": 4}


@pytest.mark.parametrize("buffering", ["on", "off"])
def test_litmus(serve, tmp_path, buffering):
    files = tmp_path / "files"
    files.mkdir()
    app = f"wsgi_app dav {{ module litmus_dav; path @APPS@; env DAV_ROOT={files}; }}"
    server = serve(app + config.site(f"location / {{ wsgi_pass dav; wsgi_request_buffering {buffering}; }}"))
    command = ["litmus", "--keep-going", f"http://127.0.0.1:{server.port}/"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=120)
    text = done.stdout.decode("latin-1")
    assert "FAIL" not in text and "SKIPPED" not in text, text
    summaries = re.findall(r"summary for `(\w+)': of (\d+) tests run: (\d+) passed", text)
    assert summaries == [(name, str(count), str(count)) for name, count in SUITES.items()]
