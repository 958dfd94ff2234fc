"""A real nginx with the module, in a directory of its own."""

import os
import re
import signal
import socket
import subprocess
from pathlib import Path

from . import artifacts, config, errorlog, processes
from .waiting import TIMEOUT, until

GRACE = 30.0


class Server:
    """One nginx: configuration, processes, logs.

    Its error log is judged after every test (see conftest.py): what looks bad there and was not announced
    with `expect` fails the test.
    """

    live = []

    def __init__(self, directory, text, environ=None):
        self.dir = Path(directory)
        self.ports = {}
        self.process = None
        self.mark = self.stderr_mark = 0
        self.expected = []
        self.stopped = False
        (self.dir / "logs").mkdir(exist_ok=True)
        self.write_conf(text)
        own = {name: value.replace("@DIR@", str(self.dir)) for name, value in (environ or {}).items()}
        self._start({**os.environ, **own})

    # ---- configuration ----

    @property
    def port(self):
        return self.ports["PORT"]

    @property
    def conf(self):
        return self.dir / "nginx.conf"

    def write_conf(self, text):
        """(Over)writes nginx.conf; `reload` puts it to use."""
        values = {"DIR": self.dir, "APPS": artifacts.APPS, "MODULE": artifacts.MODULE}
        self.conf.write_text(config.fill(text, values, self.ports))

    def command(self, *arguments):
        return [artifacts.NGINX, "-p", f"{self.dir}/", "-c", str(self.conf), "-e", str(self.error_log), *arguments]

    # ---- processes ----

    def _start(self, environ):
        self.stderr = open(self.dir / "stderr", "ab")
        daemon = [] if re.search(r"^\s*daemon\s", self.conf.read_text(), re.M) else ["-g", "daemon off;"]
        self.process = subprocess.Popen(
            self.command(*daemon), stdin=subprocess.DEVNULL, stdout=self.stderr, stderr=self.stderr, env=environ
        )
        Server.live.append(self)
        try:
            until(self._is_up, "nginx listens, and all its workers run")
            self.workers = self.worker_pids()
        except BaseException:
            self.kill()
            raise

    def _is_up(self):
        if self.process.poll() is not None:
            raise RuntimeError(f"nginx ended with {self.process.returncode}:\n{self.stderr_text()}")
        count = re.search(r"^worker_processes (\d+);", self.conf.read_text(), re.M)
        return all(map(_accepts, self.ports.values())) and len(self.worker_pids()) == int(count[1] if count else 1)

    @property
    def pid(self):
        """The master's process id."""
        return self.process.pid

    def worker_pids(self):
        """The workers' process ids; the process itself when there is no master."""
        if "master_process off" in self.conf.read_text():
            return [self.pid]
        return [pid for pid in processes.children(self.pid) if "worker process" in processes.title(pid)]

    def signal(self, number):
        self.process.send_signal(number)

    def reload(self):
        """Reloads, and returns the old workers once all of them have been told to leave."""
        old, since = self.worker_pids(), self.error_log.stat().st_size
        self.workers = None
        self.signal(signal.SIGHUP)
        until(lambda: self.count("gracefully shutting down", since) >= len(old), "the old workers are told to leave")
        return old

    def quit(self):
        """Asks for a graceful end, without waiting for it."""
        self.workers = None
        self.signal(signal.SIGQUIT)

    def wait(self, timeout=GRACE):
        """Waits for the end of all processes."""
        status = self.process.wait(timeout)
        self.stopped = True
        if self in Server.live:
            Server.live.remove(self)
        self.stderr.close()
        return status

    def stop(self):
        """A graceful end unless it has ended already, and the last look at the log."""
        complaints = [] if self.stopped else self._end()
        complaints += self.complaints()
        assert not complaints, "\n".join(complaints)

    def _end(self):
        complaints = []
        if self.process.poll() is None and self.workers is not None and self.worker_pids() != self.workers:
            complaints.append(f"the workers were {self.workers} and are {self.worker_pids()}: one has died")
        self.quit()
        try:
            status = self.wait()
            if status != 0:
                complaints.append(f"nginx exited with status {status}")
        except subprocess.TimeoutExpired:
            complaints.append(f"nginx did not quit within {GRACE:g} s")
            self.kill()
        return complaints

    def kill(self):
        """The hard end; for what has gone wrong already."""
        family = processes.children(self.pid)
        for pid in [self.pid, *family]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.wait()

    # ---- logs ----

    @property
    def error_log(self):
        return self.dir / "error.log"

    @property
    def access_log(self):
        return self.dir / "access.log"

    def stderr_text(self):
        return (self.dir / "stderr").read_text(errors="replace")

    def log(self, since=None):
        """The error log, since the present test began unless told otherwise."""
        start = self.mark if since is None else since
        try:
            with open(self.error_log, "rb") as file:
                file.seek(start)
                return file.read().decode("utf-8", "replace")
        except FileNotFoundError:
            return ""

    def count(self, pattern, since=None):
        return len(re.findall(pattern, self.log(since)))

    def wait_log(self, pattern, timeout=TIMEOUT, since=None):
        """Waits until the log of the present test matches; returns the match."""
        return until(lambda: re.search(pattern, self.log(since)), f"{pattern!r} in the error log", timeout)

    def access(self):
        return self.access_log.read_text(errors="replace").splitlines() if self.access_log.exists() else []

    def wait_access(self, line):
        """Waits for an access log line that matches from its beginning."""
        return until(lambda: [each for each in self.access() if re.match(line, each)], f"{line!r} in the access log")

    def expect(self, *patterns):
        """Announces what the present test will leave in the error log."""
        self.expected += [re.compile(pattern) for pattern in patterns]

    def complaints(self):
        """What is wrong with the logs since the last look; the next test begins afresh."""
        text = self.log() + self.stderr_text()[self.stderr_mark :]
        found = errorlog.unexpected(text, self.expected)
        self.mark = self.error_log.stat().st_size if self.error_log.exists() else 0
        self.stderr_mark = len(self.stderr_text())
        self.expected = []
        return found


def _accepts(port):
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def check_config(directory, text):
    """Runs `nginx -t`; returns (accepted, output, path of the configuration)."""
    directory = Path(directory)
    conf = directory / "nginx.conf"
    values = {"DIR": directory, "APPS": artifacts.APPS, "MODULE": artifacts.MODULE}
    conf.write_text(config.fill(text, values, {}))
    command = [artifacts.NGINX, "-t", "-p", f"{directory}/", "-c", str(conf), "-e", "stderr"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return done.returncode == 0, done.stderr, conf
