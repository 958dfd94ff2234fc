"""Every wrong use of a directive is refused by `nginx -t`, with a line that names directive, file and line."""

import platform
import subprocess
import sys

import pytest

from harness import config
from harness.server import check_config

SERVER = "server { listen 127.0.0.1:@PORT@; location / { wsgi_pass hello; } }"


def in_http(line):
    return f"{line}\n{SERVER}"


def in_location(line, http=""):
    return f"{http}\nserver {{ listen 127.0.0.1:@PORT@; location / {{\n{line}\n}} }}"


def in_app(line, module="module hello;"):
    return f"wsgi_app blog {{ {module}\n{line}\n}}\n{SERVER}"


def line_of(conf, text):
    """The number of the line that begins with `text`."""
    lines = conf.read_text().splitlines()
    return 1 + next(number for number, line in enumerate(lines) if line.strip().startswith(text))


# What is wrong, its first word being the directive at fault: the http block, and what the line must say besides.
WRONG = {
    "wsgi_pass without a target": (in_location("wsgi_pass;"), "number of arguments"),
    "wsgi_pass with an empty target": (in_location('wsgi_pass "";'), ""),
    "wsgi_pass with too much": (in_location("wsgi_pass hello pool=default more;"), "number of arguments"),
    "wsgi_pass in http": (in_http("wsgi_pass hello;"), "not allowed here"),
    "wsgi_pass in server": ("server { listen 127.0.0.1:@PORT@;\nwsgi_pass hello;\n}", "not allowed here"),
    "wsgi_pass twice": (in_location("wsgi_pass hello; wsgi_pass hello;"), "duplicate"),
    "wsgi_pass to a relative file": (in_location("wsgi_pass srv/app.wsgi;"), "srv/app.wsgi"),
    "wsgi_pass to no module name": (in_location("wsgi_pass blog-app:application;"), "blog-app"),
    "wsgi_pass to no callable name": (in_location("wsgi_pass blog:1st;"), "1st"),
    "wsgi_pass to nothing before a colon": (in_location("wsgi_pass :application;"), ":application"),
    "wsgi_pass with an unknown pool": (in_location("wsgi_pass hello pool=nowhere;"), "nowhere"),
    "wsgi_pass with an empty pool": (in_location("wsgi_pass hello pool=;"), "pool="),
    "wsgi_pass with an unknown parameter": (in_location("wsgi_pass hello frob=1;"), "frob=1"),
    "wsgi_pass with a variable": (in_location("wsgi_pass $arg_app;"), "$arg_app"),
    "wsgi_status with too much": (in_location("wsgi_status json html;"), "number of arguments"),
    "wsgi_status with an unknown format": (in_location("wsgi_status xml;"), "xml"),
    "wsgi_status twice": (in_location("wsgi_status; wsgi_status html;"), "duplicate"),
    "wsgi_status in http": (in_http("wsgi_status;"), "not allowed here"),
    "wsgi_status in server": ("server { listen 127.0.0.1:@PORT@;\nwsgi_status;\n}", "not allowed here"),
    "wsgi_status beside wsgi_pass": (in_location("wsgi_pass hello;\nwsgi_status;"), "wsgi_pass"),
    "wsgi_pass beside wsgi_status": (in_location("wsgi_status;\nwsgi_pass hello;"), "wsgi_status"),
    "wsgi_app without a name": (in_http("wsgi_app { module hello; }"), "number of arguments"),
    "wsgi_app without a block": (in_http("wsgi_app blog;"), ""),
    "wsgi_app without a module": (in_app("path @APPS@;", module=""), "module"),
    "wsgi_app in server": ("server { listen 127.0.0.1:@PORT@;\nwsgi_app blog { module hello; }\n}", "not allowed here"),
    "wsgi_app twice": (in_http("wsgi_app blog { module hello; } wsgi_app blog { module hello; }"), "blog"),
    "wsgi_app whose name is a target": (in_http("wsgi_app blog:app { module hello; }"), "blog:app"),
    "module twice": (in_app("module hello;"), "duplicate"),
    "module without a target": (in_app("module;", module=""), "number of arguments"),
    "module with no module name": (in_app("module a..b;", module=""), "a..b"),
    "path without a directory": (in_app("path;"), "number of arguments"),
    "env without a value": (in_app("env NAME;"), "NAME"),
    "env without a name": (in_app("env =value;"), "=value"),
    "virtualenv that is missing": (in_app("virtualenv @DIR@/nothing;"), "nothing"),
    "frob in wsgi_app": (in_app("frob 1;"), "frob"),
    "wsgi_pool without a name": (in_http("wsgi_pool;"), "number of arguments"),
    "wsgi_pool without threads": (in_http("wsgi_pool small queue=1;"), "threads"),
    "wsgi_pool with no threads": (in_http("wsgi_pool small threads=0;"), "threads=0"),
    "wsgi_pool with threads of no number": (in_http("wsgi_pool small threads=many;"), "threads=many"),
    "wsgi_pool with negative threads": (in_http("wsgi_pool small threads=-1;"), "threads=-1"),
    "wsgi_pool with a queue of no number": (in_http("wsgi_pool small threads=1 queue=x;"), "queue=x"),
    "wsgi_pool with a stack of no size": (in_http("wsgi_pool small threads=1 stack_size=1x;"), "stack_size=1x"),
    "wsgi_pool with an unknown parameter": (in_http("wsgi_pool small threads=1 frob=1;"), "frob=1"),
    "wsgi_pool twice": (in_http("wsgi_pool small threads=1; wsgi_pool small threads=2;"), "small"),
    "wsgi_pool in server": ("server { listen 127.0.0.1:@PORT@;\nwsgi_pool small threads=1;\n}", "not allowed here"),
    "wsgi_path without a directory": (in_http("wsgi_path;"), "number of arguments"),
    "wsgi_path in location": (in_location("wsgi_path /srv;\nwsgi_pass hello;"), "not allowed here"),
    "wsgi_gil_timeout without a time": (in_http("wsgi_gil_timeout;"), "number of arguments"),
    "wsgi_gil_timeout twice": (in_http("wsgi_gil_timeout 1s; wsgi_gil_timeout 2s;"), "duplicate"),
    "wsgi_gil_timeout that is none": (in_http("wsgi_gil_timeout soon;"), "invalid value"),
    "wsgi_gil_timeout in location": (in_location("wsgi_pass hello;\nwsgi_gil_timeout 1s;"), "not allowed here"),
    "wsgi_switch_interval without a time": (in_http("wsgi_switch_interval;"), "number of arguments"),
    "wsgi_switch_interval twice": (in_http("wsgi_switch_interval 1ms; wsgi_switch_interval 2ms;"), "duplicate"),
    "wsgi_switch_interval too short": (in_http("wsgi_switch_interval 99us;"), 'invalid value "99us"'),
    "wsgi_switch_interval of no time": (in_http("wsgi_switch_interval 0;"), 'invalid value "0"'),
    "wsgi_switch_interval too long": (in_http("wsgi_switch_interval 2s;"), 'invalid value "2s"'),
    "wsgi_switch_interval that is none": (in_http("wsgi_switch_interval soon;"), 'invalid value "soon"'),
    "wsgi_buffers without a size": (in_http("wsgi_buffers;"), "number of arguments"),
    "wsgi_buffers of no size": (in_http("wsgi_buffers much;"), 'invalid value "much"'),
    "wsgi_buffers of nothing": (in_location("wsgi_buffers 0;\nwsgi_pass hello;"), "0 is too little: it must be 4k or more"),
    "wsgi_buffers of a byte less than a page": (in_http("wsgi_buffers 4095;"), "4095 is too little"),
    "wsgi_buffers twice": (in_http("wsgi_buffers 4k; wsgi_buffers 8k;"), "duplicate"),
    "wsgi_virtualenv without a directory": (in_http("wsgi_virtualenv;"), "number of arguments"),
    "wsgi_virtualenv twice": (in_http("wsgi_virtualenv @VENV@; wsgi_virtualenv @VENV@;"), "duplicate"),
    "wsgi_virtualenv that is missing": (in_http("wsgi_virtualenv @DIR@/nothing;"), "nothing"),
    "wsgi_virtualenv that is none": (in_http("wsgi_virtualenv @DIR@;"), "@DIR@"),
    "wsgi_param without a value": (in_http("wsgi_param NAME;"), "number of arguments"),
    "wsgi_param with an unknown parameter": (in_http("wsgi_param NAME value frob;"), "frob"),
    "wsgi_param with an unknown variable": (in_http("wsgi_param NAME $no_such_variable;"), "no_such_variable"),
    "wsgi_queue_timeout without a time": (in_http("wsgi_queue_timeout;"), "number of arguments"),
    "wsgi_queue_timeout with no time": (in_http("wsgi_queue_timeout soon;"), "invalid value"),
    "wsgi_queue_timeout twice": (in_http("wsgi_queue_timeout 1s; wsgi_queue_timeout 2s;"), "duplicate"),
    "wsgi_read_timeout without a time": (in_http("wsgi_read_timeout;"), "number of arguments"),
    "wsgi_read_timeout with no time": (in_http("wsgi_read_timeout -1;"), "invalid value"),
    "wsgi_read_timeout twice": (in_http("wsgi_read_timeout 1s; wsgi_read_timeout 2s;"), "duplicate"),
}
# nginx itself refuses these, at the end of all, when it knows the variable only.
UNNAMED = {"wsgi_param with an unknown variable"}


@pytest.fixture
def virtualenv(tmp_path):
    """A virtual environment of this Python's version, without anything in it."""
    path = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(path)], check=True)
    return path


@pytest.mark.parametrize("wrong", WRONG)
def test_refused(tmp_path, virtualenv, wrong):
    http, message = WRONG[wrong]
    text = config.whole(http.replace("@VENV@", str(virtualenv)), with_python=False)
    accepted, output, conf = check_config(tmp_path, text)
    assert not accepted, output
    directive = wrong.split()[0]
    (line,) = [line for line in output.splitlines() if "[emerg]" in line]
    assert message.replace("@DIR@", str(tmp_path)) in line
    if wrong not in UNNAMED:
        assert f'"{directive}"' in line and f"{conf}:{line_of(conf, directive)}" in line


NAMED = "wsgi_app blog { module hello; path @APPS@ /srv; env A=b; env C=; interpreter main; }"

RIGHT = {
    "a module": in_location("wsgi_pass hello;"),
    "a module and a callable": in_location("wsgi_pass hello:application;"),
    "a dotted callable": in_location("wsgi_pass hello:application.__call__;"),
    "a factory": in_location('wsgi_pass "factory:create()";'),
    "a file": in_location("wsgi_pass @APPS@/hello.py;"),
    "a file and a callable": in_location("wsgi_pass @APPS@/hello.py:application;"),
    "a named application": in_location("wsgi_pass blog;", NAMED),
    "an application named after its use": in_location("wsgi_pass blog;") + "wsgi_app blog { module hello; }",
    "a pool": in_location("wsgi_pass hello pool=small;", "wsgi_pool small threads=1 queue=5 stack_size=1m;"),
    "a pool named after its use": in_location("wsgi_pass hello pool=small;") + "wsgi_pool small threads=1;",
    "pool=default": in_location("wsgi_pass hello pool=default;"),
    "the default pool redefined": in_location("wsgi_pass hello;", "wsgi_pool default threads=2;"),
    "in if": in_location("if ($arg_x) { wsgi_pass hello; }"),
    "in limit_except": in_location("limit_except GET { wsgi_pass hello; }"),
    "params and times at every level": """
        wsgi_param A a; wsgi_queue_timeout 1s; wsgi_read_timeout 1m;
        server { listen 127.0.0.1:@PORT@; wsgi_param A b if_not_empty; wsgi_queue_timeout 500ms; wsgi_read_timeout 2;
            location / { wsgi_param A $uri; wsgi_queue_timeout 2s; wsgi_read_timeout 1h; wsgi_pass hello; } }""",
    "wsgi_path with several directories": in_http("wsgi_path @APPS@ /srv; wsgi_path /opt;"),
    "no application at all": "server { listen 127.0.0.1:@PORT@; }",
}


@pytest.mark.parametrize("right", RIGHT)
def test_accepted(tmp_path, right):
    accepted, output, _ = check_config(tmp_path, config.whole(RIGHT[right], with_python=False))
    assert accepted, output
    assert "[emerg]" not in output and "[error]" not in output


def test_the_python_is_named(tmp_path):
    accepted, output, _ = check_config(tmp_path, config.whole(SERVER, with_python=False))
    assert accepted and f"CPython {platform.python_version()}" in output, output


def other_version(virtualenv):
    """Makes the virtual environment look like one of another Python."""
    major, minor = sys.version_info[:2]
    other = f"{major}.{minor - 1}"
    settings = virtualenv / "pyvenv.cfg"
    settings.write_text(settings.read_text().replace(f"{major}.{minor}", other))
    (virtualenv / "lib" / f"python{major}.{minor}").rename(virtualenv / "lib" / f"python{other}")
    return other


@pytest.mark.parametrize("directive", ["wsgi_virtualenv", "virtualenv"])
def test_a_virtualenv_of_another_version_is_refused_by_name(tmp_path, virtualenv, directive):
    other = other_version(virtualenv)
    line = f"{directive} {virtualenv};"
    http = in_http(line) if directive == "wsgi_virtualenv" else in_app(line)
    accepted, output, conf = check_config(tmp_path, config.whole(http, with_python=False))
    assert not accepted
    (refusal,) = [each for each in output.splitlines() if "[emerg]" in each]
    for part in (
        directive,
        str(virtualenv),
        other,
        "%d.%d" % sys.version_info[:2],
        f"{conf}:{line_of(conf, directive)}",
    ):
        assert part in refusal, (part, refusal)


def test_a_virtualenv_of_this_version_is_accepted(tmp_path, virtualenv):
    accepted, output, _ = check_config(
        tmp_path, config.whole(in_http(f"wsgi_virtualenv {virtualenv};"), with_python=False)
    )
    assert accepted, output
