"""The interpreter as an application finds it: like one of its own, though it lives in a web server."""

import contextlib
import json
import os
import sys
import time
from urllib.parse import quote

import pytest

from harness import artifacts, config, http1
from harness.waiting import until

INSIDE = "location / { wsgi_pass inside; }"


@pytest.fixture(scope="module")
def server(serve_module):
    environ = {
        "PYTHONPATH": "/from/pythonpath",
        "PYTHONOPTIMIZE": "2",
        "LANG": "",
        "LC_ALL": "C",
        "SHOWN": "yes",
        "HIDDEN": "yes",
    }
    return serve_module(config.site(INSIDE, pool="wsgi_pool default threads=2;"), main="env SHOWN;", environ=environ)


def ask(server, expression, status=200):
    response = http1.fetch(server, "/?" + quote(expression))
    assert response.status == status, (response, server.log()[-2000:])
    return json.loads(response.text) if status == 200 else None


# ---- sys ----


def test_sys_executable_is_a_python(server):
    """multiprocessing and subprocess start it: nginx would be no good."""
    assert ask(server, "child('print(6 * 7)')") == "42"
    assert ask(server, "child('import sys; print(sys.version_info[:2])')") == str(sys.version_info[:2])


def test_sys_argv_and_flags(server):
    assert len(ask(server, "sys.argv")) >= 1
    assert ask(server, "sys.version_info[:3]") == list(sys.version_info[:3])
    assert ask(server, "sys.stdin.read()") == ""


def test_text_is_utf_8_whatever_the_locale(server):
    assert ask(server, "sys.getfilesystemencoding()").lower() == "utf-8"
    assert ask(server, "open('/dev/null').encoding").lower() == "utf-8"
    assert ask(server, "os.fsdecode(b'gr\\xc3\\xbc\\xc3\\x9fe')") == "gr\xfc\xdfe"


def test_the_path_has_nothing_of_the_working_directory(server):
    path = ask(server, "sys.path")
    assert "" not in path and os.getcwd() not in path
    assert path[0] == str(artifacts.APPS)


def test_packages_of_the_virtualenv_are_found(server):
    if artifacts.VIRTUALENV:
        assert ask(server, "__import__('flask').__file__").startswith(os.path.realpath(artifacts.VIRTUALENV))
    assert ask(server, "__import__('flask').Flask.__name__") == "Flask"


# ---- os.environ ----


def test_the_environment_is_what_nginx_lets_through(server):
    assert ask(server, "os.environ.get('SHOWN')") == "yes"
    assert ask(server, "os.environ.get('HIDDEN')") is None


def test_python_variables_of_the_shell_have_no_say(server):
    assert "/from/pythonpath" not in ask(server, "sys.path")
    assert ask(server, "sys.flags.optimize") == 0


# ---- threads ----


def test_a_pool_thread_keeps_its_locals_for_life(server):
    """Database connections live in them."""
    seen = {}
    for _ in range(20):
        native, count, same = ask(server, "visits()")
        assert count == seen.get(native, 0) + 1 and same
        seen[native] = count
    assert len(seen) <= 2


def test_the_import_was_in_the_main_thread(server):
    """Modules that insist on it (asyncio, signal) are content."""
    assert ask(server, "AT_IMPORT['main']") is True
    assert ask(server, "AT_IMPORT['native'] != os.getpid()") is True


def test_calls_are_not_in_the_main_thread(server):
    assert ask(server, "threading.current_thread() is threading.main_thread()") is False
    name = ask(server, "threading.current_thread().name")
    assert "Dummy" not in name and "default" in name


def test_recursion_is_limited_and_not_the_stack(server):
    assert ask(server, "deep(900)") == 0
    server.expect("Traceback")
    ask(server, "deep(10**6)", status=500)
    server.wait_log("RecursionError")
    assert ask(server, "deep(900)") == 0


def test_a_deep_recursion_that_is_allowed_fits_the_stack(server):
    assert ask(server, "(sys.setrecursionlimit(10000), deep(9000), sys.setrecursionlimit(1000))[1]") == 0


# ---- signals and children ----


def test_signals_stay_nginx_s(server):
    """An application that installs a handler gets a warning, and nginx can still be told to quit."""
    ask(server, "signal.signal(signal.SIGTERM, lambda *_: None) is not None")
    server.wait_log("SIGTERM")


def test_children_have_no_signal_blocked(server):
    """A child that ignores SIGTERM would be the result."""
    assert ask(server, "child('import signal; print(signal.pthread_sigmask(signal.SIG_BLOCK, []))')") == "set()"


def test_children_can_be_terminated(server):
    start = "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])"
    assert ask(server, f"(lambda child: (child.terminate(), child.wait(10))[1])({start})") == -15


def test_multiprocessing(server):
    assert ask(server, "in_processes([-1, 2, -3])") == [1, 2, 3]


@pytest.mark.parametrize("end", ["os._exit(7)", "sys.exit(7)", "None"])
def test_fork(server, end):
    """A forked child ends by itself: it never serves, and the parent gets its own answer."""
    server.expect("Traceback")
    fork = f"(lambda pid: ({end}) if pid == 0 else os.waitpid(pid, 0)[1])(os.fork())"
    workers = server.worker_pids()
    status = ask(server, fork)
    if end != "None":
        assert os.WEXITSTATUS(status) == 7
    assert server.worker_pids() == workers
    assert ask(server, "1 + 1") == 2


INTERVAL = "round(sys.getswitchinterval() * 1_000_000)"


@pytest.mark.parametrize("line, microseconds", [("", 5000), ("wsgi_switch_interval auto;", 5000), ("wsgi_switch_interval 1ms;", 1000), ("wsgi_switch_interval 500us;", 500)])
def test_the_switch_interval(serve, line, microseconds):
    server = serve(config.site("location / { wsgi_pass inside; }", http=line))
    assert ask(server, INTERVAL) == microseconds


@contextlib.contextmanager
def computing(server):
    """A call that computes all the while."""
    ask(server, "setattr(sys, 'enough', False) or setattr(sys, 'begun', False)")
    with http1.Connection(server.port) as connection:
        connection.request("/?" + quote("setattr(sys, 'begun', True) or sum(1 for _ in iter(lambda: sys.enough, True)) and 0"))
        until(lambda: ask(server, "sys.begun"), "it runs")
        yield
        ask(server, "setattr(sys, 'enough', True)")
        assert connection.response().text == "0"


@pytest.mark.parametrize("short", [INTERVAL, f"(__import__('time').sleep(0.005), {INTERVAL})[1]"], ids=["at once", "sleeps"])
def test_the_switch_interval_follows_who_waits(serve, short):
    """A call is short by what it computes, however long it sleeps."""
    server = serve(config.site(INSIDE, pool="wsgi_pool default threads=3;"))
    with computing(server):
        end = time.monotonic() + 0.5  # the short interval that `computing` has caused is over by then
        while time.monotonic() < end:
            ask(server, short)
        until(lambda: ask(server, short) == 500, "short while short calls wait behind a long one")
    until(lambda: ask(server, INTERVAL) == 5000, "long again when none does")


def test_an_interval_that_the_application_sets_stays(serve):
    server = serve(config.site(INSIDE, pool="wsgi_pool default threads=3;"))
    ask(server, "sys.setswitchinterval(0.02)")
    with computing(server):
        assert [ask(server, INTERVAL) for _ in range(10)] == [20000] * 10
