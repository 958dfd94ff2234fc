"""What is tested: the nginx binary and the module, named by the environment or left by `make build BUILD=debug`."""

import functools
import os
import re
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
APPS = REPOSITORY / "tests" / "apps"
BUILT = REPOSITORY / "target" / "nginx-wsgi" / "debug"

NGINX = os.environ.get("NGINX_BINARY") or str(BUILT / "nginx")
MODULE = os.environ.get("WSGI_MODULE") or str(BUILT / "ngx_http_wsgi_module.so")

# The virtual environment that runs the tests holds Django and Flask; the applications under test use it too.
VIRTUALENV = sys.prefix if sys.prefix != sys.base_prefix else None


@functools.cache
def _version_text():
    return subprocess.run([NGINX, "-V"], capture_output=True, text=True, check=True).stderr


def nginx_version():
    """The version of nginx as a tuple."""
    return tuple(int(part) for part in re.search(r"nginx/(\d+)\.(\d+)\.(\d+)", _version_text()).groups())


def has_http_3():
    """Whether this nginx was built with HTTP/3."""
    return "--with-http_v3_module" in _version_text()


def missing():
    """Why no test can run, or None."""
    for what, path in (("NGINX_BINARY", NGINX), ("WSGI_MODULE", MODULE)):
        if not os.path.isfile(path):
            return f"{what}: there is no {path}; build it with `make build BUILD=debug`, or run `make test`"
    return None
