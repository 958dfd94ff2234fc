"""A site in Bottle; the same one as in falcon_app.py."""

import hashlib
import json
import os
import tempfile
from wsgiref.validate import validator

import bottle
from site_parts import PARTS, lines

application = app = bottle.Bottle()
SECRET = "for tests"
bottle.BaseRequest.MEMFILE_MAX = 4 << 20


@app.get("/hello")
def hello():
    return "hello from Bottle"


@app.get("/count")
def count():
    count = int(bottle.request.get_cookie("count", "0", secret=SECRET)) + 1
    bottle.response.set_cookie("count", str(count), secret=SECRET)
    bottle.response.set_cookie("other", "a cookie beside it")
    return str(count)


@app.post("/upload")
def upload():
    files = {}
    for name, part in bottle.request.files.items():
        data = part.file.read()
        files[name] = [part.filename, len(data), hashlib.sha256(data).hexdigest()]
    bottle.response.content_type = "application/json"
    return json.dumps({"fields": dict(bottle.request.forms), "files": files})


@app.post("/echo")
def echo():
    bottle.response.content_type = "application/octet-stream"
    return bottle.request.body.read()


@app.get("/stream")
def stream():
    bottle.response.content_type = "text/plain"
    return lines(bottle.request.query.who)


@app.get("/file")
def file():
    folder = tempfile.mkdtemp()
    with open(os.path.join(folder, "parts.bin"), "wb") as parts:
        parts.write(PARTS)
    return bottle.static_file("parts.bin", root=folder)


@app.get("/away")
def away():
    bottle.redirect("/hello")


@app.get("/fails")
def fails():
    raise ValueError("Bottle was asked to fail")


validated = validator(application)
