"""20,000 clients that leave at a random moment: nothing crashes, nothing is left, memory levels off."""

import pytest
from harness.waiting import until
from soak import site
from soak.crowd import Crowd, Streams

ROUNDS, CLIENTS, STREAMS = 4, 4000, 1000


@pytest.mark.parametrize("threads", [1, 4, 32])
def test_20_000_clients_leave(serve, tmp_path, threads):
    server, tls = site.start(serve, tmp_path, threads)
    watch = site.Watch(server)
    watch.settle()
    file = tmp_path / "file"
    file.write_bytes(b"f" * 2_000_000)
    memory, answered, descriptors = [], 0, watch.descriptors()
    for turn in range(ROUNDS):
        crowd = Crowd(server, file, tls, seed=turn)
        crowd.run(CLIENTS)
        Streams(server, file, seed=turn).run(STREAMS)
        answered += crowd.answered
        watch.settle()
        watch.check()
        memory.append(watch.resident())
        print(f"round {turn + 1}: {memory[-1] / site.MIB:.1f} MiB, {watch.descriptors()} descriptors")
    assert answered > ROUNDS * CLIENTS / 8, "those who stayed got their answers"
    until(lambda: watch.descriptors() <= descriptors + 1, "all connections and files are closed", 90)
    assert memory[-1] - memory[1] < 4 * site.MIB, f"memory levels off: {memory}"


def test_they_leave_calls_that_are_cut_short(serve, tmp_path):
    """Deadlines, interruptions, full queues and intercepted errors, all at once."""
    server, tls = site.start(serve, tmp_path, threads=8)
    watch = site.Watch(server)
    file = tmp_path / "file"
    file.write_bytes(b"f" * 2_000_000)
    cut_short(server, tls, file, CLIENTS, STREAMS)
    watch.settle()
    watch.check()


def cut_short(server, tls, file, clients, streams):
    server.expect("Traceback", "RequestTimeout")  # stacks of calls that took too long
    ways = site.WAYS + site.ROUGH_WAYS * 2
    Crowd(server, file, tls, ways=ways).run(clients)
    Streams(server, file, ways=ways).run(streams)
