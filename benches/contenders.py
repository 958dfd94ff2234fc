"""The servers that are compared: this module and its peers, all with one process that runs the application.

Each is started for one application and one number of threads: `Contender(directory).start(app, threads)`.
"""

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path

from harness import artifacts, config
from harness.waiting import until

from . import client, machine, nginx
from .paths import APPS


class Contender:
    """A server in a directory of its own."""

    name = ""
    path = "/"

    def __init__(self, directory):
        self.directory = Path(directory)
        self.nginx = self.backend = self.port = None

    @classmethod
    def missing(cls):
        """Why it cannot be started on this machine, or None."""
        return None

    def start(self, app, threads):
        self.directory.mkdir(parents=True, exist_ok=True)
        try:
            self.launch(app, threads)
            until(self.answers, f"{self.name} answers", 60)
        except BaseException:
            self.stop()
            raise
        return self

    def launch(self, app, threads):
        raise NotImplementedError

    def answers(self):
        if self.backend and self.backend.poll() is not None:
            raise RuntimeError(f"{self.name} has ended:\n{self.log()}")
        try:
            return client.fetch(self.port, self.path)[0] == 200
        except (OSError, client.Failed):
            return False

    def url(self, path=None):
        return f"http://127.0.0.1:{self.port}{path or self.path}"

    def pids(self):
        """All processes that take part in an answer."""
        first = [each.pid for each in (self.nginx, self.backend) if each]
        return [pid for each in first for pid in machine.family(each)]

    def run(self, command, environ=None):
        """Starts the peer's own server."""
        log = open(self.directory / "log", "ab")
        self.backend = subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=self.directory,
            env={**os.environ, "PYTHONPATH": str(APPS), **(environ or {})},
            start_new_session=True,
        )
        log.close()

    def front(self, locations, http=""):
        """Starts the nginx before the peer, whose socket is named `socket`, once that exists."""
        if self.backend:
            until(self.socket_exists, f"{self.name} listens", 60)
        self.nginx = nginx.start(self.directory, nginx.conf(locations, http, module=None))
        self.port = self.nginx.port

    def socket_exists(self):
        if self.backend.poll() is not None:
            raise RuntimeError(f"{self.name} has ended:\n{self.log()}")
        return (self.directory / "socket").exists()

    def log(self):
        path = self.directory / "log"
        return path.read_text(errors="replace")[-2000:] if path.exists() else ""

    def stop(self):
        nginx, self.nginx = self.nginx, None
        try:
            if nginx:
                nginx.stop()
        finally:
            self.end_backend()

    def end_backend(self):
        if self.backend and self.backend.poll() is None:
            self.backend.send_signal(signal.SIGTERM)
            try:
                self.backend.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(self.backend.pid, signal.SIGKILL)
                self.backend.wait()
        self.backend = None


class Return200(Contender):
    """What nginx itself needs for such an answer."""

    name = "nginx `return 200`"
    path = "/return"

    def launch(self, app, threads):
        self.front("")


class Module(Contender):
    """nginx with this module."""

    name = "nginx-wsgi"
    module = "@MODULE@"
    pool = "queue=1024"

    def launch(self, app, threads):
        http = nginx.python(f"threads={threads} {self.pool}")
        self.nginx = nginx.start(
            self.directory, nginx.conf(f"location / {{ wsgi_pass {app}; }}", http, module=self.module)
        )
        self.port = self.nginx.port


class OnEventLoop(Module):
    """This module as the one of 2007 was: the call is made by the event loop."""

    name = "the same, call on the event loop"
    module = os.environ.get("WSGI_MODULE_ON_EVENT_LOOP", "")

    @classmethod
    def missing(cls):
        return None if cls.module else "this build has no feature on-event-loop"


class Uwsgi(Contender):
    name = "nginx + uWSGI"

    @classmethod
    def missing(cls):
        return None if tool("uwsgi") else "uwsgi is not installed"

    def launch(self, app, threads):
        command = [tool("uwsgi"), "--socket", "socket", "--module", f"{app}:application", "--pythonpath", APPS]
        command += ["--processes", 1, "--threads", threads, "--enable-threads", "--disable-logging", "--die-on-term"]
        if artifacts.VIRTUALENV:
            command += ["--virtualenv", artifacts.VIRTUALENV]
        self.run(command)
        include = "".join(f"uwsgi_param {name} {value};" for name, value in PARAMETERS)
        self.front(f"location / {{ uwsgi_pass unix:{self.directory}/socket; {include} }}")


class Gunicorn(Contender):
    name = "nginx + gunicorn gthread"

    @classmethod
    def missing(cls):
        return needs_package("gunicorn")

    def launch(self, app, threads):
        command = [sys.executable, "-m", "gunicorn", "-k", "gthread", "-w", 1, "--threads", threads]
        self.run([*command, "-b", "unix:socket", "--keep-alive", 75, "--log-level", "warning", f"{app}:application"])
        upstream = f"upstream gunicorn {{ server unix:{self.directory}/socket; keepalive 64; }}"
        proxy = 'proxy_pass http://gunicorn; proxy_http_version 1.1; proxy_set_header Connection ""; '
        self.front(f"location / {{ {proxy} proxy_set_header Host $http_host; }}", upstream)


class Granian(Contender):
    name = "Granian, no nginx"

    @classmethod
    def missing(cls):
        return needs_package("granian")

    def launch(self, app, threads):
        self.port = config.free_port()
        command = [sys.executable, "-m", "granian", "--interface", "wsgi", "--host", "127.0.0.1", "--port", self.port]
        command += ["--workers", 1, "--blocking-threads", threads, "--no-ws", "--http", 1, "--log-level", "warning"]
        self.run([*command, f"{app}:application"])


class Flup(Contender):
    """FastCGI. flup refuses what its threads cannot take at once, so it may start more than it keeps."""

    name = "nginx + FastCGI (flup)"
    serve = "from flup.server.fcgi import WSGIServer; from {app} import application as a; "
    serve += "WSGIServer(a, bindAddress='socket', maxSpare={threads}).run()"

    @classmethod
    def missing(cls):
        return needs_package("flup")

    def launch(self, app, threads):
        self.run([sys.executable, "-c", self.serve.format(app=app, threads=threads)])
        include = "".join(f"fastcgi_param {name} {value};" for name, value in (*PARAMETERS, ("SCRIPT_NAME", '""')))
        self.front(f"location / {{ fastcgi_pass unix:{self.directory}/socket; {include} }}")


class ModWsgi(Contender):
    """Apache's mod_wsgi in daemon mode: the package of PyPI, which is built where Apache's apxs is."""

    name = "Apache + mod_wsgi"
    conf = """
ServerName localhost
{user}
Listen 127.0.0.1:{port}
PidFile {directory}/apache.pid
ErrorLog {directory}/log
LoadModule mpm_event_module {modules}/mod_mpm_event.so
LoadModule authz_core_module {modules}/mod_authz_core.so
LoadModule wsgi_module {module}
ServerLimit 1
StartServers 1
ThreadsPerChild 64
MaxRequestWorkers 64
MinSpareThreads 1
MaxSpareThreads 64
MaxKeepAliveRequests 0
KeepAliveTimeout 75
WSGISocketPrefix {directory}/socket
WSGIDaemonProcess bench processes=1 threads={threads} python-path={apps}:{packages}
WSGIScriptAlias / {apps}/{app}.py process-group=bench application-group=%{{GLOBAL}}
<Directory {apps}>
Require all granted
</Directory>
"""

    @classmethod
    def missing(cls):
        if not apache():
            return "Apache is not installed"
        unreadable = [path for path in (sys.base_prefix, sys.prefix, APPS) if not for_everybody(path)]
        if os.geteuid() == 0 and unreadable:
            return f"Apache will not run as root, and nobody else can read {unreadable[0]}"
        return needs_package("mod_wsgi")

    @staticmethod
    def user():
        return "User nobody\nGroup nogroup" if os.geteuid() == 0 else ""

    def launch(self, app, threads):
        from mod_wsgi.server import where

        self.port = config.free_port()
        values = {"user": self.user(), "port": self.port, "directory": self.directory, "module": where()}
        values.update(apps=APPS, app=app, threads=threads, modules=apache()[1], packages=sysconfig.get_path("purelib"))
        text = self.conf.format(**values)
        (self.directory / "apache.conf").write_text(text)
        self.run([apache()[0], "-f", self.directory / "apache.conf", "-DFOREGROUND"])


# What an application is told; nginx's uwsgi_params and fastcgi_params, as far as wrk's requests have it.
PARAMETERS = (
    ("QUERY_STRING", "$query_string"),
    ("REQUEST_METHOD", "$request_method"),
    ("CONTENT_TYPE", "$content_type"),
    ("CONTENT_LENGTH", "$content_length"),
    ("REQUEST_URI", "$request_uri"),
    ("PATH_INFO", "$document_uri"),
    ("DOCUMENT_ROOT", "$document_root"),
    ("SERVER_PROTOCOL", "$server_protocol"),
    ("REQUEST_SCHEME", "$scheme"),
    ("REMOTE_ADDR", "$remote_addr"),
    ("REMOTE_PORT", "$remote_port"),
    ("SERVER_PORT", "$server_port"),
    ("SERVER_NAME", "$server_name"),
)


def tool(name):
    """A program of our virtual environment."""
    path = Path(sys.prefix) / "bin" / name
    return path if path.exists() else None


def for_everybody(path):
    """Whether every user can reach what lies below a directory."""
    return all(each.stat().st_mode & 1 for each in (Path(path), *Path(path).resolve().parents))


def needs_package(name):
    return None if importlib.util.find_spec(name) else f"{name} is not installed"


def apache():
    """Apache's program and the directory of its modules, or None."""
    program = shutil.which("apache2", path=f"{os.environ['PATH']}:/usr/sbin") or shutil.which("httpd")
    modules = [each for each in ("/usr/lib/apache2/modules", "/usr/lib64/httpd/modules") if os.path.isdir(each)]
    return (program, modules[0]) if program and modules else None


PEERS = (Uwsgi, Gunicorn, Granian, ModWsgi, Flup)


def start_all(kinds, app, threads, options, label):
    """Starts one server of each kind that is installed; a peer that does not start is left out with a line.

    Returns the running ones, and what is to be said of the others. All are ended when one of ours does not start.
    """
    running, left_out = [], []
    for kind in kinds:
        if kind.missing() or (kind in PEERS and not options.peers):
            continue
        try:
            running.append(kind(options.directory / f"{label}-{kind.__name__}").start(app, threads))
        except (RuntimeError, TimeoutError, OSError) as failure:
            if kind not in PEERS:
                stop_all(running)
                raise
            left_out.append(f"{kind.name}: {str(failure).splitlines()[0]}")
    return running, left_out


def stop_all(running):
    """Ends all of them; then says what our own server's log had to complain of."""
    complaints = []
    for contender in running:
        try:
            contender.stop()
        except AssertionError as complaint:
            if isinstance(contender, Module):
                complaints.append(f"{contender.name}: {complaint}")
    if complaints:
        raise RuntimeError("\n".join(complaints))
