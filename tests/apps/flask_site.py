"""A site in Flask; the same one as in falcon_app.py."""

import hashlib
import io
from wsgiref.validate import validator

from flask import Flask, Response, jsonify, redirect, request, send_file, session
from site_parts import PARTS, lines

application = app = Flask(__name__)
app.secret_key = "for tests"
# With a limit Flask reads as wsgiref.validate wants it: read() with a size.
app.config["MAX_CONTENT_LENGTH"] = 100 << 20


@app.get("/hello")
def hello():
    return "hello from Flask"


@app.get("/count")
def count():
    session["count"] = session.get("count", 0) + 1
    response = Response(str(session["count"]))
    response.set_cookie("other", "a cookie beside it")
    return response


@app.post("/upload")
def upload():
    files = {}
    for name, part in request.files.items():
        data = part.read()
        files[name] = [part.filename, len(data), hashlib.sha256(data).hexdigest()]
    return jsonify(fields=request.form, files=files)


@app.post("/echo")
def echo():
    return Response(request.get_data(), mimetype="application/octet-stream")


@app.get("/stream")
def stream():
    return Response(lines(request.args["who"]), mimetype="text/plain")


@app.get("/file")
def file():
    return send_file(io.BytesIO(PARTS), "application/octet-stream", conditional=True, etag=False)


@app.get("/away")
def away():
    return redirect("/hello")


@app.get("/fails")
def fails():
    raise ValueError("Flask was asked to fail")


validated = validator(application)
