"""environ: every key, from every kind of request (PEP 3333, and what fastcgi_params would tell)."""

import base64
import json

import pytest

from harness import config, http1, http2

PASSWORDS = "ada:{PLAIN}lovelace\n"

LOCATIONS = """
    location / { wsgi_pass environ; }
    location /private/ { auth_basic "members"; auth_basic_user_file @DIR@/passwords; wsgi_pass environ; }
    location /old/ { rewrite ^/old/(.*)$ /new/$1?added=1 last; }
    location /named/ { try_files /nonexistent @environ; }
    location @environ { wsgi_pass environ; }
    location /rooted/ { root /srv/rooted; wsgi_pass environ; }
    location /variable/ { root /srv/$arg_site; wsgi_pass environ; }
    location /secure/ { wsgi_param HTTPS on; wsgi_pass environ; }
"""


@pytest.fixture(scope="module")
def server(serve_module, certificate):
    http = f"""
    wsgi_pool default threads=2;
    server {{
        listen 127.0.0.1:@PORT@;
        listen unix:@DIR@/socket;
        listen 127.0.0.1:@TLS_PORT@ ssl;
        listen 127.0.0.1:@OTHER_PORT@;
        {certificate.directives()}
        server_name www.example.org;
        root /srv/www;
        {LOCATIONS}
    }}
    server {{ {config.http2("H2_PORT", tls=False)} location / {{ wsgi_pass environ; }} }}
    """
    server = serve_module(http)
    (server.dir / "passwords").write_text(PASSWORDS)
    return server


def told(response):
    assert response.status == 200, response
    answer = json.loads(response.text)
    assert answer["dict"], "environ is a plain dict"
    return answer["environ"]


def environ(server, path="/", method="GET", headers=(), **options):
    return told(http1.fetch(server, path, method, headers, **options))


def exactly(server, data):
    """What the application is told when exactly these bytes come."""
    with http1.Connection(server.port) as connection:
        connection.send(data)
        return told(connection.response())


def test_the_request_line(server):
    got = environ(server, "/a%20b/%C3%A9?x=%20&y=1+2")
    assert got["REQUEST_METHOD"] == "GET"
    assert got["SCRIPT_NAME"] == ""
    assert got["PATH_INFO"] == "/a b/\xc3\xa9", "decoded, each byte one latin-1 character"
    assert got["QUERY_STRING"] == "x=%20&y=1+2", "as it came"
    assert got["REQUEST_URI"] == got["RAW_URI"] == "/a%20b/%C3%A9?x=%20&y=1+2", "as it came"
    assert got["SERVER_PROTOCOL"] == "HTTP/1.1"


def test_the_server(server):
    with http1.Connection(server.port) as connection:
        connection.request("/", host=f"www.example.org:{server.port}")
        got = told(connection.response())
        assert got["REMOTE_PORT"] == str(connection.local_port)
    assert got["SERVER_NAME"] == "www.example.org"
    assert got["SERVER_PORT"] == str(server.port)
    assert got["SERVER_ADDR"] == "127.0.0.1"
    assert got["REMOTE_ADDR"] == "127.0.0.1"
    assert got["REQUEST_SCHEME"] == "http"
    assert got["DOCUMENT_ROOT"] == "/srv/www"
    assert got["SERVER_SOFTWARE"].startswith("nginx")
    assert got["HTTP_HOST"] == f"www.example.org:{server.port}", "with its port"


def test_the_wsgi_keys(server):
    response = http1.fetch(server)
    got, types = told(response), json.loads(response.text)["types"]
    assert got["wsgi.version"] == [1, 0]
    assert got["wsgi.url_scheme"] == "http"
    assert got["wsgi.multithread"] is True
    assert got["wsgi.multiprocess"] is False
    assert got["wsgi.run_once"] is False
    assert {"wsgi.input", "wsgi.errors"} <= set(types)


def test_multiprocess_with_several_workers(serve):
    server = serve(config.site("location / { wsgi_pass environ; }"), workers=2)
    assert environ(server)["wsgi.multiprocess"] is True


def test_every_call_has_an_environ_of_its_own(server):
    assert not [number for number in range(8) if "leak" in environ(server)]


def test_an_empty_query_string_is_there(server):
    assert environ(server, "/")["QUERY_STRING"] == ""
    assert environ(server, "/?")["QUERY_STRING"] == ""


def test_no_body_no_content_keys(server):
    got = environ(server)
    assert not got.get("CONTENT_TYPE") and not got.get("CONTENT_LENGTH")
    for key in ("HTTPS", "REMOTE_USER", "AUTH_TYPE"):
        assert not got.get(key), key


def test_content_keys_have_no_http_twins(server):
    got = environ(server, "/", "POST", {"Content-Type": "text/x"}, body=b"12345")
    assert (got["CONTENT_TYPE"], got["CONTENT_LENGTH"]) == ("text/x", "5")
    assert not {"HTTP_CONTENT_TYPE", "HTTP_CONTENT_LENGTH"} & set(got)


def test_a_chunked_body_has_its_length_and_no_coding(server):
    got = environ(server, "/", "POST", {"Transfer-Encoding": "chunked"}, body=http1.chunked(b"abc", b"de"))
    assert got["CONTENT_LENGTH"] == "5"
    assert "HTTP_TRANSFER_ENCODING" not in got


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "PROPFIND", "FROB"])
def test_methods(server, method):
    if method == "HEAD":
        assert http1.fetch(server, method=method).status == 200
    else:
        assert environ(server, method=method)["REQUEST_METHOD"] == method


# ---- header fields ----


def test_header_names(server):
    got = environ(server, headers={"X-Frob": "1", "x-LOWER-case": "2", "X-1.5": "3"})
    assert (got["HTTP_X_FROB"], got["HTTP_X_LOWER_CASE"]) == ("1", "2")


def test_an_underscore_in_a_name_cannot_pass_for_a_hyphen(server):
    got = environ(server, headers=[("X_Real_Ip", "6.6.6.6"), ("X-Other", "1")])
    assert "HTTP_X_REAL_IP" not in got and got["HTTP_X_OTHER"] == "1"


def test_repeated_headers_are_joined(server):
    headers = [("X-A", "1"), ("X-A", "2"), ("x-a", "3"), ("Cookie", "a=1"), ("Cookie", "b=2")]
    got = environ(server, headers=headers)
    assert got["HTTP_X_A"] == "1, 2, 3"
    assert got["HTTP_COOKIE"] == "a=1; b=2"


@pytest.mark.parametrize("name", ["X-Forwarded-For", "Accept", "Cache-Control", "Via"])
def test_repeated_known_headers_are_joined(server, name):
    got = environ(server, headers=[(name, "one"), (name, "two")])
    assert got["HTTP_" + name.upper().replace("-", "_")] == "one, two"


def test_header_values_are_latin_1(server):
    got = environ(server, headers={"X-L": "caf\xe9", "X-U": "\xe2\x82\xac"})
    assert got["HTTP_X_L"] == "caf\xe9"
    assert got["HTTP_X_U"] == "\xe2\x82\xac", "UTF-8 stays bytes in disguise"


def test_header_values_are_trimmed(server):
    got = exactly(server, "GET / HTTP/1.1\r\nHost: h\r\nX-S:   a b  \r\nX-T:\ta\tb\t\r\nX-E:\r\nX-N:v\r\n\r\n")
    assert got["HTTP_X_S"] == "a b"
    assert got["HTTP_X_T"] == "a\tb"
    assert got["HTTP_X_E"] == ""
    assert got["HTTP_X_N"] == "v"


def test_the_proxy_header_is_never_passed(server):
    assert "HTTP_PROXY" not in environ(server, headers={"Proxy": "http://evil.example"})


def test_a_long_header_and_many_headers(server):
    headers = [("X-Long", "x" * 7000), *((f"X-{number}", str(number)) for number in range(90))]
    got = environ(server, headers=headers)
    assert got["HTTP_X_LONG"] == "x" * 7000
    assert [got[f"HTTP_X_{number}"] for number in range(90)] == [str(number) for number in range(90)]


def test_no_header_can_pose_as_another_key(server):
    got = environ(server, headers={"Remote-User": "root", "Https": "on", "wsgi.url_scheme": "https"})
    assert got.get("REMOTE_USER", "") == "" and got.get("HTTPS", "") == "" and got["wsgi.url_scheme"] == "http"
    assert got["HTTP_REMOTE_USER"] == "root"


# ---- authorization ----


def test_a_user_after_auth_basic(server):
    got = environ(server, "/private/", headers=authorization("ada:lovelace"))
    assert (got["REMOTE_USER"], got["AUTH_TYPE"]) == ("ada", "Basic")


def test_without_a_password_there_is_no_call(server):
    assert http1.fetch(server, "/private/").status == 401
    assert http1.fetch(server, "/private/", headers=authorization("ada:wrong")).status == 401


def test_nobody_is_a_user_by_saying_so(server):
    got = environ(server, "/", headers=authorization("root:whatever"))
    assert got["HTTP_AUTHORIZATION"] == dict(authorization("root:whatever"))["Authorization"]
    assert not got.get("REMOTE_USER") and not got.get("AUTH_TYPE")


def authorization(pair):
    return [("Authorization", "Basic " + base64.b64encode(pair.encode()).decode())]


# ---- paths ----


@pytest.mark.parametrize(
    "path, info",
    [
        ("/a%2Fb", "/a/b"),
        ("/a//b", "/a/b"),
        ("/a/./b/../c", "/a/c"),
        ("/%E2%82%AC", "/\xe2\x82\xac"),
        ("/%FF", "/\xff"),
        ("/a%3Fb", "/a?b"),
        ("/a+b;c=d", "/a+b;c=d"),
        ("/%25", "/%"),
    ],
)
def test_path_info_is_nginx_decoded_uri(server, path, info):
    got = environ(server, path)
    assert (got["PATH_INFO"], got["REQUEST_URI"]) == (info, path)


def test_a_rewrite_changes_the_path_and_not_the_uri(server):
    got = environ(server, "/old/page?x=1")
    assert got["PATH_INFO"] == "/new/page"
    assert got["REQUEST_URI"] == "/old/page?x=1"
    assert got["QUERY_STRING"] == "added=1&x=1"


def test_a_named_location_keeps_the_path(server):
    assert environ(server, "/named/x?y")["PATH_INFO"] == "/named/x"


@pytest.mark.parametrize(
    "target, host", [("http://abs.example:81/x?y=1", "abs.example:81"), ("http://abs.example/x?y=1", "abs.example")]
)
def test_an_absolute_target_names_the_host(server, target, host):
    got = environ(server, target, host="other.example")
    assert got["HTTP_HOST"] == host
    assert (got["PATH_INFO"], got["QUERY_STRING"]) == ("/x", "y=1")


# ---- other ways to connect ----


def test_http_1_0_without_host(server):
    got = exactly(server, "GET /x HTTP/1.0\r\n\r\n")
    assert got["SERVER_PROTOCOL"] == "HTTP/1.0" and "HTTP_HOST" not in got
    assert got["SERVER_NAME"] == "www.example.org"


def test_tls(server, certificate):
    got = environ(server, tls=certificate.client(), port=server.ports["TLS_PORT"])
    assert (got["HTTPS"], got["wsgi.url_scheme"], got["REQUEST_SCHEME"]) == ("on", "https", "https")
    assert got["SERVER_PORT"] == str(server.ports["TLS_PORT"])


def test_places_and_addresses_are_not_mixed(server, certificate):
    """What is the same for all requests of a location at an address is made once."""
    ways = [(server.port, None), (server.ports["OTHER_PORT"], None), (server.ports["TLS_PORT"], certificate.client())]
    roots = {"/": "/srv/www", "/rooted/": "/srv/rooted", "/variable/?site=a": "/srv/a", "/variable/?site=b": "/srv/b"}
    for _ in range(6):  # each of the threads, as a rule
        for port, client in ways:
            for path, root in roots.items():
                got = environ(server, path, tls=client, port=port)
                scheme = "https" if client else "http"
                assert (got["SERVER_PORT"], got["wsgi.url_scheme"], got["DOCUMENT_ROOT"]) == (str(port), scheme, root)
                assert ("HTTPS" in got, got["REQUEST_SCHEME"]) == (bool(client), scheme)
            assert environ(server, "/secure/", tls=client, port=port)["wsgi.url_scheme"] == "https"


def test_http_2(server):
    headers = [("x-a", "1"), ("x-a", "2"), ("cookie", "a=1"), ("cookie", "b=2")]
    got = told(http2.fetch(server.ports["H2_PORT"], "/p%20q?r", headers=headers))
    assert (got["PATH_INFO"], got["QUERY_STRING"]) == ("/p q", "r")
    assert got["SERVER_PROTOCOL"] == "HTTP/2.0"
    assert got["HTTP_HOST"] == "localhost"
    assert (got["HTTP_X_A"], got["HTTP_COOKIE"]) == ("1, 2", "a=1; b=2")
    assert not [key for key in got if ":" in key], "no pseudo-header"


def test_server_name_and_port_are_never_empty(server):
    """PEP 3333: "can never be empty strings", though $server_name may be one."""
    got = told(http2.fetch(server.ports["H2_PORT"]))
    assert got["SERVER_NAME"] and got["SERVER_PORT"] == str(server.ports["H2_PORT"])
    with http1.Connection(None, path=server.dir / "socket") as connection:
        connection.request()
        got = told(connection.response())
    assert got["SERVER_NAME"] and got["SERVER_PORT"]
    assert got["REMOTE_ADDR"] == "unix:"
