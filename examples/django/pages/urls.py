"""Addresses of the pages."""

from django.urls import path

from . import views

urlpatterns = [
    path("", views.home, name="home"),
    path("counter/", views.counter, name="counter"),
    path("upload/", views.upload, name="upload"),
    path("stream/", views.stream, name="stream"),
    path("api/request/", views.request_as_json, name="request"),
]
