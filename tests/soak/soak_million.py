"""A million requests: what the last 900,000 take is less than 1 MiB."""

import pytest
from soak import load, site


@pytest.mark.parametrize("path", ["/hello", "/stream?70000"])
def test_a_million_requests_leave_nothing(serve, tmp_path, path):
    server, _ = site.start(serve, tmp_path, threads=8)
    watch = site.Watch(server)
    # A streamed response costs as much as ten short ones.
    count = 1_000_000 if path == "/hello" else 100_000
    load.requests(server, count // 10, path)
    watch.settle()
    before = watch.resident()
    load.requests(server, count - count // 10, path)
    watch.settle()
    grown = watch.resident() - before
    print(f"{path}: {before / site.MIB:.2f} MiB after {count // 10:,}, {grown / 1024:+.0f} KiB after {count:,}")
    assert grown < site.MIB
    watch.check()
