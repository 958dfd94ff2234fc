"""Little memory: what a client makes too large for it costs that client a 500, and nobody else anything."""

import re
import resource
from pathlib import Path

import pytest

from harness import config, http1

MIB = 1 << 20

LOCATIONS = """
    client_max_body_size 0;
    client_body_buffer_size 64m;
    client_body_in_single_buffer on;
    location / { wsgi_pass body:length; }
    location /param { wsgi_param COPY $request_body; wsgi_pass body:length; }
    location /file { client_body_buffer_size 8k; wsgi_pass body:length; }
    location /streamed { wsgi_request_buffering off; client_body_buffer_size 16k; wsgi_pass body:length; }
    location /hello { wsgi_pass hello; }
"""


def virtual(pid):
    """The process's address space, in bytes."""
    return int(re.search(r"VmSize:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1]) * 1024


@pytest.mark.parametrize(
    "path, size, room",
    [
        ("/", 16, 24),  # nginx's buffer fits, and the copy of it does not
        ("/param", 16, 72),  # nginx's three and one copy fit, and the other does not
        ("/file?readline", 24, 12),
        ("/file?readlines", 24, 12),
        ("/streamed?read", 24, 12),
        ("/streamed?readline", 24, 12),
        ("/streamed?huge", 24, 12),
    ],
)
def test_a_body_for_which_there_is_no_memory(serve, path, size, room):
    # Each further arena would come with 64 MiB of address space.
    server = serve(config.site(LOCATIONS, pool="wsgi_pool default threads=1;"), environ={"MALLOC_ARENA_MAX": "1"})
    assert http1.fetch(server, "/hello").status == 200
    (worker,) = server.worker_pids()
    server.expect("Traceback")
    _, most = resource.prlimit(worker, resource.RLIMIT_AS)
    resource.prlimit(worker, resource.RLIMIT_AS, (virtual(worker) + room * MIB, most))
    assert http1.fetch(server, path, "POST", body=b"x" * (size * MIB)).status == 500
    resource.prlimit(worker, resource.RLIMIT_AS, (most, most))
    assert http1.fetch(server, path, "POST", body=b"x" * MIB).text == str(MIB)
    assert server.worker_pids() == [worker]
