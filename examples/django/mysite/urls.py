"""The site's addresses."""

from django.conf import settings
from django.contrib import admin
from django.contrib.staticfiles.urls import staticfiles_urlpatterns
from django.urls import include, path

urlpatterns = [
    path("admin/", admin.site.urls),
    path("", include("pages.urls")),
]

# Without nginx's own locations for them: for a look, not for a site.
if settings.DEBUG:
    urlpatterns += staticfiles_urlpatterns()
