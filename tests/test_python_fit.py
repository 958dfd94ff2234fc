"""A Python that the workers cannot use is found out by `nginx -t`, and by the start."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from harness import config
from harness.server import check_config

ROOT = os.geteuid() == 0
STDLIB = Path(sysconfig.get_path("stdlib"))
SITE = "{virtualenv} server {{ listen 127.0.0.1:8080; location / {{ wsgi_pass hello; }} }}"


@pytest.fixture
def virtualenv(tmp_path):
    """Where only its owner can go, or nobody if we are not root."""
    folder = tmp_path / "closed" / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    yield folder
    folder.parent.chmod(0o700)


def site(virtualenv, user):
    text = config.whole(SITE.format(virtualenv=f"wsgi_virtualenv {virtualenv};"), with_python=False)
    return text.replace("user root;", user)


def blocked(path):
    """The first directory on the way that others cannot search, or None."""
    return next((parent for parent in reversed(path.parents) if not parent.stat().st_mode & 0o001), None)


def test_what_the_workers_user_cannot_read_is_refused(tmp_path, virtualenv):
    (tmp_path / "home").mkdir()
    directory = blocked(virtualenv) if ROOT else virtualenv.parent
    if not ROOT:
        text = site(virtualenv, "")
        virtualenv.parent.chmod(0)
    else:
        text = site(virtualenv, "user nobody nogroup;")
    accepted, said, _ = check_config(tmp_path / "home", text)
    assert not accepted
    if ROOT:
        assert f'the user "nobody" cannot read "{directory}", and Python needs "{virtualenv}' in said
    else:
        assert str(virtualenv) in said


@pytest.mark.parametrize("user", ["user root;", "user nobody nogroup;"])
def test_what_they_can_read_is_accepted(tmp_path, user):
    """The Python that the module was built with: a distribution's can be read by all, one below /root by root."""
    text = config.whole(SITE.format(virtualenv=""), with_python=False)
    accepted, said, _ = check_config(tmp_path, text.replace("user root;", user))
    hidden = ROOT and "nobody" in user and blocked(STDLIB)
    assert accepted == (not hidden) and ("cannot read" in said) == bool(hidden), said


def test_a_user_that_may_still_change_is_warned_of(tmp_path, virtualenv):
    """Where the user is the default one, which a directive may still follow, `nginx -t` warns."""
    (tmp_path / "home").mkdir()
    accepted, said, _ = check_config(tmp_path / "home", site(virtualenv, ""))
    assert accepted == ROOT and (not ROOT or 'the user "nobody" cannot read "' in said), said


def test_the_start_says_what_the_workers_cannot_read(serve, virtualenv):
    """A Python that they cannot read does not begin. One that they can does, and then lacks what the virtualenv would have."""
    text = site(virtualenv, "").replace("127.0.0.1:8080", "127.0.0.1:@PORT@")
    server = serve(None, text=text)
    server.expect(r"\[alert\].*Python could not be initialised", "could not be imported")
    if ROOT and blocked(STDLIB):
        server.wait_log(r'could not be initialised: .*: the user "nobody" cannot read "/[^"]*", and Python needs "/')
    else:
        server.wait_log(r'application "hello" \(in .*\) could not be imported')


def test_a_virtualenv_of_another_build_is_told_of(tmp_path, virtualenv):
    """It has the same version, so all else looks right."""
    other = tmp_path / "other"
    name = "python%d.%d" % sys.version_info[:2]
    (other / "bin").mkdir(parents=True)
    (other / "lib" / name).mkdir(parents=True)
    shutil.copy(os.path.realpath(sys.executable), other / "bin" / name)
    settings = virtualenv / "pyvenv.cfg"
    lines = [f"home = {other}/bin" if line.startswith("home") else line for line in settings.read_text().splitlines()]
    before = check_config(tmp_path, site(virtualenv, config.user()))
    assert before[0] and "another build" not in before[1]
    settings.write_text("\n".join(lines))
    accepted, said, _ = check_config(tmp_path, site(virtualenv, config.user()))
    assert accepted and "[warn]" in said
    assert f'the virtualenv "{virtualenv}" was made by "{other}/bin/{name}", another build of Python' in said
