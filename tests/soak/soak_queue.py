"""10,000 queued requests whose clients leave: none of them reaches Python."""

from harness import http1
from harness.gate import Gate
from harness.waiting import until
from soak import site


def test_10_000_leave_the_queue(serve, tmp_path):
    server, _ = site.start(serve, tmp_path)
    leave_the_queue(server, min(10_000, site.raise_descriptor_limit() - 1000))


def leave_the_queue(server, count):
    """Queues `count` requests behind a call that waits, and lets their clients go; then the call goes on."""
    watch = site.Watch(server)
    with Gate(server, "held") as gate:
        held = ask(server, "/one/held")
        gate.wait_entered()
        clients = [ask(server, "/one/never") for _ in range(count)]
        until(lambda: watch.ask("/queued") == count, f"{count} requests are queued", 60)
        for number, client in enumerate(clients):
            client.reset() if number % 2 else client.close()
        until(lambda: watch.ask("/queued") == 0, "nothing is queued any more", 60)
        stays = ask(server, "/one/held")
    assert (held.response().status, stays.response().status) == (200, 200)
    watch.settle()
    assert Gate(server, "never").entered() == 0
    watch.check()


def ask(server, path):
    connection = http1.Connection(server.port)
    connection.request(path)
    return connection
