"""Settings. The environment (`env` in a wsgi_app block) changes what differs between machines."""

import os
from pathlib import Path

from django.core.management.utils import get_random_secret_key

BASE_DIR = Path(__file__).resolve().parent.parent

# Everything that the site writes.
DATA_DIR = Path(os.environ.get("DJANGO_DATA", BASE_DIR / "var"))
# What nginx serves by itself.
PUBLIC_DIR = DATA_DIR / "public"


def secret_key():
    """The key that was made when the site was first started."""
    path = DATA_DIR / "secret-key"
    if not path.exists():
        DATA_DIR.mkdir(parents=True, exist_ok=True)
        draft = DATA_DIR / f"secret-key.{os.getpid()}"
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
            file.write(get_random_secret_key())
        try:
            os.link(draft, path)  # of several workers that start, the first one wins
        except FileExistsError:
            pass
        draft.unlink()
    return path.read_text()


SECRET_KEY = os.environ.get("DJANGO_SECRET_KEY") or secret_key()
DEBUG = os.environ.get("DJANGO_DEBUG") == "1"
ALLOWED_HOSTS = os.environ.get("DJANGO_HOSTS", "localhost 127.0.0.1").split()

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "pages",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    # Behind auth_basic, nginx has asked for the password: REMOTE_USER is the user. Persistent, because only
    # /admin/ is behind it and the rest of the site should know the user too.
    "django.contrib.auth.middleware.PersistentRemoteUserMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

AUTHENTICATION_BACKENDS = [
    "mysite.auth.KnownRemoteUserBackend",
    "django.contrib.auth.backends.ModelBackend",
]

ROOT_URLCONF = "mysite.urls"
WSGI_APPLICATION = "mysite.wsgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": DATA_DIR / "db.sqlite3",
        # A pool thread lives as long as its worker, and so may its connection. Writers wait for each other.
        "CONN_MAX_AGE": None,
        "OPTIONS": {"timeout": 20},
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

AUTH_PASSWORD_VALIDATORS = [{"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"}]

LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True

STATIC_URL = "/static/"
STATIC_ROOT = PUBLIC_DIR / "static"
MEDIA_URL = "/media/"
MEDIA_ROOT = PUBLIC_DIR / "media"
# Above this, an upload goes through a temporary file, which is then moved into place.
FILE_UPLOAD_MAX_MEMORY_SIZE = 1 << 20
# nginx runs the application as one user and may read the files as another.
FILE_UPLOAD_PERMISSIONS = 0o644

# Django's records go to stderr, and so to nginx's error log, with the request that they belong to.
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "root": {"level": "WARNING"},
    "loggers": {"django": {"level": "WARNING"}},
}
