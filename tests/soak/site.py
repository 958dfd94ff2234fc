"""The server that the soak tests load, and what is looked at while they do."""

import resource

from harness import config, http1, processes, tls
from harness.waiting import until

MIB = 1 << 20
LOCATIONS = """
    wsgi_param test.dir @DIR@;
    client_max_body_size 0;
    http2_max_concurrent_streams 1000;
    root @DIR@;
    location / { wsgi_pass soak; }
    location /one/ { wsgi_pass gates pool=one; wsgi_queue_timeout 10m; wsgi_read_timeout 10m; }
    location = /queued { wsgi_pass gates pool=one; return 200 $wsgi_queue_length; }
    location = /active { return 200 $wsgi_active; }

    location /streamed/ { wsgi_pass soak; wsgi_request_buffering off; }
    location /unbuffered/ { wsgi_pass soak; wsgi_buffering off; wsgi_buffers 16k; }
    location /disk/ { wsgi_pass soak; wsgi_buffers 16k; }
    location /memory/ { wsgi_pass soak; wsgi_max_temp_file_size 0; }
    location /stays/ { wsgi_pass soak; wsgi_ignore_client_abort on; send_timeout 2s; }
    location /limited/ { wsgi_pass soak; limit_rate 10m; }
    location /asks/ { auth_request /auth/hello; wsgi_pass soak; }
    location /auth/ { internal; wsgi_pass_request_body off; wsgi_pass soak; }
    location /mirrored/ { mirror /mirror; wsgi_pass soak; }
    location = /mirror { internal; wsgi_pass soak; }
    location /parts/ { ssi on; ssi_types *; try_files /page =404; }

    location /hasty/ { wsgi_pass soak; wsgi_read_timeout 5ms; send_timeout 20ms; }
    location /streamed/hasty/ { wsgi_pass soak; wsgi_request_buffering off; client_body_timeout 5ms; }
    location /short/ { wsgi_pass soak; wsgi_request_timeout 5ms; }
    location /nervous/ { wsgi_pass soak; wsgi_interrupt_on_abort on; }
    location /crowded/ { wsgi_pass soak pool=small; wsgi_queue_timeout 5ms; }
    location /accel/ { error_page 503 504 = /hello; wsgi_intercept_errors on; wsgi_pass soak pool=small; }
"""
PAGE = '<!--# include virtual="/hello" --><!--# include virtual="/stream?300000" --><!--# include virtual="/drip?3" -->'

# Ways to the same application: those in which every call comes to its end, and those in which some are cut short.
WAYS = ["", "", "/streamed", "/unbuffered", "/disk", "/memory", "/stays", "/limited", "/asks", "/mirrored", "/parts"]
ROUGH_WAYS = ["/hasty", "/streamed/hasty", "/short", "/nervous", "/crowded", "/accel"]

POOLS = """wsgi_pool default threads={threads} queue=16384; wsgi_pool one threads=1 queue=16384;
wsgi_pool small threads=1 queue=4;"""


def raise_descriptor_limit():
    """As many connections as we may have; the server inherits it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = hard if hard != resource.RLIM_INFINITY else 65536
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(wanted, 65536)), hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def start(serve, directory, threads=4, access_log="off"):
    """Starts a server; returns it with a TLS client's context."""
    connections = raise_descriptor_limit() - 200
    certificate = tls.Certificate(directory)
    others = f"""
    server {{ {config.http2("H2_PORT", tls=False)} {LOCATIONS} }}
    server {{ listen 127.0.0.1:@TLS_PORT@ ssl; {certificate.directives()} {LOCATIONS} }}"""
    quiet = f"access_log {access_log}; keepalive_requests 1000000000;"
    http = config.site(quiet + LOCATIONS, pool=POOLS.format(threads=threads), http=others)
    text = config.whole(http.replace("@PORT@;", "@PORT@ backlog=16384;"))
    text = text.replace("worker_connections 512", f"worker_connections {connections}")
    # At info, each client that leaves is worth a line.
    text = text.replace("error.log info", "error.log notice")
    server = serve("", text=text)
    (server.dir / "page").write_text(PAGE)
    return server, certificate.client()


class Watch:
    """A server's worker, which must be the same all the time."""

    def __init__(self, server):
        self.server = server
        (self.worker,) = server.worker_pids()
        assert http1.fetch(server, "/hello").text == "hello\n"

    def ask(self, path):
        return int(http1.fetch(self.server, path).text)

    def counts(self):
        """How many calls were begun, and how many streamed bodies closed."""
        return [int(word) for word in http1.fetch(self.server, "/counts").text.split()]

    def settle(self, timeout=120):
        """Waits until nothing is left of any request."""
        until(lambda: self.ask("/active") == 0, f"no request is left (there are {self.ask('/active')})", timeout)

    def resident(self):
        return processes.resident(self.worker)

    def descriptors(self):
        return processes.descriptors(self.worker)

    def check(self):
        """The worker lives, and answers."""
        assert self.server.worker_pids() == [self.worker]
        assert http1.fetch(self.server, "/hello").text == "hello\n"
