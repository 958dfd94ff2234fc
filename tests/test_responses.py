"""Status line and header fields, as the application gave them and as fastcgi_pass would pass them on."""

import pytest

from harness import config, http1, script
from harness.script import give, play, start


@pytest.fixture(scope="module")
def server(serve_module):
    return serve_module(
        config.site(script.CONF + "location /gzip { gzip on; gzip_types text/plain; wsgi_pass script; }")
    )


@pytest.fixture(params=["/play", "/valid"])
def ask(server, request):
    """Plays a status and header fields, with and without wsgiref.validate in between."""

    def ask(status="200 OK", headers=(), at=request.param, sent=(), body="body"):
        return http1.fetch(server, play(start(status, headers), give(body), at=at), headers=sent)

    return ask


@pytest.mark.parametrize(
    "status", ["200 OK", "201 Created", "404 Not Found", "418 I'm a teapot", "299 Frob Nicated", "511 X", "599 Y"]
)
def test_the_status_line(ask, status):
    response = ask(status)
    assert response.line == f"HTTP/1.1 {status}"
    assert response.text == "body"


def test_an_error_status_keeps_the_application_s_body(ask):
    for status in ("400 Bad Request", "403 Forbidden", "500 Oops", "503 Later"):
        response = ask(status, {"X-Own": "1"}, body="the application's own page")
        assert (response.reason, response.get("X-Own")) == (status[4:], "1")
        assert response.text == "the application's own page"


def test_fields_keep_their_order_and_spelling(ask):
    headers = [("X-Zebra", "1"), ("x-lower", "2"), ("X-UPPER", "3"), ("X-Zebra", "4")]
    own = [field for field in ask(headers=headers).fields if field[0].lower().startswith("x-")]
    assert own == headers


def test_several_cookies_stay_several(ask):
    cookies = ["a=1; Path=/", "b=2; HttpOnly", "c=3"]
    assert ask(headers=[("Set-Cookie", cookie) for cookie in cookies]).all("Set-Cookie") == cookies


def test_values(ask):
    headers = {"X-Latin": "caf\xe9", "X-Empty": "", "X-Long": "x" * 3000, "X-Tab": "a\tb"}
    response = ask(headers=headers, at="/play")
    assert {name: response.get(name) for name in headers} == headers


def test_many_fields(ask):
    headers = [(f"X-{number}", f"{number}") for number in range(80)]
    assert [field for field in ask(headers=headers).fields if field[0].startswith("X-")] == headers


@pytest.mark.parametrize("kind", ["text/html", "text/html; charset=koi8-r", "application/json", "image/x-odd;a=b"])
def test_the_content_type(ask, kind):
    assert ask(headers={"Content-Type": kind}).get("Content-Type") == kind


def test_no_content_type_is_none(server):
    response = http1.fetch(server, play(("start", "200 OK", []), give("body")))
    assert response.get("Content-Type") is None


def test_content_length(ask):
    response = ask(headers={"Content-Length": "4"})
    assert response.all("Content-Length") == ["4"] and response.get("Transfer-Encoding") is None


def test_date_and_server_are_nginx_own_unless_given(ask):
    response = ask()
    assert response.get("Server").startswith("nginx") and response.get("Date").endswith("GMT")


def test_date_and_server_of_the_application(ask):
    date = "Tue, 15 Nov 1994 08:12:31 GMT"
    response = ask(headers={"Date": date, "Server": "Frob/1.0"})
    assert response.all("Date") == [date]
    assert response.all("Server") == ["Frob/1.0"]


VALIDATORS = {"ETag": '"v1"', "Last-Modified": "Tue, 15 Nov 1994 08:12:31 GMT"}


def test_validators_are_passed_on(ask):
    response = ask(headers=VALIDATORS)
    assert {name: response.get(name) for name in VALIDATORS} == VALIDATORS


@pytest.mark.parametrize("condition", [("If-None-Match", '"v1"'), ("If-Modified-Since", VALIDATORS["Last-Modified"])])
def test_nginx_answers_a_condition_by_the_application_s_validators(ask, condition):
    response = ask(headers=VALIDATORS, sent=[condition])
    assert (response.status, response.body, response.get("ETag")) == (304, b"", '"v1"')


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_a_condition_on_a_change_is_the_application_s_own(server, method):
    """It has changed something by then: a 412 from nginx would be a lie."""
    path = play(start(headers=VALIDATORS), give("changed"))
    response = http1.fetch(server, path, method, {"If-Match": '"v0"'})
    assert (response.status, response.text) == (200, "changed")


REFUSABLE = [("If-Match", '"v0"'), ("If-Unmodified-Since", "Tue, 15 Nov 1993 08:12:31 GMT")]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("condition", [*REFUSABLE, ("If-None-Match", "*")])
@pytest.mark.parametrize("validators", [VALIDATORS, {}])
def test_what_the_application_answers_is_not_refused_by_nginx(server, method, condition, validators):
    """An application that knows the condition has gone by it; one that does not has nothing to compare."""
    response = http1.fetch(server, play(start(headers=validators), give("all of it")), method, [condition])
    assert response.status == (304 if condition[1] == "*" and validators else 200)


@pytest.mark.parametrize("place", ["/there", "there?x=1", "http://other.example/x", "//other.example/x"])
def test_a_location_is_passed_unchanged(ask, place):
    response = ask("302 Found", {"Location": place})
    assert (response.status, response.all("Location")) == (302, [place])


@pytest.mark.parametrize(
    "name", ["Cache-Control", "Expires", "Vary", "Link", "WWW-Authenticate", "Content-Disposition", "Content-Language"]
)
def test_fields_that_nginx_knows_come_once(ask, name):
    value = {"Expires": "Tue, 15 Nov 1994 08:12:31 GMT"}.get(name, "value")
    assert ask(headers={name: value}).all(name) == [value]


@pytest.mark.parametrize("name", ["Cache-Control", "Link", "WWW-Authenticate", "Vary"])
def test_repeated_fields_that_nginx_knows(ask, name):
    assert ask(headers=[(name, "one"), (name, "two")]).all(name) == ["one", "two"]


def test_a_range_is_not_cut_out_unasked(ask):
    response = ask(sent={"Range": "bytes=1-2"})
    assert (response.status, response.text) == (200, "body")


def test_gzip(server):
    """The output filters work: what nginx compresses is the application's body."""
    path = play(start(), give("x" * 5000), at="/gzip")
    response = http1.fetch(server, path, headers={"Accept-Encoding": "gzip"})
    assert response.get("Content-Encoding") == "gzip" and 0 < len(response.body) < 200
    encoded = play(start(headers={"Content-Encoding": "br"}), give("x" * 5000), at="/gzip")
    response = http1.fetch(server, encoded, headers={"Accept-Encoding": "gzip"})
    assert response.get("Content-Encoding") == "br" and response.text == "x" * 5000
