"""Documents in the admin."""

from django.contrib import admin

from .models import Document


@admin.register(Document)
class DocumentAdmin(admin.ModelAdmin):
    """With what tells one from another."""

    list_display = ["title", "file", "uploaded"]
    search_fields = ["title"]
