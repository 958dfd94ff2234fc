"""Several applications in one worker: each with its own path, environment and pool, none in the way of another."""

import pytest

from harness import config, http1, processes
from harness.gate import Gate
from harness.server import check_config

APPLICATION = """
import os
NAME = {name!r}
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{{NAME}} {{os.environ.get('FOR_' + NAME)}} {{__name__}}".encode()]
"""


@pytest.fixture
def folders(tmp_path):
    """Two projects that both have a module `wsgi`, and a package in one of them."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "wsgi.py").write_text(APPLICATION.format(name=name))
    (tmp_path / "one/package").mkdir()
    (tmp_path / "one/package/__init__.py").write_text("WHAT = 'package'")
    (tmp_path / "one/package/site.py").write_text("from . import WHAT\n" + APPLICATION.format(name="inner"))
    (tmp_path / "one/odd-name.wsgi").write_text(APPLICATION.format(name="odd"))
    return tmp_path


def text(server, path="/"):
    response = http1.fetch(server, path)
    assert response.status == 200, response
    return response.text


def test_their_environments_are_set_before_their_import(serve, folders):
    http = f"""
        wsgi_app one {{ module wsgi; path {folders}/one; env FOR_one=1; }}
        wsgi_app package {{ module package.site:application; path {folders}/one; env FOR_inner=2; }}
    """
    locations = "location /one { wsgi_pass one; } location /package { wsgi_pass package; }"
    server = serve(config.site(locations, http=http))
    assert text(server, "/one").startswith("one 1 ")
    assert text(server, "/package").startswith("inner 2 package.site")


def test_two_modules_of_one_name(serve, folders):
    """Each application gets its own, and the log says that they share an interpreter."""
    http = f"wsgi_app one {{ module wsgi; path {folders}/one; }} wsgi_app two {{ module wsgi; path {folders}/two; }}"
    server = serve(config.site("location /one { wsgi_pass one; } location /two { wsgi_pass two; }", http=http))
    assert text(server, "/one").startswith("one ")
    assert text(server, "/two").startswith("two ")
    assert server.count(r"\[warn\].*\"wsgi\"") == 1


def test_files(serve, folders):
    locations = f"""
        location /one {{ wsgi_pass {folders}/one/wsgi.py; }}
        location /two {{ wsgi_pass {folders}/two/wsgi.py:application; }}
        location /odd {{ wsgi_pass {folders}/one/odd-name.wsgi; }}
        location /package {{ wsgi_pass {folders}/one/package/site.py; }}
    """
    server = serve(config.site(locations))
    assert text(server, "/one").startswith("one ")
    assert text(server, "/two").startswith("two ")
    assert text(server, "/odd").startswith("odd ")
    assert text(server, "/package").endswith(" package.site"), "as part of its package"


def test_a_file_that_is_missing(serve, folders):
    server = serve(
        config.site(
            f"location / {{ wsgi_pass {folders}/none.py; }} location /one {{ wsgi_pass {folders}/one/wsgi.py; }}"
        )
    )
    assert http1.fetch(server).status == 500
    assert "none.py" in server.log(0)
    assert text(server, "/one").startswith("one ")


def test_one_application_in_several_places_is_imported_once(serve):
    locations = "".join(f"location /{number} {{ wsgi_pass counting; }}" for number in range(3))
    server = serve(config.site(locations))
    assert [text(server, f"/{number}") for number in (0, 1, 2)] == ["1", "2", "3"]


def test_pools(serve):
    pools = "wsgi_pool default threads=2; wsgi_pool small threads=1; wsgi_pool unused threads=3;"
    locations = """
        wsgi_param test.dir @DIR@;
        location /default/ { wsgi_pass gates; }
        location /small/ { wsgi_pass gates pool=small; }
    """
    server = serve(config.site(locations, pool=pools))
    with Gate(server, "held") as held:
        calls = [http1.Connection(server.port) for _ in range(6)]
        for number, call in enumerate(calls):
            call.request(f"/{('default', 'small')[number % 2]}/held")
        held.wait_entered(3)
        (worker,) = server.worker_pids()
        assert held.entered() == 3, "two in one, one in the other"
        names = sorted(processes.threads(worker).values())
        assert (
            sum(name.startswith("default") for name in names) == 2
            and sum(name.startswith("small") for name in names) == 1
        )
    assert {call.response().status for call in calls} == {200}


def django_like(tmp_path, name):
    """A module that chooses its Django settings as every wsgi.py does."""
    (tmp_path / f"{name}.py").write_text(
        f"import os\nos.environ.setdefault('DJANGO_SETTINGS_MODULE', '{name}.settings')\n"
        "def application(environ, start_response):\n"
        "    start_response('200 OK', [])\n"
        "    return [os.environ['DJANGO_SETTINGS_MODULE'].encode()]\n"
    )


def test_a_second_django_project_is_refused(serve, tmp_path):
    django_like(tmp_path, "first")
    django_like(tmp_path, "second")
    places = "location /first { wsgi_pass first; } location /second { wsgi_pass second; }"
    server = serve(config.site(places, http=f"wsgi_path {tmp_path};"))
    server.expect(r"could not be imported")
    assert http1.fetch(server, "/first").text == "first.settings"
    assert http1.fetch(server, "/second").status == 500
    server.wait_log(r'"second".*could not be imported: it wants the Django settings "second.settings"')


def test_applications_that_set_one_variable_differently_are_refused(tmp_path):
    blocks = "".join(f"wsgi_app {name} {{ module hello; env MODE={name}; }}" for name in ("one", "two"))
    places = "location /one { wsgi_pass one; } location /two { wsgi_pass two; }"
    accepted, output, _ = check_config(tmp_path, config.whole(config.site(places, http=blocks)))
    assert not accepted
    assert '"one"' in output and '"two"' in output and "MODE" in output
