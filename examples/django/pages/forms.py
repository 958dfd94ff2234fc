"""Forms."""

from django import forms

from .models import Document


class DocumentForm(forms.ModelForm):
    """An upload."""

    class Meta:
        model = Document
        fields = ["title", "file"]
