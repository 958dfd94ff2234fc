"""The database and the files of examples/django, in a directory of the test's own."""

import os
import subprocess
import sys

from .artifacts import REPOSITORY

PROJECT = REPOSITORY / "examples" / "django"
USER, PASSWORD = "ada", "lovelace-1815"


def environ(data):
    """What the settings read."""
    return {"DJANGO_DATA": str(data), "DJANGO_SETTINGS_MODULE": "mysite.settings"}


def manage(data, *arguments, **more):
    """Runs manage.py."""
    settings = {**os.environ, **environ(data), "PYTHONDONTWRITEBYTECODE": "1", **more}
    command = [sys.executable, str(PROJECT / "manage.py"), *arguments]
    done = subprocess.run(command, env=settings, capture_output=True, text=True)
    assert done.returncode == 0, f"manage.py {arguments[0]}: {done.stdout}{done.stderr}"


def prepare(data):
    """A database with an administrator in it."""
    manage(data, "migrate")
    administrator = ["--no-input", f"--username={USER}", "--email=ada@example.com"]
    manage(data, "createsuperuser", *administrator, DJANGO_SUPERUSER_PASSWORD=PASSWORD)
