"""Ten thousand requests that wait in the queue: the memory of each, and whether the last is as quick to queue."""

import time

from harness.waiting import until

from .. import client, contenders, machine, nginx
from ..report import Findings, Table, Target, number

STEP = 1000


class Parking(contenders.Module):
    """One thread that a gate holds, a queue for all, and nginx's own way to hold a request as the measure."""

    def __init__(self, directory, count):
        super().__init__(directory)
        self.count = count

    def launch(self, app, threads):
        http = nginx.python("threads=2 queue=64") + f"""
    wsgi_pool park threads=1 queue={2 * self.count};
    limit_req_zone $server_addr zone=held:1m rate=1r/m;"""
        locations = f"""location / {{ wsgi_pass {app}; }}
        location /park/ {{ wsgi_pass {app} pool=park; wsgi_queue_timeout 1h; wsgi_read_timeout 1h; }}
        location = /queued {{ wsgi_pass {app} pool=park; return 200 $wsgi_queue_length; }}
        location = /active {{ return 200 $wsgi_active; }}
        location /held {{ limit_req zone=held burst={2 * self.count}; alias @DIR@/nginx.conf; }}"""
        self.nginx = nginx.start(self.directory, nginx.conf(locations, http))
        self.port = self.nginx.port

    @property
    def worker(self):
        (pid,) = self.nginx.worker_pids()
        return pid

    def asked(self, path):
        return int(client.fetch(self.port, path)[1])

    def park(self, path, arrived):
        """Parks all clients; returns them, bytes per request, and the event loop's seconds for each thousand."""
        before, cpu, parked = machine.resident([self.worker]), [], []
        while len(parked) < self.count:
            began = machine.main_thread_cpu(self.worker)
            parked += client.park(self.port, path, STEP)
            arrived(len(parked))
            cpu.append(machine.main_thread_cpu(self.worker) - began)
        return parked, (machine.resident([self.worker]) - before) / self.count, cpu


def run(options):
    findings = Findings("queue")
    count = min(10000, (machine.raise_descriptor_limit() - 1000) // STEP * STEP)
    by_nginx, its_cpu = held(options, count)
    ours, cpu, drained, failed = queued(options, count)
    if failed:
        findings.refused.append(f"queue: {failed} of {count} requests failed")
        return findings
    table = Table(f"{count:,} requests that wait", ["what", "found"])
    table.rows += [
        ["bytes each, held by nginx (limit_req)", number(by_nginx)],
        ["bytes each, in our queue", number(ours)],
        ["difference", number(ours - by_nginx)],
        ["event loop's µs to hold each of the first, the last thousand, nginx", micro_each(its_cpu)],
        ["event loop's µs to queue each of the first, the last thousand, ours", micro_each(cpu)],
        ["seconds until all were answered", number(drained)],
    ]
    findings.tables.append(table)
    findings.targets.append(Target("queue: our own memory for each", ours - by_nginx, 4096, unit=" bytes"))
    slower = (cpu[-1] / cpu[0]) / (its_cpu[-1] / its_cpu[0])
    findings.targets.append(Target("queue: slow-down from the first thousand to the last / nginx's own", slower, 1.2))
    return findings


def micro_each(cpu):
    return ", ".join(number(seconds / STEP * 1e6) for seconds in (cpu[0], cpu[-1]))


def held(options, count):
    """Bytes per request that nginx itself holds, and CPU of each thousand."""
    options.say(f"{count} requests held by nginx itself")
    contender = Parking(options.directory / "queue-held", count).start("waits", 2)
    try:
        parked, each, cpu = contender.park("/held", lambda total: settle(contender.worker))
        close(parked)
        settle(contender.worker)
    finally:
        contender.stop()
    return each, cpu


def queued(options, count):
    """Bytes per queued request, CPU of each thousand, the seconds to answer all, and how many failed."""
    options.say(f"{count} requests in the queue")
    gate = options.directory / "gate"
    contender = Parking(options.directory / "queue-ours", count).start("waits", 2)
    try:
        first = client.park(contender.port, f"/park/gate?{gate}", 1)
        until(lambda: contender.asked("/active") == 1 and contender.asked("/queued") == 0, "the gate's call runs")
        parked, each, cpu = contender.park(
            "/park/hello", lambda total: until(lambda: contender.asked("/queued") >= total, "all are queued", 60)
        )
        began = time.monotonic()
        gate.touch()
        failed = sum(client.head(connection)[0] != 200 for connection in parked)
        drained = time.monotonic() - began
        close(first + parked)
    finally:
        gate.touch()
        contender.stop()
    return each, cpu, drained, failed


def settle(pid):
    """Waits until the process rests: its CPU time stands still."""
    last = -1.0
    while machine.cpu([pid]) != last:
        last = machine.cpu([pid])
        time.sleep(0.1)


def close(connections):
    for connection in connections:
        connection.close()
