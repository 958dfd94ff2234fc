"""A Flask application with what most have."""

import time

from flask import Flask, Response, abort, jsonify, redirect, request, session, stream_with_context, url_for

app = Flask(__name__)
app.secret_key = "for tests"


@app.get("/")
def index():
    return "hello from Flask"


@app.get("/user/<name>")
def user(name):
    return jsonify(name=name, args=request.args, host=request.host, url=request.url, root=request.script_root)


@app.route("/echo", methods=["POST", "PUT"])
def echo():
    return Response(request.get_data(), mimetype="application/octet-stream")


@app.post("/json")
def as_json():
    return jsonify(request.get_json())


@app.post("/form")
def form():
    files = {name: len(file.read()) for name, file in request.files.items()}
    return jsonify(fields=request.form, files=files)


@app.get("/count")
def count():
    session["count"] = session.get("count", 0) + 1
    return str(session["count"])


@app.get("/away")
def away():
    return redirect(url_for("user", name="away"))


@app.get("/stream")
def stream():
    @stream_with_context
    def lines():
        for number in range(5):
            yield f"{number} for {request.args['who']}\n"
            time.sleep(0.01)

    return Response(lines(), mimetype="text/plain")


@app.get("/missing")
def missing():
    abort(404)


@app.get("/fails")
def fails():
    raise ValueError("Flask was asked to fail")


@app.get("/cached")
def cached():
    response = Response("cached")
    response.set_etag("v1")
    return response.make_conditional(request)


def create_app():
    """A factory, as Flask projects like to have one."""
    made = Flask("made")
    made.add_url_rule("/", view_func=lambda: "made by a factory")
    return made
