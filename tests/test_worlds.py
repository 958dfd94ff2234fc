"""The three worlds keep apart, in the source and at run time: the event loop never enters Python."""

import json
import re

import pytest

from harness import artifacts, config, http1, processes
from harness.waiting import until

SOURCE = artifacts.REPOSITORY / "src"
NGINX = r"\b(?:ngx|nginx_sys)\b|\bcrate::nginx\b"
PYTHON = r"\bpyo3(?:_ffi)?\b|\bcrate::python\b"
FORBIDDEN = {
    "nginx": PYTHON,
    "python": NGINX,
    "pool": f"{NGINX}|{PYTHON}|\\bcrate::exchange\\b",
    "exchange": f"{NGINX}|{PYTHON}",
}


def code(path):
    """A Rust file without comments and string literals."""
    text = re.sub(r'"(?:\\.|[^"\\])*"', '""', path.read_text())
    return re.sub(r"//[^\n]*|/\*.*?\*/", "", text, flags=re.S)


@pytest.mark.parametrize("world", FORBIDDEN)
def test_no_world_imports_another(world):
    files = sorted((SOURCE / world).rglob("*.rs"))
    assert files
    for path in files:
        found = re.search(FORBIDDEN[world], code(path))
        assert not found, f"{path.relative_to(SOURCE)} uses {found[0]}"


def test_only_the_wiring_knows_two_worlds():
    """src/lib.rs and the engine that it declares; and the engine knows nothing of nginx."""
    for path in SOURCE.glob("*.rs"):
        if path.name != "lib.rs":
            found = re.search(NGINX, code(path))
            assert not found, f"{path.name} uses {found[0]}"


def test_the_pool_is_safe():
    assert re.search(r"^#!\[forbid\(unsafe_code\)\]", (SOURCE / "pool" / "mod.rs").read_text(), re.M)
    for path in (SOURCE / "pool").rglob("*.rs"):
        assert not re.search(r"\bunsafe\b(?!_code)", code(path)), path.name


def test_a_request_s_flags_are_read_and_set_in_c():
    """By the functions that extra.h lists: bindgen's mistake where some of them are in nginx 1.29.3 and newer."""
    for path in (SOURCE / "nginx").rglob("*.rs"):
        found = re.search(r"\(\*(?:self\.)?r\)\.\w+\(|\(\*\(\*(?:self\.)?r\)\.(?:main|parent)\)\.\w+\(", code(path))
        assert not found, f"{path.name} uses {found[0]}"


# ---- at run time ----


@pytest.fixture
def noted(serve):
    """What runs on which thread: {phase: [(process id, native thread id), ...]}."""
    site = config.site("location / { wsgi_pass phases; }")
    server = serve(site, main="env PHASES;", environ={"PHASES": "@DIR@/phases"})
    for _ in range(8):
        assert http1.fetch(server).text == "first second"
    workers = server.worker_pids()
    server.quit()
    assert server.wait() == 0
    notes = {}
    for line in (server.dir / "phases").read_text().splitlines():
        phase, pid, thread, call = json.loads(line)
        assert [pid] == workers
        notes.setdefault(phase, []).append((pid, thread, call))
    return notes


def test_python_never_runs_on_the_event_loop(noted):
    """nginx's event loop is the process's first thread: its native id is the process id."""
    assert set(noted) == {"import", "call", "iterate", "close", "del", "atexit"}
    on_the_loop = [phase for phase, notes in noted.items() for pid, thread, _ in notes if thread == pid]
    assert on_the_loop == []


def test_one_request_stays_on_one_thread(noted):
    for call in range(8):
        threads = {
            thread for phase in ("call", "iterate", "close") for _, thread, number in noted[phase] if number == call
        }
        assert len(threads) == 1


def test_an_application_is_imported_once(noted):
    assert len(noted["import"]) == 1


def test_the_threads_of_a_worker_are_named(serve):
    """So that top -H, gdb and py-spy show who is who."""
    server = serve(config.site("location / { wsgi_pass hello; }", pool="wsgi_pool default threads=3;"))
    assert http1.fetch(server).status == 200
    (worker,) = server.worker_pids()
    expected = ["default/0", "default/1", "default/2", "python-main", "python-probe"]

    def names():
        """All but the first thread's; a thread has its maker's name until it names itself."""
        return sorted(name for thread, name in processes.threads(worker).items() if thread != worker)

    until(lambda: names() == expected, f"threads named {expected}")
    assert processes.threads(worker)[worker].startswith("nginx")
