"""Ten thousand bytes, of which it gives the range that it is asked for."""

import re

CONTENT = b"0123456789" * 1000


def application(environ, start_response):
    asked = re.fullmatch(r"bytes=(\d+)-(\d+)", environ.get("HTTP_RANGE", ""))
    headers = [("Content-Type", "text/plain"), ("ETag", '"one"')]
    if not asked:
        start_response("200 OK", headers)
        return [CONTENT]
    first, last = int(asked[1]), min(int(asked[2]), len(CONTENT) - 1)
    start_response("206 Partial Content", [*headers, ("Content-Range", f"bytes {first}-{last}/{len(CONTENT)}")])
    return [CONTENT[first : last + 1]]
