"""WsgiDAV for litmus, which reads XML only where it is called that: WsgiDAV says `application` of a lock."""

from dav import application as dav

WRONG = ("Content-Type", "application; charset=utf-8")


def application(environ, start_response):
    def start(status, headers, exc_info=None):
        headers = [("Content-Type", "application/xml") if field == WRONG else field for field in headers]
        return start_response(status, headers, exc_info)

    return dav(environ, start)
