"""Who vouches for what environ says: users by nginx's own check, hosts by nginx's own parsing, names without lookalikes."""

import base64
import json

import pytest

from harness import config, http1
from harness.waiting import until

AUTH = 'auth_basic "members"; auth_basic_user_file @DIR@/passwords;'
CLAIMED = "wsgi_param CLAIMED $remote_user;"  # which has nginx decode what the client claims

LOCATIONS = f"""
    root @DIR@/www;
    wsgi_param NGINX_HOST $host;
    location / {{ wsgi_pass environ; }}
    location /private/ {{ {AUTH} wsgi_pass environ; }}
    location /private/open/ {{ auth_basic off; {CLAIMED} wsgi_pass environ; }}
    location /address-or-password/ {{ satisfy any; allow 127.0.0.1; deny all; {AUTH} {CLAIMED} wsgi_pass environ; }}
    location /password-or-nothing/ {{ satisfy any; deny all; {AUTH} {CLAIMED} wsgi_pass environ; }}
    location /no-file/ {{ auth_basic "members"; {CLAIMED} wsgi_pass environ; }}
    location /off-by-variable/ {{ set $realm off; auth_basic $realm; auth_basic_user_file @DIR@/passwords;
        auth_request /allowed; auth_request_set $realm members; {CLAIMED} wsgi_pass environ; }}
    location = /allowed {{ internal; wsgi_pass hello; }}
    location /included/ {{ internal; {AUTH} {CLAIMED} wsgi_pass environ; }}
    location /ssi/ {{ ssi on; {CLAIMED} }}
    location /files/ {{ {AUTH} try_files $uri @application; }}
    location @application {{ {CLAIMED} wsgi_pass environ; }}
    location /refused/ {{ {AUTH} error_page 401 = @application; wsgi_pass environ; }}
    location /forwarded/ {{ {AUTH} error_page 418 = /private/; return 418; }}
    location /no-host/ {{ wsgi_param HTTP_HOST ""; wsgi_pass environ; }}
    location /other-host/ {{ wsgi_param HTTP_HOST other.example; wsgi_pass environ; }}
    location /guarded/ {{ auth_request /told; wsgi_pass environ; }}
    location = /told {{ internal; wsgi_pass guard; }}
    location /no-underscore/ {{ wsgi_param HTTP_X_GONE ""; wsgi_pass environ; }}
"""


@pytest.fixture(scope="module")
def server(serve_module):
    lenient = f"""server {{ listen 127.0.0.1:@LENIENT_PORT@; underscores_in_headers on; ignore_invalid_headers off;
        {LOCATIONS} }}"""
    http = f"{lenient} server {{ listen [::1]:@V6_PORT@; listen 127.0.0.1:@V6_PORT@; location / {{ wsgi_pass environ; }} }}"
    server = serve_module(config.site(LOCATIONS, http=http))
    (server.dir / "passwords").write_text("ada:{PLAIN}lovelace\n")
    (server.dir / "www/ssi").mkdir(parents=True)
    (server.dir / "www/ssi/page.html").write_text('<!--#include virtual="/included/x" -->')
    return server


def told(response):
    assert response.status == 200, response
    return json.loads(response.text)["environ"]


def login(pair):
    return [("Authorization", "Basic " + base64.b64encode(pair.encode()).decode())]


def user(server, path, pair):
    """REMOTE_USER and AUTH_TYPE."""
    got = told(http1.fetch(server, path, headers=login(pair)))
    return got.get("REMOTE_USER"), got.get("AUTH_TYPE")


def exactly(server, data, port=None):
    with http1.Connection(port or server.port) as connection:
        connection.send(data)
        return connection.response()


# ---- users ----


@pytest.mark.parametrize("path", ["/private/", "/password-or-nothing/", "/forwarded/"])
def test_a_password_that_nginx_has_checked_names_the_user(server, path):
    assert user(server, path, "ada:lovelace") == ("ada", "Basic")
    for pair in ("ada:wrong", "eve:lovelace"):
        assert http1.fetch(server, path, headers=login(pair)).status == 401


@pytest.mark.parametrize("pair", ["ada:wrong", "ada:lovelace", "root:"])
@pytest.mark.parametrize(
    "path",
    ["/private/open/", "/address-or-password/", "/no-file/", "/off-by-variable/", "/ssi/page.html"],
)
def test_a_password_that_nginx_has_not_checked_names_nobody(server, path, pair):
    """Not even the right one: nobody has looked."""
    assert user(server, path, pair) == (None, None)
    assert told(http1.fetch(server, path, headers=login(pair)))["CLAIMED"] == pair.partition(":")[0]


def test_a_check_holds_for_the_location_that_made_it(server):
    """A request that goes on to a location without one of its own is anybody's there."""
    assert user(server, "/files/none", "ada:lovelace") == (None, None)
    assert http1.fetch(server, "/refused/", headers=login("ada:lovelace")).status == 200
    assert user(server, "/refused/", "ada:lovelace") == ("ada", "Basic")
    assert user(server, "/refused/", "ada:wrong") == (None, None)


def test_a_reload_keeps_the_check(serve):
    server = serve(config.site(f"location / {{ {AUTH} wsgi_pass environ; }}"))
    (server.dir / "passwords").write_text("ada:{PLAIN}lovelace\n")
    for _ in range(2):
        old = server.reload()
        until(lambda: not set(old) & set(server.worker_pids()), "the old workers have left")
        assert user(server, "/", "ada:lovelace") == ("ada", "Basic")
        assert http1.fetch(server, "/", headers=login("ada:wrong")).status == 401


# ---- hosts ----


@pytest.mark.parametrize(
    "line, host",
    [
        ("GET  http://abs.example/x HTTP/1.1", "abs.example"),
        ("GET   http://abs.example:81/x HTTP/1.1", "abs.example:81"),
        ("GET http://abs.example:81?x HTTP/1.1", "abs.example:81"),
        ("GET http://abs.example:81 HTTP/1.1", "abs.example:81"),
        ("GET http://abs.example:/x HTTP/1.1", "abs.example"),
        ("GET http://[::1]:81/x HTTP/1.1", "[::1]:81"),
        ("GET http://abs.example/http://other.example/ HTTP/1.1", "abs.example"),
        ("GET /http://other.example/ HTTP/1.1", "public.example"),
    ],
)
def test_the_application_sees_the_host_that_nginx_sees(server, line, host):
    got = told(exactly(server, f"{line}\r\nHost: public.example\r\n\r\n"))
    assert got["HTTP_HOST"] == host
    assert got["NGINX_HOST"] == (host.partition("]")[0] + "]" if host[0] == "[" else host.partition(":")[0])


@pytest.mark.parametrize("target", ["/no-host/", "http://abs.example/no-host/"])
def test_a_param_takes_any_host_away(server, target):
    assert "HTTP_HOST" not in told(http1.fetch(server, target, host="public.example"))


@pytest.mark.parametrize("target", ["/other-host/", "http://abs.example/other-host/"])
def test_a_param_sets_the_host(server, target):
    assert told(http1.fetch(server, target, host="public.example"))["HTTP_HOST"] == "other.example"


def test_a_subrequest_has_the_host_of_its_request(server):
    response = http1.fetch(server, "http://abs.example:81/guarded/", headers={"X-Answer": "tell"}, host="public.example")
    assert json.loads(response.get("WWW-Authenticate"))["HTTP_HOST"] == "abs.example:81"


def test_an_ipv6_address_as_a_name_has_brackets(server):
    with http1.Connection(server.ports["V6_PORT"], address="::1") as connection:
        connection.send("GET / HTTP/1.0\r\n\r\n")
        got = told(connection.response())
    assert (got["SERVER_NAME"], got["SERVER_ADDR"]) == ("[::1]", "::1")


# ---- names of header fields ----


@pytest.mark.parametrize("headers", [
    [("X-Real-IP", "10.0.0.1"), ("X_Real_IP", "6.6.6.6")],
    [("X_Real_IP", "6.6.6.6"), ("X-Real-IP", "10.0.0.1"), ("X-Real_IP", "6.6.6.6")],
    [("X_Real_IP", "6.6.6.6"), ("X-Real-IP", "10.0.0.1"), *((f"X-{number}", "x") for number in range(40))],
])
def test_a_name_with_underscores_never_takes_the_place_of_one_with_hyphens(server, headers):
    got = told(http1.fetch(server, "/", headers=headers, port=server.ports["LENIENT_PORT"]))
    assert got["HTTP_X_REAL_IP"] == "10.0.0.1"


def test_names_with_underscores_where_nginx_allows_them(server):
    headers = [("x_api_key", "1"), ("X_Api_Key", "2"), ("X_Request_Id", "3")]
    got = told(http1.fetch(server, "/", headers=headers, port=server.ports["LENIENT_PORT"]))
    assert (got["HTTP_X_API_KEY"], got["HTTP_X_REQUEST_ID"]) == ("1, 2", "3")
    headers = [("X_Gone", "1"), ("X-Gone", "2")]
    assert "HTTP_X_GONE" not in told(http1.fetch(server, "/no-underscore/", headers=headers, port=server.ports["LENIENT_PORT"]))


def test_fields_without_a_key_have_none_by_another_spelling(server):
    headers = [("Content_Type", "x"), ("Content_Length", "9"), ("Transfer_Encoding", "chunked")]
    got = told(http1.fetch(server, "/", "POST", headers, b"abc", port=server.ports["LENIENT_PORT"]))
    assert got["CONTENT_LENGTH"] == "3" and "CONTENT_TYPE" not in got
    assert not [key for key in got if key.startswith(("HTTP_CONTENT", "HTTP_TRANSFER"))]


def test_other_characters_in_names_stay_what_they_are(server):
    """As with fastcgi_pass and uwsgi_pass: `X.Real.IP` is no X-Real-IP."""
    headers = [("X-Real-IP", "10.0.0.1"), ("X.Real.IP", "6.6.6.6"), ("X+Real!IP", "7")]
    got = told(http1.fetch(server, "/", headers=headers, port=server.ports["LENIENT_PORT"]))
    assert (got["HTTP_X_REAL_IP"], got["HTTP_X.REAL.IP"], got["HTTP_X+REAL!IP"]) == ("10.0.0.1", "6.6.6.6", "7")


def test_repeated_content_types_are_what_nginx_says(server):
    headers = [("Content-Type", "text/a"), ("Content-Type", "text/b")]
    assert told(http1.fetch(server, "/", "POST", headers, b"x"))["CONTENT_TYPE"] == "text/a, text/b"
