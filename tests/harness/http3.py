"""An HTTP/3 client on the aioquic package: one connection, any number of streams."""

import itertools
import socket
import time

from aioquic.h3.connection import H3_ALPN, ErrorCode, H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import ConnectionTerminated, HandshakeCompleted, StopSendingReceived, StreamReset

from .http2 import Stream, text


class Connection:
    """An HTTP/3 connection that trusts a certificate (see tls.py)."""

    def __init__(self, port, certificate, timeout=20):
        self.timeout = timeout
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.connect(("127.0.0.1", port))
        configuration = QuicConfiguration(alpn_protocols=H3_ALPN, server_name="localhost")
        configuration.load_verify_locations(str(certificate.authority))
        self.quic = QuicConnection(configuration=configuration)
        self.streams = {}
        self.closed = self.ready = False
        self.quic.connect(("127.0.0.1", port), now=time.monotonic())
        self._flush()
        self.receive_until(lambda: self.ready)
        self.h3 = H3Connection(self.quic)
        self._flush()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.leave()

    def leave(self):
        """Closes the connection, whatever is under way on it."""
        self.quic.close(error_code=ErrorCode.H3_NO_ERROR)
        self._flush()
        self.socket.close()

    # ---- sending ----

    def _flush(self):
        if self.socket.fileno() < 0:
            return
        for datagram, _ in self.quic.datagrams_to_send(now=time.monotonic()):
            self.socket.send(datagram)

    def request(self, path="/", method="GET", headers=(), body=None, end=True, authority="localhost"):
        """Begins a stream; returns its number. `end=False` leaves the request's body open."""
        number = self.quic.get_next_available_stream_id()
        head = [(":method", method), (":scheme", "https"), (":path", path)]
        head += [(":authority", authority)] if authority else []
        self.streams[number] = Stream()
        fields = [(name.encode(), value.encode("latin-1")) for name, value in itertools.chain(head, headers)]
        self.h3.send_headers(number, fields, end_stream=end and body is None)
        if body is not None:
            self.h3.send_data(number, body, end_stream=end)
        self._flush()
        return number

    def send(self, number, data, end=True):
        """Sends body bytes; what the server's flow control does not allow yet goes out while something is awaited."""
        self.h3.send_data(number, data, end_stream=end)
        self._flush()

    def cancel(self, number):
        """Resets a stream in both directions, as a client that has lost interest does."""
        self.quic.stop_stream(number, ErrorCode.H3_REQUEST_CANCELLED)
        self.quic.reset_stream(number, ErrorCode.H3_REQUEST_CANCELLED)
        self._flush()

    # ---- receiving ----

    def receive_until(self, condition):
        """Takes what comes until `condition()` or the end of the connection."""
        deadline = time.monotonic() + self.timeout
        while not condition() and not self.closed:
            self._receive(deadline)

    def _receive(self, deadline):
        now = time.monotonic()
        if now > deadline:
            raise TimeoutError(f"nothing decisive came within {self.timeout:g} s")
        timer = self.quic.get_timer()
        self.socket.settimeout(max(min(deadline if timer is None else timer, deadline) - now, 0.001))
        try:
            self.quic.receive_datagram(self.socket.recv(65536), self.socket.getpeername(), now=time.monotonic())
        except socket.timeout:
            self.quic.handle_timer(now=time.monotonic())
        while (event := self.quic.next_event()) is not None:
            self._take(event)
        self._flush()

    def _take(self, event):
        if isinstance(event, HandshakeCompleted):
            self.ready = True
        elif isinstance(event, ConnectionTerminated):
            self.closed = True
        elif isinstance(event, StreamReset):
            self._reset(event)
        elif isinstance(event, StopSendingReceived):
            pass  # the server needs no more of the body
        elif self.ready and hasattr(self, "h3"):
            for each in self.h3.handle_event(event):
                self._take_h3(each)

    def _reset(self, event):
        stream = self.streams.get(event.stream_id)
        if stream:
            stream.ended, stream.reset = True, event.error_code

    def _take_h3(self, event):
        stream = self.streams.get(getattr(event, "stream_id", None))
        if stream is None:
            return
        if isinstance(event, HeadersReceived):
            stream.fields = [(text(name), text(value)) for name, value in event.headers]
        elif isinstance(event, DataReceived):
            stream.body += event.data
            stream.chunks.append((time.monotonic(), event.data))
        stream.ended = stream.ended or event.stream_ended

    def response(self, number):
        """Reads until the stream has ended; other streams advance meanwhile."""
        stream = self.streams[number]
        self.receive_until(lambda: stream.ended)
        return stream

    def head(self, number):
        """Reads until the stream's header fields have come."""
        stream = self.streams[number]
        self.receive_until(lambda: stream.fields or stream.ended)
        return stream


def fetch(port, certificate, path="/", method="GET", headers=(), body=None, **options):
    """One request on a connection of its own."""
    with Connection(port, certificate) as connection:
        return connection.response(connection.request(path, method, headers, body, **options))
