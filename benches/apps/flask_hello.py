"""The same twelve bytes by Flask."""

from flask import Flask

application = Flask(__name__)


@application.route("/", defaults={"path": ""})
@application.route("/<path:path>")
def hello(path):
    return "Hello World!", 200, {"Content-Type": "text/plain"}
