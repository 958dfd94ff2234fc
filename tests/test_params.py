"""wsgi_param: values, inheritance and precedence as with fastcgi_param."""

import json

import pytest

from harness import http1

CONF = """
wsgi_pool default threads=2;
wsgi_param LEVEL http;
wsgi_param ONLY_HTTP yes;
server {
    listen 127.0.0.1:@PORT@;
    server_name www.example.org;
    set $nothing "";
    location /inherits { wsgi_pass environ; }
    location /redefines { wsgi_param LEVEL location; wsgi_pass environ; }
    location /nests {
        wsgi_param LEVEL outer;
        location /nests/deeper { wsgi_pass environ; }
    }
    location /values {
        wsgi_param LITERAL "two words";
        wsgi_param VARIABLE $request_method-$arg_x;
        wsgi_param EMPTY $nothing;
        wsgi_param SKIPPED $nothing if_not_empty;
        wsgi_param KEPT $arg_x if_not_empty;
        wsgi_param lower.case yes;
        wsgi_param BYTES $arg_bytes;
        wsgi_pass environ;
    }
    location /fieldless { wsgi_pass_request_headers off; wsgi_param HTTP_X_SET by-nginx; wsgi_pass environ; }
    location /overrides {
        wsgi_param SERVER_NAME other.example;
        wsgi_param HTTPS on;
        wsgi_param REMOTE_USER eve;
        wsgi_param HTTP_X_SET by-nginx;
        wsgi_param HTTP_X_GONE "";
        wsgi_param TWICE first;
        wsgi_param TWICE second;
        wsgi_pass environ;
    }
}
server {
    listen 127.0.0.1:@SECOND_PORT@;
    wsgi_param LEVEL server;
    location / { wsgi_pass environ; }
}
"""


@pytest.fixture(scope="module")
def server(serve_module):
    return serve_module(CONF)


def environ(server, path, headers=(), port=None):
    response = http1.fetch(server, path, headers=headers, port=port)
    assert response.status == 200, response
    return json.loads(response.text)["environ"]


def test_a_level_without_params_inherits_all(server):
    got = environ(server, "/inherits")
    assert (got["LEVEL"], got["ONLY_HTTP"]) == ("http", "yes")


def test_a_level_with_one_param_inherits_none(server):
    got = environ(server, "/redefines")
    assert got["LEVEL"] == "location" and "ONLY_HTTP" not in got
    got = environ(server, "/", port=server.ports["SECOND_PORT"])
    assert got["LEVEL"] == "server" and "ONLY_HTTP" not in got


def test_a_nested_location_inherits(server):
    assert environ(server, "/nests/deeper")["LEVEL"] == "outer"


def test_values(server):
    got = environ(server, "/values?x=1&bytes=\xe9")
    assert got["LITERAL"] == "two words"
    assert got["VARIABLE"] == "GET-1"
    assert got["EMPTY"] == ""
    assert got["lower.case"] == "yes"
    assert got["BYTES"] == "\xe9", "latin-1, as everything"


def test_if_not_empty(server):
    got = environ(server, "/values?x=1")
    assert "SKIPPED" not in got and got["KEPT"] == "1"
    assert "KEPT" not in environ(server, "/values")


def test_a_param_overrides_what_nginx_would_say(server):
    got = environ(server, "/overrides")
    assert (got["SERVER_NAME"], got["HTTPS"], got["REMOTE_USER"]) == ("other.example", "on", "eve")
    assert got["TWICE"] == "second"


def test_https_by_param_is_the_scheme(server):
    assert environ(server, "/overrides")["wsgi.url_scheme"] == "https"


def test_without_the_header_fields_the_body_keeps_its_type_and_length(server):
    """As with uwsgi_pass, where these are parameters."""
    headers = {"Content-Type": "application/json", "X-Other": "1", "Cookie": "a=1"}
    for target in ("/fieldless", "http://abs.example/fieldless"):
        response = http1.fetch(server, target, "POST", headers, b'{"a": 1}')
        got = json.loads(response.text)["environ"]
        assert (got["CONTENT_TYPE"], got["CONTENT_LENGTH"]) == ("application/json", "8")
        assert [key for key in got if key.startswith("HTTP_")] == ["HTTP_X_SET"]


def test_a_param_overrides_a_header_and_an_empty_one_removes_it(server):
    headers = {"X-Set": "by the client", "X-Gone": "secret", "X-Stays": "1"}
    got = environ(server, "/overrides", headers)
    assert got["HTTP_X_SET"] == "by-nginx"
    assert "HTTP_X_GONE" not in got
    assert got["HTTP_X_STAYS"] == "1"
