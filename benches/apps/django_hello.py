"""The same twelve bytes by Django, without middleware."""

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import re_path

settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, MIDDLEWARE=[], SECRET_KEY="of no use", DEBUG=False)


def hello(request):
    return HttpResponse("Hello World!", content_type="text/plain")


urlpatterns = [re_path("", hello)]
application = get_wsgi_application()
