"""Git over HTTP, through an application: clone, fetch and push, with gzipped and chunked requests."""

import os
import random
import subprocess

import pytest

from harness import config

LOCATIONS = """
    client_max_body_size 0;
    log_format coding '$request_method $http_transfer_encoding $http_content_encoding';
    wsgi_app git { module git_bridge; path @APPS@; env GIT_PROJECT_ROOT=@DIR@/repositories; env PATH=%s; }
"""
LOCATION = "wsgi_pass git; access_log @DIR@/codings coding;"


class Repository:
    """A working copy."""

    def __init__(self, directory):
        self.directory = directory

    def git(self, *arguments):
        names = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@example.com"}
        names |= {name.replace("AUTHOR", "COMMITTER"): value for name, value in names.items()}
        environ = {**os.environ, **names, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_TERMINAL_PROMPT": "0"}
        command = ["git", "-c", "gc.auto=0", *arguments]
        done = subprocess.run(command, cwd=self.directory, env=environ, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, f"git {arguments}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def commit(self, number, size):
        (self.directory / f"file{number}").write_bytes(random.Random(number).randbytes(size))
        self.git("add", ".")
        self.git("commit", "--quiet", "--message", f"number {number}")


@pytest.fixture(params=["on", "off"])
def url(request, serve, tmp_path):
    """A repository behind nginx; bodies are read before the call, or during it."""
    app = LOCATIONS % os.environ["PATH"]
    server = serve(app + config.site(f"location / {{ {LOCATION} wsgi_request_buffering {request.param}; }}"))
    (server.dir / "repositories").mkdir()
    bare = server.dir / "repositories" / "one.git"
    bare.mkdir()
    repository = Repository(bare)
    repository.git("init", "--quiet", "--bare", "--initial-branch=main")
    repository.git("config", "http.receivepack", "true")
    yield f"http://127.0.0.1:{server.port}/one.git"
    codings = (server.dir / "codings").read_text().splitlines()
    assert "POST chunked -" in codings and "POST - gzip" in codings


def test_clone_fetch_and_push(url, tmp_path):
    (tmp_path / "source").mkdir()
    source = Repository(tmp_path / "source")
    source.git("init", "--quiet", "--initial-branch=main")
    source.git("remote", "add", "origin", url)
    for number in range(4):
        source.commit(number, 1_000_000)
    # More than the buffer: git sends it chunked.
    source.git("-c", "http.postBuffer=65536", "push", "--quiet", "origin", "main")

    clone = Repository(tmp_path / "clone")
    source.git("clone", "--quiet", url, str(clone.directory))
    assert clone.git("rev-parse", "HEAD") == source.git("rev-parse", "HEAD")
    assert (clone.directory / "file3").read_bytes() == (source.directory / "file3").read_bytes()
    clone.git("fsck", "--strict")

    # Many names: git gzips what it asks for.
    for number in range(40):
        source.git("commit", "--quiet", "--allow-empty", "--message", f"empty {number}")
        source.git("branch", f"branch{number}")
    source.git("push", "--quiet", "--all", "origin")
    clone.git("fetch", "--quiet", "origin")
    assert clone.git("rev-parse", "origin/main") == source.git("rev-parse", "main")
    clone.git("-c", "protocol.version=0", "fetch", "--quiet", "origin")
    assert clone.git("branch", "--remotes").count("branch") == 40

    clone.git("checkout", "--quiet", "-b", "other")
    clone.commit(100, 100_000)
    clone.git("push", "--quiet", "origin", "other")
    source.git("fetch", "--quiet", "origin")
    assert source.git("rev-parse", "origin/other") == clone.git("rev-parse", "other")

    shallow = Repository(tmp_path / "shallow")
    source.git("clone", "--quiet", "--depth=1", url, str(shallow.directory))
    shallow.git("fetch", "--quiet", "--unshallow")
    assert shallow.git("rev-list", "--count", "HEAD") == source.git("rev-list", "--count", "main")
