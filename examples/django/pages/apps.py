"""The one application of this site."""

from django.apps import AppConfig


class PagesConfig(AppConfig):
    """Pages, and the documents on them."""

    name = "pages"
