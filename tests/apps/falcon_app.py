"""A site in Falcon; the same one as in bottle_app.py, pyramid_app.py, flask_site.py and django_site.py."""

import hashlib
import io
from wsgiref.validate import validator

import falcon
from site_parts import PARTS, lines


class Hello:
    def on_get(self, request, response):
        response.text = "hello from Falcon"

    on_head = on_get


class Count:
    """A session of the application's own: Falcon has none."""

    def on_get(self, request, response):
        count = int(request.cookies.get("count", "0")) + 1
        response.set_cookie("count", str(count), secure=False)
        response.set_cookie("other", "a cookie beside it", secure=False)
        response.text = str(count)


class Upload:
    def on_post(self, request, response):
        fields, files = {}, {}
        for part in request.get_media():
            if part.filename:
                data = part.stream.read()
                files[part.name] = [part.secure_filename, len(data), hashlib.sha256(data).hexdigest()]
            else:
                fields[part.name] = part.text
        response.media = {"fields": fields, "files": files}


class Echo:
    def on_post(self, request, response):
        response.data = request.bounded_stream.read()
        response.content_type = "application/octet-stream"


class Stream:
    def on_get(self, request, response):
        response.content_type = "text/plain"
        response.stream = lines(request.get_param("who"))


class File:
    def on_get(self, request, response):
        response.content_type = "application/octet-stream"
        response.set_stream(io.BytesIO(PARTS), len(PARTS))


class Away:
    def on_get(self, request, response):
        raise falcon.HTTPFound("/hello")


class Fails:
    def on_get(self, request, response):
        raise ValueError("Falcon was asked to fail")


application = falcon.App()
application.req_options.media_handlers[falcon.MEDIA_MULTIPART].parse_options.max_body_part_buffer_size = 4 << 20
for route in (Hello, Count, Upload, Echo, Stream, File, Away, Fails):
    application.add_route(f"/{route.__name__.lower()}", route())
validated = validator(application)
