"""A site in Pyramid; the same one as in falcon_app.py."""

import hashlib
import os
import tempfile
from wsgiref.validate import validator

from pyramid.config import Configurator
from pyramid.httpexceptions import HTTPFound
from pyramid.response import FileResponse, Response
from pyramid.session import SignedCookieSessionFactory
from site_parts import PARTS, lines


def hello(request):
    return Response("hello from Pyramid")


def count(request):
    request.session["count"] = request.session.get("count", 0) + 1
    response = Response(str(request.session["count"]))
    response.set_cookie("other", "a-cookie-beside-it")
    return response


def upload(request):
    fields, files = {}, {}
    for name, value in request.POST.items():
        if hasattr(value, "file"):
            data = value.file.read()
            files[name] = [value.filename, len(data), hashlib.sha256(data).hexdigest()]
        else:
            fields[name] = value
    return Response(json_body={"fields": fields, "files": files})


def echo(request):
    return Response(request.body, content_type="application/octet-stream")


def stream(request):
    return Response(app_iter=lines(request.params["who"]), content_type="text/plain")


def file(request):
    with tempfile.NamedTemporaryFile(suffix=".bin", delete=False) as parts:
        parts.write(PARTS)
    response = FileResponse(parts.name, request, content_type="application/octet-stream")
    os.unlink(parts.name)
    return response


def away(request):
    return HTTPFound("/hello")


def fails(request):
    raise ValueError("Pyramid was asked to fail")


def make():
    with Configurator(session_factory=SignedCookieSessionFactory("for tests")) as configurator:
        for view in (hello, count, upload, echo, stream, file, away, fails):
            configurator.add_route(view.__name__, f"/{view.__name__}")
            configurator.add_view(view, route_name=view.__name__)
        return configurator.make_wsgi_app()


application = make()
validated = validator(application)
