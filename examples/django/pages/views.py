"""Pages that use a little of everything."""

import threading
import time

import django
from django.http import JsonResponse, StreamingHttpResponse
from django.shortcuts import redirect, render

from .forms import DocumentForm
from .models import Document


def home(request):
    """What there is."""
    thread = threading.current_thread().name
    return render(request, "pages/home.html", {"thread": thread, "version": django.get_version()})


def counter(request):
    """Counts a visitor's calls in a session."""
    request.session["count"] = count = request.session.get("count", 0) + 1
    return render(request, "pages/counter.html", {"count": count})


def upload(request):
    """Takes a document and lists those that there are."""
    form = DocumentForm(request.POST or None, request.FILES or None)
    if request.method == "POST" and form.is_valid():
        form.save()
        return redirect("upload")
    return render(request, "pages/upload.html", {"form": form, "documents": Document.objects.all()[:20]})


def stream(request):
    """Lines, each on its way as soon as it is made."""

    def lines():
        for number in range(1, 6):
            yield f"line {number} of 5\n"
            time.sleep(0.2)

    return StreamingHttpResponse(lines(), content_type="text/plain")


def request_as_json(request):
    """What the application knows about the request."""
    keys = ("REMOTE_ADDR", "REMOTE_USER", "AUTH_TYPE", "UID_SET", "UID_GOT", "REQUEST_ID", "REQUEST_URI")
    told = {key: request.META.get(key, "") for key in keys}
    return JsonResponse({"method": request.method, "user": str(request.user), "secure": request.is_secure(), **told})
