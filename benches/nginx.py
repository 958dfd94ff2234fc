"""nginx for the benchmarks: one worker process, no access log, nothing that a front server needs not."""

from harness import artifacts, config
from harness.server import Server

from . import machine
from .paths import APPS

CONF = """\
{load_module}
{user}
worker_processes {workers};
pid @DIR@/nginx.pid;
error_log @DIR@/error.log warn;
events {{
    worker_connections {connections};
}}
http {{
    {temp_paths}
    default_type application/octet-stream;
    access_log off;
    sendfile on;
    keepalive_timeout 600s;
    keepalive_requests 1000000000;
    client_max_body_size 0;
    {http}
    server {{
        listen 127.0.0.1:@PORT@ backlog=16384;
        location = /return {{
            default_type text/plain;
            return 200 "Hello World!";
        }}
        {locations}
    }}
}}
"""


def temp_paths(ours):
    """The directories for temporary files; only our module knows the one of its own."""
    lines = config.temp_paths().splitlines()
    return "\n".join(line for line in lines if ours or not line.strip().startswith("wsgi_"))


def conf(locations, http="", workers=1, module="@MODULE@"):
    """A configuration; without a module it is an nginx that has never heard of ours."""
    return CONF.format(
        load_module=f"load_module {module};" if module else "",
        user=config.user(),
        workers=workers,
        connections=min(30000, machine.raise_descriptor_limit()),
        temp_paths=temp_paths(bool(module)),
        http=http,
        locations=locations,
    )


def python(pool):
    """What our module needs to serve the benchmarks' applications."""
    lines = [f"wsgi_pool default {pool};", f"wsgi_path {APPS};"]
    if artifacts.VIRTUALENV:
        lines.append(f"wsgi_virtualenv {artifacts.VIRTUALENV};")
    return "\n    ".join(lines)


def start(directory, text):
    """Starts nginx in a new directory below `directory`."""
    number = 1 + sum(1 for each in directory.glob("nginx*"))
    home = directory / f"nginx{number}"
    home.mkdir(parents=True)
    return Server(home, text)
