"""The first application: it needs nothing but the standard library.

`make run` serves it on http://127.0.0.1:8080.
"""

import hashlib
import html
import threading
import time
from urllib.parse import parse_qs
from wsgiref.util import application_uri

STARTED = time.time()

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="stylesheet" href="/hello-static/hello.css">
</head>
<body>
<main>
<h1>{title}</h1>
{content}
</main>
</body>
</html>
"""

FRONT = """
<p>This page was made by a Python WSGI application inside an nginx worker process:
thread <code>{thread}</code>, up for {uptime:.0f}&nbsp;s.</p>
<h2>What to try</h2>
<dl>
<dt><a href="/sleep?s=3">/sleep?s=3</a></dt>
<dd>A call that takes three seconds. Open it in several tabs: they run side by side, and meanwhile
<a href="/hello-static/hello.css">a static file</a> arrives at once.</dd>
<dt><a href="/stream">/stream</a></dt>
<dd>Ten lines, one every half second, sent as they are yielded. Or: <code>curl -N {origin}/stream</code></dd>
<dt><a href="/environ?name=value">/environ?name=value</a></dt>
<dd>What the application is told about a request.</dd>
<dt><a href="/upload">/upload</a></dt>
<dd>Send a file. Or: <code>curl --data-binary @FILE {origin}/upload</code></dd>
<dt><a href="/error">/error</a></dt>
<dd>An exception: a 500 for you, the traceback for the error log, and all goes on.</dd>
</dl>
"""

UPLOAD = """
<p>The file goes to <code>wsgi.input</code> once nginx has all of it, from memory or from a temporary file.</p>
<p><input type="file" id="file"> <output id="answer"></output></p>
<script>
document.getElementById("file").addEventListener("change", async event => {
  const response = await fetch("/upload", {method: "POST", body: event.target.files[0]});
  document.getElementById("answer").textContent = await response.text();
});
</script>
"""


def respond(start_response, status, text, content_type="text/html; charset=utf-8"):
    """Starts a response that is complete; returns its body."""
    body = text.encode()
    start_response(status, [("Content-Type", content_type), ("Content-Length", str(len(body)))])
    return [body]


def page(start_response, title, content):
    return respond(start_response, "200 OK", PAGE.format(title=title, content=content))


def front(environ, start_response):
    content = FRONT.format(
        thread=html.escape(threading.current_thread().name),
        uptime=time.time() - STARTED,
        origin=html.escape(application_uri(environ).rstrip("/")),
    )
    return page(start_response, "Hello from inside nginx", content)


def sleep(environ, start_response):
    try:
        seconds = float(parse_qs(environ.get("QUERY_STRING", ""))["s"][0])
        seconds = min(max(0.0, seconds), 60.0)
    except (KeyError, ValueError):
        seconds = 1.0
    began = time.monotonic()
    time.sleep(seconds)
    slept = time.monotonic() - began
    return respond(start_response, "200 OK", f"slept {slept:.3f} s\n", "text/plain")


def stream(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    for number in range(1, 11):
        yield f"{time.strftime('%H:%M:%S')}  line {number} of 10\n".encode()
        if number < 10:
            time.sleep(0.5)


def show_environ(environ, start_response):
    rows = "".join(
        f"<tr><th>{html.escape(key)}</th><td>{html.escape(repr(value))}</td></tr>\n"
        for key, value in sorted(environ.items())
    )
    return page(start_response, "environ", f"<table>\n{rows}</table>")


def upload(environ, start_response):
    if environ["REQUEST_METHOD"] not in ("POST", "PUT"):
        return page(start_response, "Upload", UPLOAD)
    digest, size = hashlib.sha256(), 0
    for piece in iter(lambda: environ["wsgi.input"].read(65536), b""):
        digest.update(piece)
        size += len(piece)
    return respond(start_response, "200 OK", f"{size} bytes, sha256 {digest.hexdigest()}\n", "text/plain")


def error(environ, start_response):
    raise RuntimeError("this one was asked for; the rest of the site does not notice")


ROUTES = {
    "/": front,
    "/sleep": sleep,
    "/stream": stream,
    "/environ": show_environ,
    "/upload": upload,
    "/error": error,
}


def application(environ, start_response):
    """The WSGI callable."""
    view = ROUTES.get(environ.get("PATH_INFO") or "/")
    if view is None:
        return respond(start_response, "404 Not Found", "there is no such page; try /\n", "text/plain")
    return view(environ, start_response)
