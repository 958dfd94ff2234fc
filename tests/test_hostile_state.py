"""Applications that change what they share with others: the process, the thread, the interpreter."""

import threading
import time
from urllib.parse import quote

import pytest

from harness import config, http1, processes
from harness.gate import Gate
from harness.waiting import until

CONF = """
    wsgi_param test.dir @DIR@;
    location /state/ { wsgi_pass hostile_state; }
    location /short/ { wsgi_pass hostile_state; wsgi_queue_timeout 300ms; }
    location /hello { wsgi_pass hello; }
    location /environ { wsgi_pass environ; }
    location /static/ { alias @DIR@/static/; }
"""


def site(threads=2):
    return config.site(CONF, pool=f"wsgi_pool default threads={threads};")


@pytest.fixture
def server(serve):
    """A server of the test's own, with the same worker from its beginning to its end."""
    started = serve(site())
    (started.dir / "static").mkdir()
    (started.dir / "static" / "file").write_text("static\n")
    workers = started.worker_pids()
    yield started
    check(started)
    assert started.worker_pids() == workers


@pytest.fixture
def alone(serve):
    """One thread: each call comes after the other, on the same."""
    return serve(site(1))


def check(server):
    with http1.Connection(server.port) as connection:
        for _ in range(8):
            connection.request("/hello")
            assert connection.response().text == "hello\n"
    if (server.dir / "static").exists():
        assert http1.fetch(server, "/static/file").text == "static\n"


def fetch(server, case, query="", at="/state/"):
    """One request, and another on the same connection."""
    with http1.Connection(server.port) as connection:
        connection.request(f"{at}{case}?{quote(query)}")
        response = connection.response()
        if response.status == 200:
            connection.request("/hello")
            assert connection.response().text == "hello\n"
    return response


def do(server, code):
    response = fetch(server, "does", code)
    assert response.status == 200, response
    return response.text


# ---- streams ----


@pytest.mark.parametrize(
    "deed",
    [
        "sys.stdout.close(); sys.stderr.close(); environ['wsgi.errors'].close()",
        "sys.stdin.close()",
        "os.close(0)",
        "os.close(1)",
        "os.close(2)",
        "os.close(0); os.close(1); os.close(2)",
        "sys.stdout.reconfigure(encoding='ascii'); sys.stdout.buffer.close()",
    ],
)
def test_closed_streams(server, deed):
    """What is written comes to the log all the same, and nothing of it to a client."""
    do(server, deed)
    for number in range(6):
        assert fetch(server, "says", f"w{number}").text == "done"
    for stream in ("stdout", "stderr", "errors"):
        server.wait_log(f"{stream} w5")


@pytest.mark.parametrize("value", ["None", "io.StringIO()", "open(os.devnull, 'w')", "5"])
def test_replaced_streams(server, value):
    """An application that replaces them has them replaced; its failures are logged nevertheless."""
    server.expect("Traceback")
    do(server, f"import io; sys.stdout = sys.stderr = {value}")
    response = fetch(server, "says", "word")
    assert response.status == (200 if value != "5" else 500)
    assert fetch(server, "does", "1 / 0").status == 500
    server.wait_log("ZeroDivisionError")
    do(server, "sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__")


# ---- the process ----


def test_another_directory(serve):
    """nginx goes on to find its files, and Python its modules."""
    server = serve(site())
    do(server, "os.chdir('/')")
    assert do(server, "import mailbox; result = os.getcwd()") == "/"
    old = server.reload()
    until(lambda: not any(map(processes.alive, old)), "the old worker has ended")
    check(server)


def test_a_directory_that_is_gone(server):
    do(server, "import tempfile; d = tempfile.mkdtemp(); os.chdir(d); os.rmdir(d)")
    assert fetch(server, "does", "os.getcwd()").status == 500
    server.expect("Traceback")
    body = b"b" * 500_000
    assert http1.fetch(server, "/environ", "POST", body=body).status == 200


def test_a_umask(server):
    do(server, "os.umask(0o777)")
    assert http1.fetch(server, "/environ", "POST", body=b"b" * 500_000).status == 200


def test_environment_variables(server):
    do(server, "os.environ.clear(); os.environ['TZ'] = 'Asia/Tokyo'; time.tzset()")
    assert http1.fetch(server, "/hello").get("Date").endswith("GMT")


def test_a_locale(server):
    """Numbers in headers and logs have no comma."""
    do(server, "import locale; locale.setlocale(locale.LC_ALL, '')")
    check(server)


# ---- the interpreter ----


@pytest.mark.parametrize(
    "deed",
    [
        "sys.settrace(trace)",
        "sys.setprofile(profile)",
        "threading.settrace(trace); threading.setprofile(profile)",
        "sys.setswitchinterval(1e-6)",
        "sys.setswitchinterval(1000)",
        "gc.disable()",
        "gc.freeze()",
        "gc.set_threshold(1)",
        "gc.callbacks.append(lambda *_: 1 / 0)",
        "faulthandler.enable(); faulthandler.dump_traceback_later(0.01); time.sleep(0.1)",
        "faulthandler.disable()",
        "warnings.simplefilter('error')",
        "warnings.showwarning = None",
        "sys.setrecursionlimit(120)",
        "sys.excepthook = sys.unraisablehook = threading.excepthook = None",
        "sys.displayhook = None; sys.ps1 = 5",
        "import traceback; traceback.format_exception = traceback.format_tb = None",
        "import logging; logging.shutdown(); logging.disable()",
        "sys.path.clear()",
        "sys.path[:] = [None, 5, b'x', '\\ud800']",
        "sys.meta_path.clear()",
        "os.getpid = lambda: -1",
        "threading.current_thread = threading.get_ident = None",
        "import site, signal; signal.signal = None",
        "os.write = os.read = os.open = None",
        "import builtins; builtins.open = builtins.print = builtins.isinstance",
        "sys.modules.pop('traceback', None); sys.modules.pop('threading'); sys.modules.pop('_ngx_wsgi', None)",
        "[m.clear() for n, m in list(sys.modules['_ngx_wsgi'].__dict__.items()) if isinstance(m, (set, dict)) and n[0] != '_']",
    ],
)
def test_what_the_interpreter_has_for_all(server, deed):
    """A failing call afterwards gets its 500 and a line in the log."""
    server.expect("Traceback")
    do(server, deed)
    check(server)
    assert fetch(server, "does", "raise LookupError('afterwards')").status == 500
    server.wait_log("LookupError")
    until(lambda: do(server, "time.sleep(0)") == "done", "an answer")
    do(server, "sys.settrace(None); sys.setprofile(None); threading.settrace(None); threading.setprofile(None)")


@pytest.mark.parametrize("function", ["sys.settrace", "sys.setprofile"])
def test_a_trace_function_that_fails(alone, function):
    """It fails in the call that has set it, or in our own code below the next; then Python has removed it."""
    alone.expect("Traceback")
    fetch(alone, "does", f"{function}(failing)")
    alone.wait_log("the trace function fails")
    until(lambda: fetch(alone, "finds").status == 200, "an answer")
    assert fetch(alone, "finds").text == CLEAN + " unset"


def test_tracing_works(alone):
    assert do(alone, "sys.settrace(trace); sys.setprofile(profile)") == "done"
    assert int(do(alone, "result = calls['profile']")) > 0
    do(alone, "sys.settrace(None); sys.setprofile(None)")


def test_warnings_are_in_the_log(server):
    do(server, "warnings.warn('a warning of mine')")
    server.wait_log("UserWarning: a warning of mine")


def test_a_thread_that_fails_is_in_the_log(server):
    server.expect("Traceback")
    do(server, "threading.Thread(target=lambda: 1 / 0, name='luckless').start()")
    server.wait_log("Exception in thread luckless")
    server.wait_log("ZeroDivisionError")


# ---- what must not leak ----

CLEAN = "unset 28 None "


@pytest.mark.parametrize("place", ["call", "step", "close"])
def test_context_variables_end_with_their_call(alone, place):
    for _ in range(2):
        assert fetch(alone, "finds").text.rpartition(" ")[0] == CLEAN
        seen = "unset" if place == "close" else place
        assert fetch(alone, "changes", place).text == f"first {seen}"
        assert until(lambda: _text(alone.dir / "seen"), "close()").split()[0] == seen
    # What an application itself stores in a thread-local stays there: the thread is the same.
    assert fetch(alone, "finds").text == f"{CLEAN} {place}"


def _text(path):
    return path.read_text() if path.exists() else ""


def test_no_exception_is_being_handled_when_a_call_begins(alone):
    alone.expect("Traceback")
    assert fetch(alone, "does", "raise ValueError").status == 500
    assert fetch(alone, "changes", "handling").status in (200, 500)
    assert fetch(alone, "finds").text == CLEAN + " unset"


def test_asyncio_in_a_call(alone):
    for _ in range(3):
        assert fetch(alone, "runs_a_loop").text.startswith("asyncio_")
        assert fetch(alone, "finds").text == CLEAN + " unset"


# ---- calls that take long ----


class Latency:
    """How long a static file takes at most, from now until the end of the block."""

    def __init__(self, server):
        self.server, self.worst, self.count = server, 0, 0
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._run)

    def _run(self):
        with http1.Connection(self.server.port) as connection:
            while not self.stop.is_set():
                begin = time.monotonic()
                connection.request("/static/file")
                assert connection.response().text == "static\n"
                self.worst = max(self.worst, time.monotonic() - begin)
                self.count += 1
                self.stop.wait(0.005)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()


def test_files_while_the_gil_is_held(server):
    """One instruction holds it for about a second: no Python runs, but nginx serves files, and its timers fire."""
    with Gate(server, "gil") as gate, http1.Connection(server.port, timeout=60) as connection:
        connection.request("/state/holds_the_gil?gil")
        gate.wait_entered()
        with Latency(server) as latency:
            until(lambda: latency.count > 100, "a hundred files")
            begin = time.monotonic()
            assert fetch(server, "finds", at="/short/").status in (200, 503)
            waited = time.monotonic() - begin
        gate.open()
        held = float(connection.response().text)
    server.expect("queue")
    assert latency.worst < 0.5 * held, (latency.worst, held)
    assert waited < 5


def test_files_while_a_pattern_backtracks(server):
    with http1.Connection(server.port, timeout=60) as connection:
        connection.request("/state/backtracks")
        until(lambda: (server.dir / "backtracks.entered").exists(), "the call")
        begin = time.monotonic()
        with Latency(server) as latency:
            assert connection.response().text == "done"
        took = time.monotonic() - begin
    assert latency.count > 20 and latency.worst < 0.5 * took


def test_other_calls_while_the_gil_is_free(server):
    with http1.Connection(server.port, timeout=60) as connection:
        connection.request("/state/derives")
        until(lambda: (server.dir / "derives.entered").exists(), "the call")
        begin = time.monotonic()
        for _ in range(20):
            assert http1.fetch(server, "/hello").text == "hello\n"
        served = time.monotonic() - begin
        assert len(connection.response().text) == 128
        took = time.monotonic() - begin
    assert served < took


def test_a_switch_interval_that_lets_nobody_else_run(server):
    """Files are served; other calls wait until the one is over."""
    do(server, "sys.setswitchinterval(1000)")
    with Gate(server, "spin") as gate, http1.Connection(server.port) as connection:
        connection.request("/state/spins?spin")
        gate.wait_entered()
        with Latency(server) as latency:
            until(lambda: latency.count > 50, "fifty files")
        gate.open()
        assert connection.response().text == "done"
    do(server, "sys.setswitchinterval(0.005)")
    assert latency.worst < 2


# ---- the end ----


def test_functions_for_the_end_that_fail(serve):
    """Each has its turn; what they raise is logged, and nginx leaves with status 0."""
    server = serve(site())
    server.expect("Traceback")
    assert fetch(server, "registers").text == "done"
    server.quit()
    assert server.wait() == 0
    assert (server.dir / "atexit").read_text().count("x") == 5
    assert "at exit" in server.log()


@pytest.mark.parametrize(
    "deed",
    [
        "import threading; threading.Thread(target=time.sleep, args=(300,), daemon=True).start()",
        "sys.stderr = sys.stdout = None",
        "atexit.register(lambda: threading.Thread(target=print).start())",
        "atexit.register(sys.stdout.close)",
        "class Dies:\n def __del__(self): print(open, os.getpid())\nsys.modules['keeps'] = Dies()",
        "kept = globals().setdefault('kept', [environ, environ['wsgi.input']])",
        "gc.freeze(); sys.settrace(trace)",
    ],
)
def test_what_is_left_at_the_end(serve, deed):
    server = serve(site())
    server.expect("Traceback")
    assert do(server, deed) == "done"
    server.quit()
    assert server.wait() == 0
    assert "Fatal Python error" not in server.log() + server.stderr_text()
