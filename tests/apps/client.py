"""What a call learns of its client: /NAME waits for it to leave and notes what it found; /NAME?hint sends hints first."""

import os
import threading

import gates


def watch(event, path):
    """Waits in a thread of the application's own, which may outlive the call."""
    gates.note(f"{path}.watching")
    gates.note(f"{path}.{event.wait(30)}")


def application(environ, start_response):
    name = environ["PATH_INFO"].rpartition("/")[2]
    path = os.path.join(environ["test.dir"], name)
    event = environ["ngx_wsgi.client_disconnected"]
    if name.startswith("watched"):
        threading.Thread(target=watch, args=(event, path)).start()
    if name.startswith("leaves"):
        gates.note(f"{path}.entered")
        gates.note(f"{path}.{event.wait(30)}")
    if environ["QUERY_STRING"] == "hint":
        hidden = [("X-Powered-By", "this"), ("X-Accel-Redirect", "/secret")]
        environ["wsgi.early_hints"]([("Link", "</style.css>; rel=preload"), *hidden, ("Link", "</app.js>; rel=preload")])
        environ["wsgi.early_hints"](hidden)
        environ["wsgi.early_hints"]([("Link", "</late.css>; rel=preload")])
        gates.wait(environ["test.dir"], name)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Link", "</final>")])
    return [repr(event.is_set()).encode()]
