"""A site in Django, in one file; the same one as in falcon_app.py."""

import gzip
import hashlib
import io
import os
import tempfile
from wsgiref.validate import validator

from django.conf import settings
from django.core.files import File
from django.core.wsgi import get_wsgi_application
from django.http import FileResponse, HttpResponse, HttpResponseRedirect, JsonResponse, StreamingHttpResponse
from django.urls import path
from site_parts import PARTS, lines

settings.configure(
    ROOT_URLCONF=__name__,
    SECRET_KEY="for tests",
    ALLOWED_HOSTS=["*"],
    MIDDLEWARE=["django.contrib.sessions.middleware.SessionMiddleware"],
    INSTALLED_APPS=["django.contrib.sessions"],
    SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
    DATA_UPLOAD_MAX_MEMORY_SIZE=100 << 20,
    LOGGING_CONFIG=None,
)


def hello(request):
    return HttpResponse("hello from Django")


def count(request):
    request.session["count"] = request.session.get("count", 0) + 1
    response = HttpResponse(str(request.session["count"]))
    response.set_cookie("other", "a cookie beside it")
    return response


def upload(request):
    files = {}
    for name, part in request.FILES.items():
        data = part.read()
        files[name] = [part.name, len(data), hashlib.sha256(data).hexdigest()]
    return JsonResponse({"fields": request.POST.dict(), "files": files})


def echo(request):
    return HttpResponse(request.body, content_type="application/octet-stream")


def stream(request):
    return StreamingHttpResponse(lines(request.GET["who"]), content_type="text/plain")


def file(request):
    return FileResponse(io.BytesIO(PARTS), content_type="application/octet-stream")


def packed(request):
    """A file of Django's has the descriptor of the packed file, and reads what is in it."""
    path = os.path.join(tempfile.mkdtemp(), "packed.gz")
    with gzip.open(path, "wb") as target:
        target.write(PARTS)
    return FileResponse(File(gzip.open(path, "rb")), content_type="application/octet-stream")


def away(request):
    return HttpResponseRedirect("/hello")


def fails(request):
    raise ValueError("Django was asked to fail")


urlpatterns = [path(view.__name__, view) for view in (hello, count, upload, echo, stream, file, packed, away, fails)]
application = get_wsgi_application()
validated = validator(application)
