"""An HTTP/2 client on the h2 package: one connection, any number of streams."""

import socket
import time

import h2.connection
import h2.events


class Stream:
    """What came on one stream."""

    def __init__(self):
        self.fields = []
        # The fields of interim (1xx) responses, each by itself.
        self.interim = []
        self.body = b""
        self.chunks = []
        self.ended = False
        # The error code of an RST_STREAM.
        self.reset = None

    @property
    def status(self):
        return int(dict(self.fields)[":status"])

    def get(self, name, default=None):
        return dict(self.fields).get(name.lower(), default)

    @property
    def text(self):
        return self.body.decode()

    @property
    def complete(self):
        return self.ended and self.reset is None


class Connection:
    """An HTTP/2 connection with prior knowledge, on TLS if a context is given."""

    def __init__(self, port, tls=None, timeout=20):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.settimeout(timeout)
        self.timeout = timeout
        if tls:
            self.socket = tls.wrap_socket(self.socket, server_hostname="localhost")
            assert self.socket.selected_alpn_protocol() == "h2"
        self.h2 = h2.connection.H2Connection()
        self.h2.initiate_connection()
        self.streams = {}
        self.closed = False
        self._flush()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def _flush(self):
        data = self.h2.data_to_send()
        if data:
            self.socket.sendall(data)

    def request(self, path="/", method="GET", headers=(), body=None, end=True, scheme="http"):
        """Begins a stream; returns its number. `end=False` leaves the request's body open."""
        number = self.h2.get_next_available_stream_id()
        head = [(":method", method), (":scheme", scheme), (":authority", "localhost"), (":path", path)]
        self.streams[number] = Stream()
        self.h2.send_headers(number, [*head, *headers], end_stream=end and body is None)
        self._flush()
        if body is not None:
            self.send(number, body, end)
        return number

    def send(self, number, data, end=True):
        """Sends body bytes as the server's flow control allows, until it has answered without them."""
        while data:
            if self.streams[number].ended:
                return
            room = min(self.h2.local_flow_control_window(number), self.h2.max_outbound_frame_size)
            if room == 0:
                self._receive()
                continue
            self.h2.send_data(number, data[:room])
            data = data[room:]
            self._flush()
        if end:
            self.h2.end_stream(number)
            self._flush()

    def cancel(self, number):
        """Resets a stream, as a client that has lost interest does."""
        self.h2.reset_stream(number, error_code=8)
        self._flush()

    def _receive(self):
        data = self.socket.recv(65536)
        self.closed = not data
        for event in self.h2.receive_data(data):
            self._take(event)
        self._flush()

    def _take(self, event):
        stream = self.streams.get(getattr(event, "stream_id", None))
        if isinstance(event, h2.events.ConnectionTerminated):
            self.closed = True
        elif stream is None:
            return
        elif isinstance(event, h2.events.ResponseReceived):
            stream.fields = [(text(name), text(value)) for name, value in event.headers]
        elif isinstance(event, h2.events.InformationalResponseReceived):
            stream.interim.append([(text(name), text(value)) for name, value in event.headers])
        elif isinstance(event, h2.events.DataReceived):
            stream.body += event.data
            stream.chunks.append((time.monotonic(), event.data))
            self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            stream.ended = True
        elif isinstance(event, h2.events.StreamReset):
            stream.ended, stream.reset = True, event.error_code

    def response(self, number):
        """Reads until the stream has ended; other streams advance meanwhile."""
        stream = self.streams[number]
        while not stream.ended and not self.closed:
            self._receive()
        return stream

    def head(self, number):
        """Reads until the stream's header fields have come."""
        stream = self.streams[number]
        while not stream.fields and not stream.ended and not self.closed:
            self._receive()
        return stream

    def interim(self, number):
        """Reads until an interim response has come on the stream; returns its fields."""
        stream = self.streams[number]
        while not stream.interim and not stream.ended and not self.closed:
            self._receive()
        return stream.interim[0]


def text(value):
    """A field's name or value."""
    return value.decode("latin-1") if isinstance(value, bytes) else value


def fetch(port, path="/", method="GET", headers=(), body=None, tls=None):
    """One request on a connection of its own."""
    with Connection(port, tls) as connection:
        scheme = "https" if tls else "http"
        return connection.response(connection.request(path, method, headers, body, scheme=scheme))
