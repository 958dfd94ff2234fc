"""Users whose password nginx has checked."""

from django.contrib.auth.backends import RemoteUserBackend


class KnownRemoteUserBackend(RemoteUserBackend):
    """Takes REMOTE_USER for the user of that name; makes none up."""

    create_unknown_user = False
