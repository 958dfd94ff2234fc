"""httpbin: what comes over the wire is what the application answers when it is called without a server."""

import gzip

import httpbin
import pytest

from harness import config, http1, http2

PATHS = """
/ /html /robots.txt /deny /ip /headers /user-agent /get?a=1&b=%C3%BC&a=+2 /anything/a%2Fb%20%25 /json /xml /forms/post
/encoding/utf8 /base64/SFRUUEJJTg%3D%3D /delay/0 /nothing /redirect/2 /relative-redirect/2 /absolute-redirect/2
/redirect-to?url=/get&status_code=307 /redirect-to?url=http://example.com/ /response-headers?X-Text=%C3%BC
/response-headers?a=1&a=2&Set-Cookie=a&Set-Cookie=b /cookies/set?a=1&b=2 /cookies/delete?a /basic-auth/user/word
/hidden-basic-auth/user/word /bearer /cache/60 /etag/tag /range/1024 /range/0 /range/200000 /links/10/3
/bytes/100000?seed=1 /stream-bytes/100000?seed=1&chunk_size=777 /drip?duration=0&numbytes=100&code=500
/deflate /gzip /brotli /image/png /image/jpeg /image/svg
""".split()
CODES = """
200 201 202 203 204 205 206 226 300 301 302 303 304 305 307 400 401 402 404 405 406 410 412 416 418 421 428 429 431 451
494 497 499 500 502 503 504 511 599
""".split()
PATHS += [f"/status/{code}" for code in CODES]
CASES = [(method, path, {}, b"") for method in ("GET", "HEAD", "OPTIONS") for path in PATHS]

RANGES = ("0-0", "10-20", "-5", "1000-", "1023-1023", "1024-", "20-10", "0-9,20-29", "0-99999")
RANGED = ("/range/1024", "/get", "/image/png")
CASES += [("GET", path, {"Range": f"bytes={part}"}, b"") for part in RANGES for path in RANGED]

DATE = "Tue, 15 Nov 1994 08:12:31 GMT"
CONDITIONS = [("If-Match", "tag"), ("If-Match", '"a", tag'), ("If-Match", '"a"'), ("If-None-Match", "tag")]
CONDITIONS += [("If-None-Match", '"a"'), ("If-Range", '"a"')]
CONDITIONS += [("If-Modified-Since", DATE), ("If-Unmodified-Since", DATE)]
TAGGED = ("/etag/tag", "/get", "/range/100")
CASES += [("GET", path, {name: value}, b"") for name, value in CONDITIONS for path in TAGGED]

SENT = [("Cookie", 'a=1; b="x y"'), ("Accept", "image/webp"), ("Authorization", "Bearer x"), ("X-Text", "\xfc")]
SENT += [("Authorization", "Basic dXNlcjp3b3Jk"), ("Origin", "http://example.com"), ("X-Forwarded-Proto", "https")]
SENT += [("X-Empty", ""), ("X-Long", "x" * 4000)]
SEEN = ("/headers", "/cookies", "/image", "/basic-auth/user/word", "/bearer", "/anything")
CASES += [("GET", path, {name: value}, b"") for name, value in SENT for path in SEEN]

FORM = b'--B\r\nContent-Disposition: form-data; name="f"; filename="f.txt"\r\n\r\nfile\r\n--B--\r\n'
BODIES = [("application/json", b'{"a": [1, "\xc3\xbc"]}'), ("application/x-www-form-urlencoded", b"a=1&b=%C3%BC&a=2")]
BODIES += [("text/plain", b"\xff\x00"), ("multipart/form-data; boundary=B", FORM), ("application/x", b"x" * 300_000)]
METHODS = [("POST", "/post"), ("PUT", "/put"), ("PATCH", "/patch"), ("DELETE", "/delete"), ("POST", "/anything")]
CASES += [(*method, {"Content-Type": kind}, body) for method in METHODS for kind, body in BODIES]


@pytest.fixture(scope="module")
def server(serve_module):
    location = "location / { wsgi_pass httpbin:app; client_max_body_size 0; wsgi_request_buffering"
    servers = f"server {{ listen 127.0.0.1:@OFF_PORT@; {location} off; }} }}\n"
    servers += f"server {{ {config.http2('H2_PORT', tls=False)} {location} on; }} }}\n"
    servers += f"server {{ {config.http2('H2_OFF_PORT', tls=False)} {location} off; }} }}"
    return serve_module(config.site(f"{location} on; }}", http=servers))


def http1_fetch(port, method, path, headers, body):
    with http1.Connection(port) as connection:
        connection.request(path, method, headers, body)
        response = connection.response(method)
    assert response.complete
    return response.status, response.fields, response.body


def http2_fetch(port, method, path, headers, body):
    headers = {**headers, "Content-Length": str(len(body))} if body else headers
    headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
    response = http2.fetch(port, path, method, headers, body or None)
    assert response.complete
    return response.status, [field for field in response.fields if field[0] != ":status"], response.body


def direct(method, path, headers, body):
    client = httpbin.app.test_client(use_cookies=False)
    response = client.open(path, method=method, headers=headers, data=body or None, base_url="http://localhost")
    return response.status_code, list(response.headers), response.data


def comparable(status, fields, body):
    """Without what differs from server to server, or from call to call."""
    skipped = {"date", "server", "connection", "transfer-encoding", "content-length"}
    fields = {(name.lower(), value) for name, value in fields if name.lower() not in skipped}
    if ("content-encoding", "gzip") in fields and body:
        body = gzip.decompress(body)
    allowed = [set(value.split(", ")) for name, value in fields if name == "allow"]
    return status, {field for field in fields if field[0] != "allow"}, allowed, body


@pytest.mark.parametrize(
    "fetch, port",
    [(http1_fetch, "PORT"), (http1_fetch, "OFF_PORT"), (http2_fetch, "H2_PORT"), (http2_fetch, "H2_OFF_PORT")],
)
def test_it_answers_as_without_a_server(server, fetch, port):
    for method, path, headers, body in CASES:
        headers = {"User-Agent": "test", **headers}
        there = comparable(*fetch(server.ports[port], method, path, headers, body))
        assert there == comparable(*direct(method, path, headers, body)), (method, path, headers)
