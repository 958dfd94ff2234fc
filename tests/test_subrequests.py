"""The application behind subrequests and internal redirects: SSI, auth_request, mirror, error_page, try_files."""

import json

import pytest

from harness import config, http1, http2, script
from harness.gate import Gate
from harness.script import fail, give, play, start
from harness.waiting import until

LOCATIONS = """
    root @DIR@/www;
    location /ssi/ { ssi on; ssi_value_length 4k; default_type text/html; }
    location /guarded/ { auth_request /allowed; }
    location = /allowed { internal; wsgi_pass guard; }
    location /guarded-app/ { auth_request /allowed; wsgi_pass environ; }
    location /mirrored { mirror /copy; mirror_request_body on; wsgi_pass body; }
    location = /copy { internal; wsgi_param test.dir @DIR@; wsgi_pass recorder; }
    location /lost/ { error_page 404 /environ; }
    location /lost-named/ { error_page 404 = @application; }
    location /teapot/ { error_page 418 /environ; return 418; }
    location @application { wsgi_pass environ; }
    location /environ { wsgi_pass environ; }
    location /files/ { try_files $uri @application; }
    location /fallback/ { try_files $uri /environ?from=fallback; }
    location /index/ { index missing.html /environ; }
    location /if { if ($arg_app) { wsgi_pass environ; } wsgi_pass hello; }
    location /limited { limit_except GET { wsgi_pass environ; } wsgi_pass hello; }
    location ~ ^/regex/(\\d+)$ { wsgi_param NUMBER $1; wsgi_pass environ; }
    location /error-page { error_page 500 502 /environ; wsgi_pass script; }
"""


@pytest.fixture(scope="module")
def server(serve_module):
    second = f"server {{ {config.http2('H2_PORT', tls=False)} {script.CONF} {LOCATIONS} }}"
    server = serve_module(config.site(script.CONF + LOCATIONS, http=second))
    for folder in ("ssi", "guarded", "files"):
        (server.dir / "www" / folder).mkdir(parents=True)
    (server.dir / "www/guarded/page").write_text("the page")
    (server.dir / "www/files/page").write_text("a file")
    return server


def environ(server, path, **options):
    response = http1.fetch(server, path, **options)
    return response.status, json.loads(response.text)["environ"]


# ---- SSI ----


def ssi(server, *includes, name="page.html"):
    marks = "".join(f'<!--#include virtual="{include}" -->' for include in includes)
    (server.dir / "www/ssi" / name).write_text(f"[{marks}]")
    return http1.fetch(server, f"/ssi/{name}")


def test_an_included_call(server):
    assert ssi(server, "/hello").text == "[hello\n]"


def test_many_included_calls_in_their_order(server):
    response = ssi(server, *[play(start(), give(f"{number};")) for number in range(20)])
    assert response.text == "[" + "".join(f"{number};" for number in range(20)) + "]"


def test_an_included_stream(server):
    assert ssi(server, play(start(), give("ab", 500)), "/hello").text == "[" + "ab" * 500 + "hello\n]"


def test_an_included_call_that_fails_harms_nothing_else(server):
    server.expect("Traceback")
    response = ssi(server, "/hello", play(fail()), "/hello")
    assert response.status == 200 and response.complete and response.text.count("hello\n") == 2


def test_included_calls_do_not_wait_for_each_other_out_of_order(server):
    closed = Gate(server, "ssi-gate")
    with http1.Connection(server.port) as connection:
        slow = play(start(), ("gate", closed.name), give("slow"))
        (server.dir / "www/ssi/gated.html").write_text(
            f'<!--#include virtual="{slow}" --><!--#include virtual="/hello" -->'
        )
        connection.request("/ssi/gated.html")
        closed.wait_entered()
        assert http1.fetch(server, "/hello").text == "hello\n"
        closed.open()
        assert connection.response().text == "slowhello\n"


def test_included_calls_on_http_2(server):
    (server.dir / "www/ssi/two.html").write_text('<!--#include virtual="/hello" --><!--#include virtual="/hello" -->')
    assert http2.fetch(server.ports["H2_PORT"], "/ssi/two.html").text == "hello\nhello\n"


def test_a_client_that_leaves_during_an_included_call(server):
    closed = Gate(server, "ssi-leaves")
    with http1.Connection(server.port) as connection:
        slow = play(start(), ("gate", closed.name), give("slow"))
        (server.dir / "www/ssi/leaves.html").write_text(f'<!--#include virtual="{slow}" -->')
        connection.request("/ssi/leaves.html")
        closed.wait_entered()
    closed.open()
    closed.wait_left()
    assert http1.fetch(server, "/hello").text == "hello\n"


# ---- auth_request ----


@pytest.mark.parametrize("path, text", [("/guarded/page", "the page"), ("/guarded-app/page", None)])
def test_auth_request(server, path, text):
    for code in ("401", "403"):
        assert http1.fetch(server, path, headers={"X-Answer": code}).status == int(code)
    response = http1.fetch(server, path, headers={"X-Answer": "200"})
    assert response.status == 200 and (text is None or response.text == text)


def test_auth_request_sees_the_request_it_is_for(server):
    """The subrequest has the main request's header fields and REQUEST_URI, its own PATH_INFO, and no body."""
    response = http1.fetch(server, "/guarded/page?x=1", headers={"X-Answer": "tell"})
    told = json.loads(response.get("WWW-Authenticate"))
    assert told["REQUEST_URI"] == "/guarded/page?x=1"
    assert told["PATH_INFO"] == "/allowed"


def test_auth_request_before_a_body(server):
    body = b"x" * 50_000
    response = http1.fetch(server, "/guarded-app/", "POST", {"X-Answer": "200"}, body)
    assert json.loads(response.text)["environ"]["CONTENT_LENGTH"] == str(len(body))


# ---- mirror ----


def test_mirror(server):
    body = b"mirrored body " * 100
    response = http1.fetch(server, "/mirrored", "POST", body=body)
    assert json.loads(response.text)["length"] == len(body)
    copy = server.dir / "recorded"
    until(lambda: copy.exists() and copy.read_bytes() == body, "the mirror's copy")


# ---- internal redirects ----


@pytest.mark.parametrize("path, status, info", [("/lost/x", 404, "/environ"), ("/teapot/x", 418, "/environ")])
def test_error_page(server, path, status, info):
    got_status, got = environ(server, f"{path}?q=1")
    assert (got_status, got["PATH_INFO"], got["REQUEST_URI"]) == (status, info, f"{path}?q=1")


def test_error_page_to_a_named_location(server):
    status, got = environ(server, "/lost-named/x?q=1")
    assert (status, got["PATH_INFO"], got["QUERY_STRING"]) == (200, "/lost-named/x", "q=1")


def test_error_page_of_an_application_that_failed(server):
    server.expect("Traceback")
    status, got = environ(server, play(fail(), at="/error-page"))
    assert (status, got["PATH_INFO"]) == (500, "/environ")


def test_try_files(server):
    assert http1.fetch(server, "/files/page").text == "a file"
    status, got = environ(server, "/files/none?q=1")
    assert (status, got["PATH_INFO"], got["QUERY_STRING"]) == (200, "/files/none", "q=1")
    status, got = environ(server, "/fallback/none")
    assert (status, got["PATH_INFO"], got["QUERY_STRING"]) == (200, "/environ", "from=fallback")


def test_index(server):
    (server.dir / "www/index").mkdir(exist_ok=True)
    status, got = environ(server, "/index/")
    assert (status, got["PATH_INFO"]) == (200, "/environ")


def test_a_body_survives_an_internal_redirect(server):
    status, got = environ(server, "/files/none", method="POST", body=b"12345")
    assert (status, got["CONTENT_LENGTH"], got["REQUEST_METHOD"]) == (200, "5", "POST")


# ---- where wsgi_pass may stand ----


def test_in_if(server):
    assert http1.fetch(server, "/if").text == "hello\n"
    status, got = environ(server, "/if?app=1")
    assert (status, got["PATH_INFO"]) == (200, "/if")


def test_in_limit_except(server):
    assert http1.fetch(server, "/limited").text == "hello\n"
    assert environ(server, "/limited", method="POST")[1]["REQUEST_METHOD"] == "POST"


def test_in_a_regex_location(server):
    assert environ(server, "/regex/42")[1]["NUMBER"] == "42"
    assert http1.fetch(server, "/regex/x").status == 404
