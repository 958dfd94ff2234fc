"""What the application writes to wsgi.errors, stderr, stdout and logging is in nginx's error log."""

import re
from urllib.parse import quote

import pytest

from harness import config, http1
from harness.waiting import until

CONF = """
    location /main/ { wsgi_pass loud; }
    location /own/ { error_log @DIR@/own.log info; wsgi_pass loud; }
"""


@pytest.fixture(scope="module")
def server(serve_module):
    return serve_module(config.site(CONF))


def say(server, how, text, at="/main/"):
    response = http1.fetch(server, f"{at}{how}?{quote(text)}")
    assert response.status == 200, response


WAYS = ["errors", "errors-lines", "stderr", "stdout", "print", "warning", "critical"]


@pytest.mark.parametrize("how", WAYS)
def test_it_arrives_with_the_connection_s_number(server, how):
    server.expect(r"\[crit\]")
    say(server, how, f"a word by {how}")
    line = server.wait_log(rf"[^\n]*a word by {how}[^\n]*")[0]
    assert re.match(r"\d{4}/\d\d/\d\d \d\d:\d\d:\d\d \[\w+\] \d+#\d+: \*\d+ ", line), "a line like nginx's own"


@pytest.mark.parametrize("how, level", [("warning", "warn"), ("error", "error"), ("critical", "crit")])
def test_levels_of_logging(server, how, level):
    server.expect(r"\[crit\]")
    say(server, how, "how bad is it")
    assert f"[{level}]" in server.wait_log(r"[^\n]*how bad is it[^\n]*")[0]


@pytest.mark.parametrize("how", ["errors", "stderr", "print"])
def test_one_write_is_one_line(server, how):
    say(server, how, f"first by {how}\nsecond by {how}\n")
    server.wait_log(f"second by {how}")
    assert not [line for line in server.log().splitlines() if not line.strip()], "no empty lines"


@pytest.mark.parametrize("how", ["errors", "stderr", "warning"])
def test_a_long_line_is_there_whole(server, how):
    """nginx cuts a line at 2 KiB; what the application says must survive it."""
    say(server, f"{how}-long", "3000")
    server.wait_log("long-end")
    said = re.sub(r"\n\d{4}/[^\n]*?\*\d+ ", "", server.log())
    assert len(re.findall(r"<\d+>", said)) >= 2900, "all but what stands where a line was broken"
    assert "<0>" in said and "<2999>" in said


@pytest.mark.parametrize("how", WAYS)
def test_any_characters(server, how):
    server.expect(r"\[crit\]")
    say(server, how, "gr\u00fc\u00dfe \u20ac \U0001f600 ende")
    server.wait_log("gr\u00fc\u00dfe \u20ac \U0001f600 ende")


def test_without_a_line_end_it_arrives_all_the_same(server):
    say(server, "unfinished", "no line end")
    server.wait_log("no line end")


def test_a_location_s_own_log(server):
    say(server, "errors", "for the own log", at="/own/")
    until(lambda: "for the own log" in (server.dir / "own.log").read_text(), "the location's own error log")
    assert "for the own log" not in server.log()


def test_a_thread_without_a_request(server):
    say(server, "thread", "from a thread of its own")
    server.wait_log("from a thread of its own")


def test_control_characters_are_spelt_out(server):
    """A terminal that shows the log must not obey what a client sent."""
    say(server, "errors", "red \x1b[31m alert\r")
    server.wait_log("alert")
    assert "\x1b" not in server.log() and "\r" not in server.log()


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_the_streams_behave_like_files(server, name):
    response = http1.fetch(server, f"/main/file?{name}")
    assert response.text == "ok", response.text


KEPT = """
import logging, sys
kept = {"out": sys.stdout, "err": sys.stderr}
logging.getLogger("early").addHandler(logging.StreamHandler(sys.stdout))
"""


@pytest.mark.parametrize("stream, level", [("out", "notice"), ("err", "error"), ("logging", "notice")])
def test_streams_that_sitecustomize_keeps_write_to_the_log(serve, tmp_path, stream, level):
    (tmp_path / "sitecustomize.py").write_text(KEPT)
    server = serve(config.site("location / { wsgi_pass kept; }"), main=f"env PYTHONPATH={tmp_path};")
    assert http1.fetch(server, f"/?{stream}").text == "ok"
    line = server.wait_log(f"[^\\n]*a word by the kept {stream}[^\\n]*")[0]
    assert f"[{level}]" in line and ": *" in line


def test_tzset_moves_nginx_s_times(serve):
    """docs/deploying.md says so: the C library has one time zone for a process."""
    server = serve(config.site("location / { wsgi_pass zone; } location /static { return 200; access_log @DIR@/zone.log zone; }",
                               http="log_format zone '$time_local';"), main="env TZ=UTC;")
    zone = server.dir / "zone.log"

    def ends_with(offset):
        http1.fetch(server, "/static")
        return zone.exists() and zone.read_text().rstrip().endswith(offset)

    until(lambda: ends_with("+0000"), "nginx's own zone")
    assert http1.fetch(server, "/?XYZ-5").text == "ok"
    until(lambda: ends_with("+0500"), "the application's zone")
