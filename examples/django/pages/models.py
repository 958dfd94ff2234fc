"""What the site keeps."""

from django.db import models


class Document(models.Model):
    """An uploaded file."""

    title = models.CharField(max_length=100)
    file = models.FileField(upload_to="documents/")
    uploaded = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-uploaded"]

    def __str__(self):
        return self.title
