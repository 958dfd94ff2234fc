"""WsgiDAV: methods beyond GET and POST, bodies with Expect, ranges, conditions, locks; file managers work so."""

import os
import re

import pytest

from harness import config, http1


@pytest.fixture(params=["on", "off"])
def site(request, serve, tmp_path):
    """A server with files; one connection for all requests of a test."""
    files = tmp_path / "files"
    files.mkdir()
    app = f"wsgi_app dav {{ module dav; path @APPS@; env DAV_ROOT={files}; }}"
    location = f"location / {{ wsgi_pass dav; client_max_body_size 0; wsgi_request_buffering {request.param}; }}"
    server = serve(app + config.site(location))
    return Site(http1.Connection(server.port), files)


class Site:
    def __init__(self, connection, files):
        self.connection, self.files = connection, files

    def ask(self, method, path, status, headers=(), body=b""):
        """One request, with the status that it must have; the connection stays in step."""
        self.connection.request(path, method, headers, body)
        response = self.connection.response(method)
        assert response.status == status and response.complete, (method, path, response)
        return response


def test_files(site):
    data = os.urandom(200_000)
    site.ask("PUT", "/file%20%C3%BC", 201, body=data)
    assert (site.files / "file \u00fc").read_bytes() == data
    assert site.ask("GET", "/file%20%C3%BC", 200).body == data
    head = site.ask("HEAD", "/file%20%C3%BC", 200)
    assert head.get("Content-Length") == "200000" and head.body == b""
    site.ask("PUT", "/file%20%C3%BC", 204, body=b"shorter")
    assert site.ask("GET", "/file%20%C3%BC", 200).body == b"shorter"
    site.ask("DELETE", "/file%20%C3%BC", 204)
    site.ask("GET", "/file%20%C3%BC", 404)
    site.ask("OPTIONS", "/", 200)
    # Behind it the connection may end: a body that streams and is not read is not waited for.
    site.ask("PUT", "/no/such/folder", 409, body=data)


def test_a_chunked_upload(site):
    data = os.urandom(300_000)
    chunks = http1.chunked(*(data[start : start + 7_000] for start in range(0, len(data), 7_000)))
    site.ask("PUT", "/chunked", 201, {"Transfer-Encoding": "chunked"}, chunks)
    assert (site.files / "chunked").read_bytes() == data


def test_an_upload_that_waits_for_its_permission(site):
    connection = site.connection
    for path, size in (("/expected", 100_000), ("/small", 1)):
        connection.request(path, "PUT", {"Expect": "100-continue", "Content-Length": str(size)})
        assert connection.head().status == 100
        connection.send(b"x" * size)
        assert connection.response().status == 201
        assert (site.files / path[1:]).stat().st_size == size


def test_ranges_and_conditions(site):
    data = os.urandom(100_000)
    site.ask("PUT", "/file", 201, body=data)
    whole = site.ask("GET", "/file", 200)
    part = site.ask("GET", "/file", 206, {"Range": "bytes=1000-1999"})
    assert part.body == data[1000:2000] and part.get("Content-Range") == "bytes 1000-1999/100000"
    assert site.ask("GET", "/file", 206, {"Range": "bytes=-5"}).body == data[-5:]
    tag = whole.get("ETag")
    assert site.ask("GET", "/file", 304, {"If-None-Match": tag}).body == b""
    site.ask("PUT", "/file", 412, {"If-Match": '"other"'}, b"not this")
    site.ask("PUT", "/file", 204, {"If-Match": tag}, b"but this")
    assert (site.files / "file").read_bytes() == b"but this"


def test_folders(site):
    site.ask("MKCOL", "/folder", 201)
    site.ask("MKCOL", "/folder", 405)
    site.ask("PUT", "/folder/one", 201, body=b"1")
    site.ask("COPY", "/folder/one", 201, {"Destination": "http://localhost/folder/two", "Overwrite": "F"})
    site.ask("COPY", "/folder/one", 412, {"Destination": "http://localhost/folder/two", "Overwrite": "F"})
    site.ask("MOVE", "/folder/", 201, {"Destination": "http://localhost/moved/"})
    listed = site.ask("PROPFIND", "/moved/", 207, {"Depth": "1"})
    assert re.findall("<[^>]*href>([^<]*)<", listed.text) == ["/moved/", "/moved/one", "/moved/two"]
    site.ask("PROPFIND", "/folder/", 404, {"Depth": "0"})
    site.ask("DELETE", "/moved/", 204)
    assert not list(site.files.iterdir())


def test_properties(site):
    site.ask("PUT", "/file", 201, body=b"f")
    value = '<x:colour xmlns:x="urn:mine">red \u00fc</x:colour>'
    update = f'<D:propertyupdate xmlns:D="DAV:"><D:set><D:prop>{value}</D:prop></D:set></D:propertyupdate>'
    site.ask("PROPPATCH", "/file", 207, {"Content-Type": "application/xml"}, update.encode())
    asked = '<D:propfind xmlns:D="DAV:"><D:prop><x:colour xmlns:x="urn:mine"/></D:prop></D:propfind>'
    assert "red \u00fc" in site.ask("PROPFIND", "/file", 207, {"Depth": "0"}, asked.encode()).text


def test_locks(site):
    site.ask("PUT", "/file", 201, body=b"f")
    lock = """<D:lockinfo xmlns:D="DAV:"><D:lockscope><D:exclusive/></D:lockscope>
        <D:locktype><D:write/></D:locktype><D:owner>me</D:owner></D:lockinfo>"""
    token = site.ask("LOCK", "/file", 200, {"Depth": "0"}, lock.encode()).get("Lock-Token")
    site.ask("PUT", "/file", 423, body=b"x" * 50_000)
    site.ask("PUT", "/file", 204, {"If": f"({token})"}, b"mine")
    site.ask("UNLOCK", "/file", 204, {"Lock-Token": token})
    site.ask("PUT", "/file", 204, body=b"anybody's")
