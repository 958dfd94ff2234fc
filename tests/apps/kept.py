"""Writes to the streams that sitecustomize has kept (see test_logging.py)."""

import logging

import sitecustomize


def application(environ, start_response):
    name = environ["QUERY_STRING"]
    word = f"a word by the kept {name}"
    if name == "logging":
        logging.getLogger("early").warning(word)
    else:
        print(word, file=sitecustomize.kept[name])
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"ok"]
