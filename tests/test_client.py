"""environ["ngx_wsgi.client_disconnected"] and environ["wsgi.early_hints"]."""

import pytest
from harness import artifacts, config, http1, http2
from harness.gate import Gate
from harness.waiting import until

HINTS = artifacts.nginx_version() >= (1, 29, 0)
EARLY = "early_hints $wanted;" if HINTS else ""
CONF = f"""
    wsgi_param test.dir @DIR@;
    location / {{ wsgi_pass client; }}
    location /hints/ {{ {EARLY} wsgi_hide_header X-Powered-By; wsgi_pass client; }}
    location /ignored/ {{ wsgi_ignore_client_abort on; wsgi_pass client; }}
    location /hasty/ {{ wsgi_read_timeout 300ms; wsgi_pass client; }}
"""


@pytest.fixture(scope="module")
def server(serve_module):
    second = f"server {{ {config.http2('H2_PORT', tls=False)} {CONF} }}"
    return serve_module(config.site(CONF, http="map $http_x_no_hints $wanted { default 0; '' 1; }" + second))


def noted(server, name):
    until((server.dir / name).exists, f"the note {name}")


# ---- the client leaves ----


def test_a_client_that_stays(server):
    assert http1.fetch(server, "/stays").text == "False"


@pytest.mark.parametrize("ending", ["close", "reset"])
def test_a_call_that_waits_for_it_is_told(server, ending):
    connection = http1.Connection(server.port)
    connection.request(f"/leaves-{ending}")
    Gate(server, f"leaves-{ending}").wait_entered()
    getattr(connection, ending)()
    noted(server, f"leaves-{ending}.True")


def test_an_http_2_stream_that_is_reset(server):
    with http2.Connection(server.ports["H2_PORT"]) as connection:
        stream = connection.request("/leaves-h2")
        Gate(server, "leaves-h2").wait_entered()
        connection.cancel(stream)
        noted(server, "leaves-h2.True")
        assert connection.response(connection.request("/stays")).text == "False"


def test_a_client_that_is_answered_by_a_timeout(server):
    server.expect("wsgi_read_timeout", "Traceback|File ")
    assert http1.fetch(server, "/hasty/leaves-timeout").status == 504
    noted(server, "leaves-timeout.True")


def test_a_thread_that_watches_is_released_by_the_end_of_the_call(server):
    assert http1.fetch(server, "/watched-end").text == "False"
    noted(server, "watched-end.False")


# ---- early hints ----


def test_hints_come_while_the_call_runs_where_nginx_can(server):
    with http1.Connection(server.port) as connection, Gate(server, "early") as gate:
        connection.request("/hints/early?hint")
        gate.wait_entered()
        early = [connection.head(), connection.head()] if HINTS else []
        gate.open()
        response = connection.response()
    if HINTS:
        assert [head.line for head in early] == ["HTTP/1.1 103 Early Hints"] * 2
        links = [["</style.css>; rel=preload", "</app.js>; rel=preload"], ["</late.css>; rel=preload"]]
        assert [head.all("Link") for head in early] == links
        assert {name for head in early for name, _ in head.fields} == {"Link"}
    assert (response.status, response.all("Link"), response.text) == (200, ["</final>"], "False")


@pytest.mark.parametrize(
    "name, headers, version, prefix",
    [
        ("unwanted", [("X-No-Hints", "1")], "HTTP/1.1", "/hints"),
        ("old", [], "HTTP/1.0", "/hints"),
        ("unset", [], "HTTP/1.1", ""),
    ],
)
def test_no_hints_where_the_configuration_or_the_client_will_not_have_them(server, name, headers, version, prefix):
    with http1.Connection(server.port) as connection, Gate(server, name):
        Gate(server, name).open()
        connection.request(f"{prefix}/{name}?hint", headers=headers, version=version)
        response = connection.head()
        assert (response.status, response.all("Link")) == (200, ["</final>"])


def test_hints_on_http_2(server):
    """With an nginx before 1.29, which has none, the call is without effect."""
    with http2.Connection(server.ports["H2_PORT"]) as connection, Gate(server, "h2") as gate:
        stream = connection.request("/hints/h2?hint")
        if HINTS:
            links = [value for name, value in connection.interim(stream) if name == "link"]
            assert links == ["</style.css>; rel=preload", "</app.js>; rel=preload"]
        gate.open()
        response = connection.response(stream)
        assert (response.status, response.get("Link")) == (200, "</final>")
