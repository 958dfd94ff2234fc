"""As much of a browser as a site with sessions and forms needs: cookies, redirects, multipart forms."""

import base64
import re
import uuid
from http.cookies import SimpleCookie
from urllib.parse import urljoin, urlsplit

from . import http1


class Browser:
    """A visitor of one site."""

    def __init__(self, port, host):
        self.port = port
        self.host = host
        self.cookies = {}

    def get(self, path, auth=None, follow=True):
        return self._follow("GET", path, [], b"", auth, follow)

    def post(self, path, fields, files=None, auth=None, follow=True):
        boundary = uuid.uuid4().hex
        body = multipart(boundary, fields, files or {})
        headers = [("Content-Type", f"multipart/form-data; boundary={boundary}")]
        return self._follow("POST", path, headers, body, auth, follow)

    def _follow(self, method, path, headers, body, auth, follow):
        for _ in range(10):
            response = self._once(method, path, headers, body, auth)
            response.url = path
            if not follow or response.status not in (301, 302, 303):
                return response
            method, headers, body = "GET", [], b""
            target = urlsplit(urljoin(f"http://{self.host}{path}", response.get("Location")))
            path = target.path + (f"?{target.query}" if target.query else "")
        raise RecursionError("redirects without an end")

    def _once(self, method, path, headers, body, auth):
        headers = [*headers, ("Connection", "close")]
        if self.cookies:
            headers.append(("Cookie", "; ".join(f"{name}={value}" for name, value in self.cookies.items())))
        if auth:
            pair = base64.b64encode(":".join(auth).encode()).decode()
            headers.append(("Authorization", f"Basic {pair}"))
        with http1.Connection(self.port) as connection:
            connection.request(path, method, headers, body, host=self.host)
            response = connection.response(method)
        for line in response.all("Set-Cookie"):
            self.cookies.update({name: morsel.coded_value for name, morsel in SimpleCookie(line).items()})
        response.csrf_token = lambda: re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', response.text)[1]
        return response


def multipart(boundary, fields, files):
    """The body of a form."""
    parts = []
    for name, value in fields.items():
        parts.append(f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode())
    for name, (filename, content) in files.items():
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="{filename}"\r\n'
        parts.append(f"{head}Content-Type: application/octet-stream\r\n\r\n".encode() + content + b"\r\n")
    return b"".join(parts) + f"--{boundary}--\r\n".encode()
