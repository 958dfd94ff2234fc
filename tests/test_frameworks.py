"""Django's admin, Flask and a bare function run unchanged on a configuration of ten lines."""

import json
import os
import re
import threading

import pytest

from harness import config, http1
from harness import django as project
from harness.browser import Browser

# What the README shows; the tests' own lines (temporary paths and the like) stand around it.
TEN_LINES = """
wsgi_path {path};
server {{
    listen 127.0.0.1:@PORT@;
    location / {{ wsgi_pass {target}; }}
}}
"""


def ten_lines(target, path="@APPS@"):
    text = config.whole(TEN_LINES.format(target=target, path=path), with_python=False)
    return text.replace("http {", "http {\n" + config.python(path=False), 1)


@pytest.fixture(scope="module")
def flask(serve_module):
    return serve_module("", text=ten_lines("flask_app:app"))


@pytest.fixture(scope="module")
def django(serve_module, tmp_path_factory):
    data = tmp_path_factory.mktemp("django")
    project.prepare(data)
    environ = {**project.environ(data), "DJANGO_DEBUG": "1"}
    main = "".join(f"env {name};\n" for name in environ)
    text = ten_lines(project.PROJECT / "mysite/wsgi.py", project.PROJECT)
    return serve_module("", text=main + text, environ=environ)


# ---- a bare function ----


@pytest.mark.parametrize("target", ["hello", "hello:application", "@APPS@/hello.py", "@APPS@/hello.py:application"])
def test_a_bare_function(serve, target):
    server = serve("", text=ten_lines(target))
    assert http1.fetch(server, "/any/thing").text == "hello\n"


@pytest.mark.parametrize("target", ['"flask_app:create_app()"', '"@APPS@/flask_app.py:create_app()"'])
def test_a_factory(serve, target):
    assert http1.fetch(serve("", text=ten_lines(target))).text == "made by a factory"


def test_a_dotted_callable(serve):
    server = serve("", text=ten_lines("flask_app:app.wsgi_app"))
    assert http1.fetch(server).text == "hello from Flask"


def test_an_application_by_name(serve):
    http = "wsgi_app site { module flask_app:app; path @APPS@; env FOR_TEST=yes; }"
    server = serve("", text=ten_lines("site").replace("http {", "http { " + http, 1))
    assert http1.fetch(server).text == "hello from Flask"


# ---- Flask ----


def test_flask_routes(flask):
    assert http1.fetch(flask).text == "hello from Flask"
    got = json.loads(http1.fetch(flask, "/user/J%C3%BCrgen?a=1&b=%20", host=f"localhost:{flask.port}").text)
    assert got["name"] == "J\u00fcrgen" and got["args"] == {"a": "1", "b": " "}
    assert got["host"] == f"localhost:{flask.port}" and got["root"] == ""


@pytest.mark.parametrize("size", [0, 10, 1_000_000])
def test_flask_bodies(flask, size):
    body = os.urandom(size)
    assert http1.fetch(flask, "/echo", "POST", body=body).body == body
    chunks = http1.chunked(*([body] if body else []))
    assert http1.fetch(flask, "/echo", "PUT", {"Transfer-Encoding": "chunked"}, chunks).body == body


def test_flask_json_and_forms(flask):
    response = http1.fetch(flask, "/json", "POST", {"Content-Type": "application/json"}, b'{"a": [1, 2]}')
    assert json.loads(response.text) == {"a": [1, 2]}
    page = Browser(flask.port, "localhost").post("/form", {"x": "1"}, {"file": ("f.bin", b"y" * 900_000)})
    assert json.loads(page.text) == {"fields": {"x": "1"}, "files": {"file": 900_000}}


def test_flask_sessions_and_redirects(flask):
    browser = Browser(flask.port, "localhost")
    assert [browser.get("/count").text for _ in range(3)] == ["1", "2", "3"]
    assert json.loads(browser.get("/away").text)["name"] == "away"


def test_flask_streams_with_its_context(flask):
    assert http1.fetch(flask, "/stream?who=me").text == "".join(f"{number} for me\n" for number in range(5))


def test_flask_contexts_do_not_mix(flask):
    wrong = []

    def visit(number):
        for _ in range(10):
            if http1.fetch(flask, f"/stream?who={number}").text.count(f"for {number}\n") != 5:
                wrong.append(number)

    visitors = [threading.Thread(target=visit, args=(number,)) for number in range(8)]
    for visitor in visitors:
        visitor.start()
    for visitor in visitors:
        visitor.join()
    assert not wrong


def test_flask_errors(flask):
    flask.expect("Traceback")
    assert "Not Found" in http1.fetch(flask, "/missing").text
    assert http1.fetch(flask, "/fails").status == 500
    flask.wait_log("ValueError: Flask was asked to fail")


def test_flask_conditions(flask):
    assert http1.fetch(flask, "/cached").text == "cached"
    response = http1.fetch(flask, "/cached", headers={"If-None-Match": '"v1"'})
    assert (response.status, response.body, response.get("ETag")) == (304, b"", '"v1"')


def test_flask_head_and_options(flask):
    head = http1.fetch(flask, "/", "HEAD")
    assert (head.status, head.get("Content-Length"), head.body) == (200, "16", b"")
    assert set(http1.fetch(flask, "/echo", "OPTIONS").get("Allow").split(", ")) == {"POST", "PUT", "OPTIONS"}


# ---- Django's admin ----


@pytest.fixture(scope="module")
def administrator(django):
    browser = Browser(django.port, f"127.0.0.1:{django.port}")
    page = browser.get("/admin/")
    assert "login" in page.url
    fields = {
        "csrfmiddlewaretoken": page.csrf_token(),
        "username": project.USER,
        "password": project.PASSWORD,
        "next": "/admin/",
    }
    page = browser.post(page.url, fields)
    assert page.status == 200 and "Site administration" in page.text
    return browser


def test_django_admin_pages(administrator):
    page = administrator.get("/admin/")
    for link in sorted(set(re.findall(r'href="(/admin/[^"]*)"', page.text)))[:12]:
        if "logout" not in link:
            assert administrator.get(link).status == 200, link


def test_django_admin_add_change_delete(administrator):
    page = administrator.get("/admin/auth/user/add/")
    password = "correct-horse-1"
    fields = {"username": "grace", "password1": password, "password2": password, "usable_password": "true"}
    page = administrator.post(page.url, {"csrfmiddlewaretoken": page.csrf_token(), **fields})
    assert page.status == 200 and "was added successfully" in page.text and "/change/" in page.url
    delete = page.url.replace("/change/", "/delete/")
    page = administrator.get(delete)
    page = administrator.post(delete, {"csrfmiddlewaretoken": page.csrf_token(), "post": "yes"})
    assert page.status == 200 and "was deleted successfully" in page.text


def test_django_admin_refuses_strangers(django):
    browser = Browser(django.port, f"127.0.0.1:{django.port}")
    page = browser.get("/admin/auth/user/")
    assert "login" in page.url
    fields = {"csrfmiddlewaretoken": page.csrf_token(), "username": project.USER, "password": "wrong"}
    assert "Please enter the correct username" in browser.post(page.url, fields).text


def test_django_pages_side_by_side(django):
    wrong = []

    def visit():
        browser = Browser(django.port, f"127.0.0.1:{django.port}")
        if [f'id="count">{n}<' in browser.get("/counter/").text for n in range(1, 6)] != [True] * 5:
            wrong.append(browser)

    visitors = [threading.Thread(target=visit) for _ in range(6)]
    for visitor in visitors:
        visitor.start()
    for visitor in visitors:
        visitor.join()
    assert not wrong
