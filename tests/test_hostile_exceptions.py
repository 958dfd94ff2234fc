"""Exceptions of every kind, wherever the application's code runs, and recursion: the worker lives, the log says why."""

import re
from urllib.parse import quote

import pytest

from harness import config, http1

KINDS = {
    "SystemExit()": "SystemExit",
    "SystemExit(3)": "SystemExit: 3",
    "SystemExit('bye')": "SystemExit: bye",
    "KeyboardInterrupt()": "KeyboardInterrupt",
    "GeneratorExit()": "GeneratorExit",
    "Own('mine')": "hostile.Own: mine",
    "MemoryError()": "MemoryError",
    "RecursionError('deep')": "RecursionError: deep",
    "BrokenPipeError(32, 'no client')": "BrokenPipeError: .Errno 32. no client",
    "UnicodeDecodeError('utf-8', b'?', 0, 1, 'why')": "UnicodeDecodeError",
}
BEFORE = ["at_call", "after_start", "in_iter", "in_first_next"]
AFTER = ["in_later_next"]


@pytest.fixture(scope="module")
def server(serve_module):
    locations = """
        wsgi_param test.dir @DIR@;
        location /hostile/ { wsgi_pass hostile; }
        location /hello { wsgi_pass hello; }
    """
    return serve_module(config.site(locations))


@pytest.fixture(autouse=True)
def the_worker_lives(server):
    server.expect("Traceback")
    workers = server.worker_pids()
    yield
    for _ in range(4):  # whichever thread takes it
        assert http1.fetch(server, "/hello").text == "hello\n"
    assert server.worker_pids() == workers


def fetch(server, case, query="", method="GET"):
    """One request, and then another on the same connection if that may go on, else on a new one."""
    with http1.Connection(server.port) as connection:
        connection.request(f"/hostile/{case}?{quote(query)}", method)
        response = connection.response(method)
        if response.complete and response.get("Connection") != "close":
            connection.request("/hello")
            assert connection.response().text == "hello\n"
        else:
            assert connection.is_closed()
    return response


# ---- every exception at every place ----


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("where", BEFORE)
def test_before_the_head(server, where, kind):
    response = fetch(server, where, kind)
    assert response.status == 500 and response.complete
    server.wait_log(KINDS[kind])
    assert "Traceback" in server.log() and f"GET /hostile/{where}" in server.log()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("where", AFTER)
def test_after_the_head(server, where, kind):
    response = fetch(server, where, kind)
    assert (response.status, response.text, response.complete) == (200, "first", False)
    server.wait_log(KINDS[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_in_close_when_nothing_has_been_sent(server, kind):
    response = fetch(server, "in_close", kind)
    assert response.status == 500 and response.complete
    server.wait_log(KINDS[kind])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("where", ["in_later_close", "in_looking_close_up"])
def test_in_close(server, where, kind):
    response = fetch(server, where, kind)
    assert (response.status, response.text, response.complete) == (200, "first", False)
    server.wait_log(KINDS[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_in_del(server, kind):
    """Nobody can catch it: CPython reports it, which ends up in the log, too."""
    response = fetch(server, "in_del", kind)
    assert (response.status, response.text, response.complete) == (200, "first", True)
    server.wait_log(r"Exception ignored (in|while)")
    server.wait_log(KINDS[kind])


# GeneratorExit is what close() ends with.
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "GeneratorExit()"])
def test_while_a_generator_is_closed(server, kind):
    response = fetch(server, "in_a_generator_s_finally", kind)
    assert (response.status, response.text, response.complete) == (200, "first", True)
    server.wait_log(KINDS[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_a_generator_that_catches_everything(server, kind):
    assert fetch(server, "ignores_its_end", kind).text == "firstsecond"


# ---- exceptions that do not like to be described ----


@pytest.mark.parametrize(
    "kind, words",
    [
        ("Mute()", "Mute"),
        ("Exits()", "Exits"),
        ("Endless()", "Endless"),
        ("circle()", "ValueError: first"),
        ("ValueError('\\ud800 \\x00 \\x1b[31m')", "ValueError"),
        ("ValueError('a\\r\\nb c')", "ValueError: a"),
        ("type('\u00dcber', (Exception,), {})('\u20ac')", "\u00dcber: \u20ac"),
        ("type('Odd', (Exception,), {'__module__': 5})('text')", "Odd"),
        ("OSError(2, 'No such file', '/a\\udcff')", "No such file"),
        ("SyntaxError('bad', ('file', 1, 10 ** 6, 'text'))", "SyntaxError: bad"),
    ],
)
@pytest.mark.parametrize("where", ["at_call", "in_later_next", "in_later_close"])
def test_odd_exceptions(server, where, kind, words):
    assert fetch(server, where, kind).status == (500 if where == "at_call" else 200)
    server.wait_log(words)
    assert "\0" not in server.log() and "\x1b" not in server.log()


def test_a_long_message(server):
    """It does not fill the log's disk."""
    assert fetch(server, "at_call", "ValueError('x' * 10_000_000)").status == 500
    server.wait_log("ValueError: xxx")
    assert len(server.log()) < 2_000_000


def test_a_long_history(server):
    assert fetch(server, "at_call", "chain(20_000)").status == 500
    server.wait_log("ValueError")
    assert len(server.log()) < 4_000_000


# ---- recursion ----

DEEP = [
    "python",
    "getattr",
    "equal",
    "repr",
    "copy",
    "json",
    "dumps",
    "pickle",
    "unpickle",
    "ast",
    "compile",
    "literal",
    "isinstance",
]


@pytest.mark.parametrize("what", DEEP)
def test_deep_recursion(server, what):
    """What it ends in depends on the version of CPython, whose parser has limits of its own."""
    ends = ("RecursionError", "MemoryError", "SyntaxError", "ValueError", "nothing")
    assert fetch(server, "deep", what).text in ends


@pytest.mark.parametrize("what", ["python", "getattr", "repr", "json"])
def test_deep_recursion_that_nobody_catches(server, what):
    assert fetch(server, "deep_and_uncaught", what).status == 500
    server.wait_log("RecursionError")


def test_deep_recursion_in_a_step(server):
    response = fetch(server, "deep_in_a_step")
    assert response.text == "first" and not response.complete
    server.wait_log("RecursionError")


def test_there_is_stack_for_a_raised_limit(server):
    assert re.fullmatch(r"15\d\d 2501", fetch(server, "deeper_than_usual").text)


# ---- environ ----


def test_environ_is_the_application_s_own(server):
    for _ in range(6):
        assert fetch(server, "spoils_environ").text == "spoilt"
    for count in range(1, 6):
        assert fetch(server, "keeps_environ").text == f"{count} {count} True"
