"""nginx.conf files for tests: a preamble that every test needs, and places to fill in.

`@NAME@` in a configuration is replaced: `@DIR@` is the server's own directory, `@APPS@` that of the test
applications, and any name that ends in PORT a free port, the same one for the same name.
"""

import os
import re
import socket

from . import artifacts

PLACE = re.compile(r"@([A-Z][A-Z0-9_]*)@")
TEMP_PATHS = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi", "wsgi")

PREAMBLE = """\
load_module @MODULE@;
{user}
worker_processes {workers};
pid @DIR@/nginx.pid;
error_log @DIR@/error.log info;
{main}
events {{
    worker_connections 512;
}}
"""

HTTP = """\
http {{
    {temp_paths}
    log_format test '$request_method $request_uri $status $body_bytes_sent';
    access_log @DIR@/access.log test;
    {python}
    {http}
}}
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def user():
    """Workers of a root nginx would change to a user that cannot read the tests' own directories."""
    return "user root;" if os.geteuid() == 0 else ""


def temp_paths():
    """The directories that a distribution's nginx would look for in /var/lib."""
    return "\n    ".join(f"{name}_temp_path @DIR@/{name}_temp;" for name in TEMP_PATHS)


def python(path=True):
    """Where the applications and what they import are found."""
    lines = ["wsgi_path @APPS@;"] if path else []
    if artifacts.VIRTUALENV:
        lines.append(f"wsgi_virtualenv {artifacts.VIRTUALENV};")
    return "\n    ".join(lines)


def whole(http, main="", workers=1, with_python=True):
    """A whole configuration round the contents of its http block."""
    preamble = PREAMBLE.format(user=user(), workers=workers, main=main)
    return preamble + HTTP.format(temp_paths=temp_paths(), python=python() if with_python else "", http=http)


def site(locations, server="", http="", pool="wsgi_pool default threads=4;"):
    """The contents of an http block with one server on @PORT@."""
    return f"{pool}\n{http}\nserver {{ listen 127.0.0.1:@PORT@; {server}\n{locations}\n}}"


def http2(port="PORT", tls=True):
    """A listen directive for HTTP/2, in the spelling of this version of nginx."""
    options = " ssl" if tls else ""
    if artifacts.nginx_version() < (1, 25, 1):
        return f"listen 127.0.0.1:@{port}@{options} http2;"
    return f"listen 127.0.0.1:@{port}@{options}; http2 on;"


def http3(port="PORT"):
    """Listen directives for HTTP/3, and for TLS on TCP at the same port, by which the harness sees that nginx is up."""
    return f"listen 127.0.0.1:@{port}@ quic; listen 127.0.0.1:@{port}@ ssl;"


def fill(text, values, ports):
    """Fills the places in; new ports are added to `ports`."""

    def place(match):
        name = match[1]
        if name in values:
            return str(values[name])
        if not name.endswith("PORT"):
            raise KeyError(f"nothing to put in the place of @{name}@")
        if name not in ports:
            ports[name] = free_port()
        return str(ports[name])

    return PLACE.sub(place, text)
