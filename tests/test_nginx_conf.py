"""Every file of nginx-conf/ is loaded, with this machine's paths and ports in it, and does what it says."""

import json
import os
import re
import time

import pytest

from harness import artifacts, config, http1
from harness import django as project
from harness.browser import Browser
from harness.waiting import until

CONFS = artifacts.REPOSITORY / "nginx-conf"
EXAMPLES = artifacts.REPOSITORY / "examples"
MIME_TYPES = "types { text/html html; text/css css; application/javascript js; image/png png; application/pdf pdf; }"


def localized(name, **replacements):
    """The text of a configuration with places for ports, and paths that exist here."""
    text = (CONFS / name).read_text()
    directives = {
        r"load_module [^;]+;": f"load_module @MODULE@; {config.user()}",
        r"user www-data;": "",
        r"error_log [^;]+;": "error_log @DIR@/error.log info;",
        r"pid [^;]+;": "pid @DIR@/nginx.pid;",
        r"access_log /var/log/nginx/(\S+);": r"access_log @DIR@/\1;",
        r"access_log logs/access.log;": "access_log @DIR@/access.log;",
        r"listen (?:127\.0\.0\.1:8080|80);": "listen 127.0.0.1:@PORT@;",
        r"http \{": "http {\n" + config.temp_paths(),
    }
    for pattern, replacement in {**directives, **replacements}.items():
        text, count = re.subn(pattern, lambda match: match.expand(replacement), text)
        assert count or pattern in directives, f"{name} has no {pattern!r} any more"
    return text


def test_every_file_is_tested():
    assert {path.name for path in CONFS.iterdir()} == {"hello.conf", "django.conf"}


# ---- hello.conf ----


@pytest.fixture(scope="module")
def hello(serve_module):
    return serve_module("", text=localized("hello.conf", **{"/srv/hello": str(EXAMPLES / "hello")}))


def test_hello_front_page(hello):
    response = http1.fetch(hello)
    assert response.status == 200 and response.get("Content-Type").startswith("text/html")
    for link in re.findall(r'href="(/[^"]*)"', response.text):
        if not link.startswith(("/sleep", "/stream", "/error")):
            assert http1.fetch(hello, link).status == 200, link


def test_hello_has_a_link_for_everything(hello):
    links = {link.partition("?")[0] for link in re.findall(r'href="(/[^"]*)"', http1.fetch(hello).text)}
    assert {"/sleep", "/stream", "/environ", "/upload", "/error"} <= links


def test_hello_sleeps_delay_nobody(hello):
    sleepers = [http1.Connection(hello.port) for _ in range(8)]
    began = time.monotonic()
    for sleeper in sleepers:
        sleeper.request("/sleep?s=1")
    assert http1.fetch(hello, "/hello-static/hello.css").status == 200
    assert time.monotonic() - began < 0.9
    for sleeper in sleepers:
        assert sleeper.response().text.startswith("slept 1.")
    assert time.monotonic() - began < 4, "side by side"


def test_hello_streams(hello):
    with http1.Connection(hello.port) as connection:
        connection.request("/stream")
        response = connection.head()
        first = connection.read_chunk(response)
        assert b"line 1 of 10" in first and b"line 2" not in first


def test_hello_takes_uploads(hello):
    body = os.urandom(300_000)
    response = http1.fetch(hello, "/upload", "POST", body=body)
    assert response.text.startswith("300000 bytes, sha256 ")


def test_hello_fails_on_request(hello):
    hello.expect("Traceback")
    assert http1.fetch(hello, "/error").status == 500
    hello.wait_log("RuntimeError: this one was asked for")
    assert http1.fetch(hello, "/nothing").status == 404


def test_hello_tells_what_its_pool_is_at(hello):
    def page():
        return http1.fetch(hello, "/wsgi-status").text

    until(lambda: re.search(r"<td>default</td><td>\d</td><td>8</td>", page()), "eight threads")


# ---- django.conf ----


@pytest.fixture(scope="module")
def django(serve_module, tmp_path_factory):
    data = tmp_path_factory.mktemp("django")
    project.prepare(data)
    project.manage(data, "collectstatic", "--no-input")
    (data / "passwords").write_text("ada:{PLAIN}lovelace\nbob:{PLAIN}builder\n")
    (data / "public/media").mkdir()
    (data / "public/media/film.mpg").write_bytes(b"film" * 1000)
    text = localized(
        "django.conf",
        **{
            r"include mime.types;": MIME_TYPES,
            r"virtualenv [^;]+;": f"virtualenv {artifacts.VIRTUALENV};" if artifacts.VIRTUALENV else "",
            r"/srv/django/admin-passwords": str(data / "passwords"),
            r"/srv/django/var": str(data),
            r"path /srv/django;": f"path {EXAMPLES / 'django'};",
        },
    )
    return serve_module("", text=text)


@pytest.fixture
def browser(django):
    return Browser(django.port, "www.example.com")


def request_seen(browser, path="/api/request/"):
    return json.loads(browser.get(path).text)


def test_django_tells_what_its_pool_is_at(browser):
    assert browser.get("/").status == 200

    def threads():
        return re.findall(r'^nginx_wsgi_threads\{worker="([01])",pool="default"\} 8$', browser.get("/metrics").text, re.M)

    until(lambda: threads() == ["0", "1"], "both workers have imported it")
    metrics = browser.get("/metrics").text
    assert re.search(r'nginx_wsgi_responses_total\{worker="[01]",pool="default",class="2xx"\} [1-9]', metrics)


def test_django_home(browser):
    page = browser.get("/")
    assert page.status == 200 and "Django" in page.text
    for link in set(re.findall(r'href="(/[^"]*)"', page.text)) - {"/admin/"}:
        assert browser.get(link).status == 200, link


def test_django_redirects_the_bare_domain(django):
    response = Browser(django.port, "example.com").get("/counter/?a=1", follow=False)
    assert (response.status, response.get("Location")) == (301, "http://www.example.com/counter/?a=1")


def test_django_refuses_other_hosts(django):
    response = http1.fetch(django, "/", host="evil.example")
    assert response.status in (301, 400)


def test_django_sessions(django, browser):
    for number in range(1, 6):
        assert f'id="count">{number}<' in browser.get("/counter/").text
    assert 'id="count">1<' in Browser(django.port, "www.example.com").get("/counter/").text


def test_django_user_ids(browser):
    first = request_seen(browser)
    assert first["UID_SET"].startswith("uid=") and first["UID_GOT"] == ""
    second = request_seen(browser)
    assert second["UID_GOT"] == first["UID_SET"] and second["UID_SET"] == ""
    assert len(first["REQUEST_ID"]) == 32


def test_django_admin_wants_a_password(browser):
    assert browser.get("/admin/").status == 401
    assert browser.get("/admin/", auth=("ada", "wrong")).status == 401
    assert browser.get("/admin/style.css").status == 401, "whatever it is called"


def test_django_admin_knows_the_user(browser):
    page = browser.get("/admin/", auth=("ada", "lovelace"))
    assert page.status == 200 and "Site administration" in page.text
    assert re.search(r"<strong>\s*ada\s*</strong>", page.text)
    assert request_seen(browser)["user"] == "ada", "the session knows the user on the rest of the site"


def test_django_admin_and_a_user_that_django_does_not_know(browser):
    page = browser.get("/admin/", auth=("bob", "builder"))
    assert "Site administration" not in page.text and "login" in page.url


def test_django_nobody_is_a_user_without_the_password(browser):
    seen = json.loads(browser.get("/api/request/", auth=("ada", "anything")).text)
    assert (seen["user"], seen["REMOTE_USER"]) == ("AnonymousUser", "")


@pytest.mark.parametrize("size", [1000, 3_000_000])
def test_django_upload_and_download(browser, size):
    content = os.urandom(size)
    page = browser.get("/upload/")
    fields = {"csrfmiddlewaretoken": page.csrf_token(), "title": f"of {size} bytes"}
    page = browser.post("/upload/", fields, files={"file": (f"document-{size}.pdf", content)})
    assert page.status == 200 and f"of {size} bytes" in page.text
    link = re.search(rf'href="(/media/documents/document-{size}[^"]*)"', page.text)[1]
    assert browser.get(link).body == content, "served by nginx from the disk"


def test_django_upload_needs_the_csrf_token(django, browser):
    django.expect("Forbidden")
    assert browser.post("/upload/", {"title": "x"}).status == 403


def test_django_admin_changes_things(browser):
    auth = ("ada", "lovelace")
    page = browser.get("/admin/auth/group/add/", auth=auth)
    fields = {"csrfmiddlewaretoken": page.csrf_token(), "name": "editors"}
    page = browser.post("/admin/auth/group/add/", fields, auth=auth)
    assert page.status == 200 and "editors" in page.text and "was added successfully" in page.text


def test_django_static_files(django, browser):
    for path in ("/static/admin/css/base.css", "/static/pages/site.css", "/static/admin/js/core.js"):
        response = browser.get(path)
        assert response.status == 200 and response.get("Cache-Control") == "max-age=2592000"
    assert browser.get("/static/none.css").status == 404
    assert http1.fetch(django, "/counter/", host="www.example.com").status == 200
    until(lambda: any("/counter/" in line for line in django.access()), "the line of a call")
    assert not [line for line in django.access() if "/static/" in line]


def test_django_media(django, browser):
    response = browser.get("/media/film.mpg")
    assert response.status == 200 and len(response.body) == 4000
    until(lambda: "/media/film.mpg" in (django.dir / "media.log").read_text(), "a line in the media log")
    assert not [line for line in django.access() if "film.mpg" in line]


def test_django_streams(django):
    with http1.Connection(django.port) as connection:
        connection.request("/stream/", host="www.example.com")
        response = connection.head()
        assert connection.read_chunk(response) == b"line 1 of 5\n"


def test_django_answers_side_by_side(django):
    connections = [http1.Connection(django.port) for _ in range(30)]
    for connection in connections:
        connection.request("/counter/", host="www.example.com")
    assert {connection.response().status for connection in connections} == {200}
