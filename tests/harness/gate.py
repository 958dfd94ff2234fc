"""Gates: the test and an application in another process wait for each other through files.

The application's half is tests/apps/gates.py; `wsgi_param test.dir @DIR@;` tells it the directory.
"""

from .waiting import until


class Gate:
    """A point in an application where calls wait until the test lets them go on."""

    def __init__(self, server, name):
        self.entered_file = server.dir / f"{name}.entered"
        self.open_file = server.dir / f"{name}.open"
        self.left_file = server.dir / f"{name}.left"
        self.name = name

    @staticmethod
    def _lines(path):
        return path.read_text().count("\n") if path.exists() else 0

    def entered(self):
        """How many calls have come so far."""
        return self._lines(self.entered_file)

    def left(self):
        """How many calls have gone on."""
        return self._lines(self.left_file)

    def wait_entered(self, count=1):
        until(lambda: self.entered() >= count, f"{count} calls at the gate {self.name} (there are {self.entered()})")

    def wait_left(self, count=1):
        until(lambda: self.left() >= count, f"{count} calls through the gate {self.name}")

    def open(self):
        self.open_file.touch()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.open()
