"""What `wsgi_status` says, and the server that the tests about it ask."""

import json

from prometheus_client.parser import text_string_to_metric_families

from . import http1
from .waiting import until

LOCATIONS = """
    wsgi_param test.dir @DIR@;
    location = /status { wsgi_status; }
    location = /metrics { wsgi_status prometheus; }
    location = /page { wsgi_status html; }
    location = /active { return 200 $wsgi_active; }
    location /gate/ { wsgi_pass gates; }
    location /small/ { wsgi_pass gates pool=small; }
    location /impatient/ { wsgi_queue_timeout 300ms; wsgi_pass gates; }
    location /play { wsgi_pass script; }
    location /silent { rewrite ^ /play break; wsgi_read_timeout 300ms; wsgi_pass script; }
    location /timed { rewrite ^ /play break; wsgi_request_timeout 300ms; wsgi_pass script; }
    location /intercepted { rewrite ^ /play break; wsgi_intercept_errors on; error_page 404 /page-of-its-own;
                            wsgi_pass script; }
    location = /page-of-its-own { return 200 "sorry"; }
    location /limited { limit_except PUT { allow all; } wsgi_status prometheus; }
    location /conditional { set $yes 1; if ($yes) { add_header X-If yes; } wsgi_status html; }
"""
POOLS = "wsgi_pool default threads=2; wsgi_pool small threads=1 queue=1; wsgi_pool unused threads=3;"


def running(server):
    """The server, when its workers have imported their applications."""
    until(lambda: {worker["state"] for worker in status(server)["workers"]} == {"running"}, "all workers run")
    return server


def states(server):
    return sorted(worker["state"] for worker in status(server)["workers"])


def status(server):
    response = http1.fetch(server, "/status")
    assert (response.status, response.get("Content-Type")) == (200, "application/json")
    return json.loads(response.text)


def pool(server, name="default"):
    """What a pool of all workers is at and has done."""
    return status(server)["pools"][name]


def until_pool(server, name="default", **wanted):
    """Waits until a pool is at that."""
    until(lambda: wanted.items() <= pool(server, name).items(), f"{wanted} in {pool(server, name)}")


def counts(found):
    """All counters of a pool, on one level."""
    flat = {}
    for name in ("requests", "responses", "refused", "timeouts", "failed", "aborted"):
        value = found[name]
        flat |= value if isinstance(value, dict) else {name: value}
    return flat


class Gains:
    """What the counters of a pool have gained since: those that have not changed are left out."""

    def __init__(self, server, name="default"):
        self.server, self.name = server, name
        self.before = counts(pool(server, name))

    def so_far(self):
        now = counts(pool(self.server, self.name))
        return {name: now[name] - self.before[name] for name in now if now[name] != self.before[name]}

    def become(self, **wanted):
        wanted = {name.removeprefix("status_"): number for name, number in wanted.items()}
        until(lambda: self.so_far() == wanted, f"{wanted}, and not {self.so_far()}")


def metrics(server):
    """The samples of /metrics as Prometheus's own parser reads them: {(name, labels): value}."""
    response = http1.fetch(server, "/metrics")
    assert response.get("Content-Type") == "text/plain; version=0.0.4; charset=utf-8"
    samples = {}
    for family in text_string_to_metric_families(response.text):
        assert family.name.startswith("nginx_wsgi_") and family.documentation
        assert family.type in ("gauge", "counter", "histogram"), "every sample belongs to a family"
        for sample in family.samples:
            key = sample.name, tuple(sorted(sample.labels.items()))
            assert key not in samples, "a sample comes once"
            samples[key] = sample.value
    return samples
