"""Git's smart HTTP: a bridge to the CGI program `git http-backend`, as small gateways are written.

The repositories are in the directory that GIT_PROJECT_ROOT names.
"""

import os
import subprocess
import threading

PIECE = 65536


def feed(source, target):
    """The request body goes to the program while its answer comes."""
    try:
        while piece := source.read(PIECE):
            target.write(piece)
        target.close()
    except BrokenPipeError:
        pass


def head(stream):
    """Status and headers of a CGI response."""
    status, headers = "200 OK", []
    while line := stream.readline().decode("latin-1").strip():
        name, _, value = line.partition(":")
        if name.lower() == "status":
            status = value.strip()
        else:
            headers.append((name, value.strip()))
    return status, headers


def body(stream, feeder, program):
    try:
        while piece := stream.read1(PIECE):
            yield piece
    finally:
        stream.close()
        feeder.join()
        program.wait()


def application(environ, start_response):
    variables = {key: value for key, value in environ.items() if isinstance(value, str)}
    variables.update(PATH=os.environ["PATH"], GIT_PROJECT_ROOT=os.environ["GIT_PROJECT_ROOT"], GIT_HTTP_EXPORT_ALL="1")
    command = ["git", "http-backend"]
    program = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=variables)
    feeder = threading.Thread(target=feed, args=(environ["wsgi.input"], program.stdin))
    feeder.start()
    start_response(*head(program.stdout))
    return body(program.stdout, feeder, program)
