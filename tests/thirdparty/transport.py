"""Streams and datagrams over raw QUIC and over WebTransport, by aioquic, and the one channel of a WebSocket, by
websockets. Nothing here knows of frames.

All classes offer the same: `open`, `write`, `reset` and `stop` for streams, `send_datagram` for what is no longer than
`room`, and they call `on_data(stream, data, end)`, `on_datagram(data)`, `on_reset(stream, code)` and
`on_closed(code, reason)`. `end` says that nothing may be left over: the stream ends here, or a message. Where there is
but `ONE_CHANNEL`, every stream is that one, each `write` is a message, and `reset` and `stop` are not to be had; nor are
datagrams, where `room` is 0. aioquic grants flow control as data arrives, and so does the WebSocket, so what is received
waits in memory.
"""

import asyncio
import contextlib
import hashlib
import random
import socket
import ssl

from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.buffer import Buffer, BufferReadError
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, DatagramReceived, HeadersReceived, WebTransportStreamDataReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import ConnectionTerminated, DatagramFrameReceived, StreamDataReceived, StreamReset
from cryptography.hazmat.primitives.serialization import Encoding
from websockets.client import ClientProtocol
from websockets.frames import Opcode
from websockets.http11 import Response
from websockets.protocol import OPEN
from websockets.uri import parse_uri

KEEP_ALIVE = 10.0
SILENCE = 30.0
"""Seconds after which a WebSocket is given up of which nothing is heard."""

CLOSE_SESSION = 0x2843
"""Capsule CLOSE_WEBTRANSPORT_SESSION: a u32, the code, then the reason."""

FIRST_CODE = 0x52E4A40FA8DB
"""The HTTP/3 error code that WebTransport's code 0 is sent as."""


def check_certificate(der, expected_sha256):
    found = hashlib.sha256(der).hexdigest()
    if found != expected_sha256:
        raise ssl.SSLCertVerificationError(f"the daemon's certificate is {found}, not {expected_sha256}")


def tls():
    """TLS that takes any certificate: `check_certificate` is for whoever uses it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["http/1.1"])
    return context


class Network:
    """What a bad network does to packets, or, of one's own datagrams, to what is in them: by a choice that the seed
    makes, some are lost, some come twice, and some come after up to `late` others. What is held back for that is lost
    if nothing follows."""

    def __init__(self, seed, lost=0.0, twice=0.0, late=0):
        self._random = random.Random(seed)
        self._lost, self._twice, self._late = lost, twice, late
        self._held = []
        self.dropped = 0

    def carry(self, data):
        """What arrives when this is sent."""
        arriving = []
        for _ in range(1 + (self._random.random() < self._twice)):
            if self._random.random() < self._lost:
                self.dropped += 1
            else:
                self._held.append([self._random.randint(0, self._late), data])
        for held in self._held:
            if held[0] <= 0:
                arriving.append(held[1])
            held[0] -= 1
        self._held = [held for held in self._held if held[0] >= 0]
        return arriving


class QuicTransport(QuicConnectionProtocol):
    """Streams and datagrams of a QUIC connection with ALPN `weir/1`."""

    ALPN = ["weir/1"]
    MAX_DATAGRAM = 65535
    ROOM = 1100
    """Length of a datagram that fits a packet of 1,200 bytes, which every network passes, whatever else is in it."""
    ONE_CHANNEL = False
    client_closes = False  # after a Goodbye

    def __init__(self, quic, host):
        super().__init__(quic)
        self.host = host
        self.on_data = self.on_datagram = self.on_reset = self.on_closed = lambda *_: None
        self.incoming = self.outgoing = None
        """A `Network` for the packets of UDP, or `None` if it does nothing to them."""
        self.ready = self._loop.create_future()
        self._keep_alive = None

    @classmethod
    async def dial(cls, host, port, certificate_sha256):
        """Connects to a daemon whose certificate (DER) has this SHA-256."""
        family, _, _, _, address = (await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_DGRAM))[0]
        configuration = QuicConfiguration(
            alpn_protocols=cls.ALPN,
            server_name=host,
            verify_mode=ssl.CERT_NONE,
            max_datagram_frame_size=cls.MAX_DATAGRAM,
        )
        _, self = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: cls(QuicConnection(configuration=configuration), f"{host}:{port}"),
            local_addr=("::" if family == socket.AF_INET6 else "0.0.0.0", 0),
        )
        self.connect(address)
        try:
            await self.wait_connected()
            check_certificate(self._quic.tls._peer_certificate.public_bytes(Encoding.DER), certificate_sha256)
            self._stay_alive()
            self._begin()
            await self.ready
        except BaseException:
            self.end()
            raise
        return self

    def open(self, unidirectional=True):
        """A stream of one's own. It is there for the peer once something is written."""
        stream = self._quic.get_next_available_stream_id(is_unidirectional=unidirectional)
        self._quic.send_stream_data(stream, b"")
        return stream

    def write(self, stream, data, end=False):
        self._quic.send_stream_data(stream, data, end_stream=end)
        self._transmit_soon()

    def reset(self, stream, code):
        self._quic.reset_stream(stream, self._code_out(code))
        self._transmit_soon()

    def stop(self, stream, code):
        self._quic.stop_stream(stream, self._code_out(code))
        self._transmit_soon()

    @property
    def room(self):
        """The length of the longest datagram that may be sent; 0 if the daemon takes none."""
        return min(self.ROOM, self._quic._remote_max_datagram_frame_size or 0)

    @property
    def rtt(self):
        """The round-trip time, in seconds."""
        return self._quic._loss._rtt_smoothed

    def send_datagram(self, data):
        assert len(data) <= self.room
        self._quic.send_datagram_frame(data)
        self._transmit_soon()

    def datagram_received(self, data, address):
        for data in [data] if self.incoming is None else self.incoming.carry(data):
            super().datagram_received(data, address)

    def connection_made(self, transport):
        super().connection_made(transport)
        self._transport = Outgoing(self, transport)

    def leave(self, code, reason):
        """Closes the connection, after what was written."""
        self.transmit()
        self.close(error_code=code, reason_phrase=reason)

    def end(self):
        """Closes the connection, if that has not happened yet, and gives up the socket."""
        self.close()
        for handle in (self._timer, self._keep_alive, self._transmit_task):
            if handle is not None:
                handle.cancel()
        self._transport.close()

    def quic_event_received(self, event):
        if isinstance(event, ConnectionTerminated):
            self._closed_by_peer(event.error_code, event.reason_phrase)
        elif isinstance(event, StreamReset):
            self.on_reset(event.stream_id, self._code_in(event.error_code))
        elif isinstance(event, StreamDataReceived):
            self.on_data(event.stream_id, event.data, event.end_stream)
        elif isinstance(event, DatagramFrameReceived):
            self.on_datagram(event.data)

    def _begin(self):
        self.ready.set_result(None)

    def _closed_by_peer(self, code, reason):
        if not self.ready.done():
            self.ready.set_exception(ConnectionError(f"closed with {code:#x} {reason}"))
        self.on_closed(code, reason)

    def _stay_alive(self):
        self._keep_alive = self._loop.call_later(KEEP_ALIVE, self._stay_alive)
        self._quic.send_ping(0)
        self._transmit_soon()

    def _code_out(self, code):
        return code

    def _code_in(self, code):
        return code


class Outgoing:
    """The socket, through which packets go by way of `outgoing`."""

    def __init__(self, protocol, transport):
        self._protocol, self._transport = protocol, transport

    def sendto(self, data, address):
        network = self._protocol.outgoing
        for data in [data] if network is None else network.carry(data):
            self._transport.sendto(data, address)

    def close(self):
        self._transport.close()


class QuicWithoutDatagrams(QuicTransport):
    """The same for a library that has no datagrams."""

    MAX_DATAGRAM = None
    room = 0


class WebTransport(QuicTransport):
    """Streams and datagrams of a WebTransport session over HTTP/3, draft 02, at the path `/weir`."""

    ALPN = H3_ALPN
    MAX_DATAGRAM = 65536
    ROOM = 1090
    client_closes = True

    def _begin(self):
        self._h3 = H3Connection(self._quic, enable_webtransport=True)
        self._session = None
        self._own = set()
        self._capsules = b""
        self.status = None
        self.transmit()

    def open(self, unidirectional=True):
        stream = self._h3.create_webtransport_stream(self._session, is_unidirectional=unidirectional)
        self._own.add(stream)
        return stream

    def send_datagram(self, data):
        assert len(data) <= self.room
        self._h3.send_datagram(self._session, data)
        self._transmit_soon()

    def leave(self, code, reason):
        reason = reason.encode()
        capsule = Buffer(capacity=len(reason) + 32)
        capsule.push_uint_var(CLOSE_SESSION)
        capsule.push_uint_var(4 + len(reason))
        capsule.push_uint32(code)
        capsule.push_bytes(reason)
        self._h3.send_data(self._session, capsule.data, end_stream=True)
        super().leave(0x100, "")  # H3_NO_ERROR

    def quic_event_received(self, event):
        if isinstance(event, ConnectionTerminated):
            return super().quic_event_received(event)
        if not hasattr(self, "_h3"):
            return  # still in the handshake
        if isinstance(event, StreamDataReceived) and event.stream_id in self._own:
            # What comes back has no header; aioquic takes it for a request's answer and closes the connection.
            return self.on_data(event.stream_id, event.data, event.end_stream)
        for found in self._h3.handle_event(event):
            if isinstance(found, WebTransportStreamDataReceived):
                self.on_data(found.stream_id, found.data, found.stream_ended)
            elif isinstance(found, DatagramReceived) and found.stream_id == self._session:
                self.on_datagram(found.data)
            elif isinstance(found, HeadersReceived) and found.stream_id == self._session:
                self.status = dict(found.headers).get(b":status", b"").decode()
                if self.status != "200":
                    self._closed_by_peer(0, f"the answer to CONNECT is {self.status}")
            elif isinstance(found, DataReceived) and found.stream_id == self._session:
                self._read_capsules(found.data, found.stream_ended)
        if isinstance(event, StreamReset):
            if event.stream_id == self._session:
                self._closed_by_peer(event.error_code, "the WebTransport session was reset")
            else:
                self.on_reset(event.stream_id, self._code_in(event.error_code))
        if self._session is None and self._h3.received_settings is not None:
            self._request()

    def _request(self):
        """The daemon has told its settings: asks for the session. Streams need not wait for the answer."""
        if not self._h3.received_settings.get(0x2B603742):  # SETTINGS_ENABLE_WEBTRANSPORT
            return self._closed_by_peer(0, "the server does not speak WebTransport draft 02")
        self._session = self._quic.get_next_available_stream_id()
        headers = {
            ":method": "CONNECT",
            ":protocol": "webtransport",
            ":scheme": "https",
            ":authority": self.host,
            ":path": "/weir",
            "sec-webtransport-http3-draft02": "1",
        }
        self._h3.send_headers(self._session, [(name.encode(), value.encode()) for name, value in headers.items()])
        self._transmit_soon()
        self.ready.set_result(None)

    def _read_capsules(self, data, ended):
        self._capsules += data
        while self._capsules:
            capsule = Buffer(data=self._capsules)
            try:
                kind, length = capsule.pull_uint_var(), capsule.pull_uint_var()
                body = capsule.pull_bytes(length)
            except BufferReadError:
                break
            self._capsules = self._capsules[capsule.tell() :]
            if kind == CLOSE_SESSION:
                return self._closed_by_peer(int.from_bytes(body[:4], "big"), body[4:].decode())
        if ended:
            self._closed_by_peer(0, "the WebTransport session ended")

    def _code_out(self, code):
        return FIRST_CODE + code + code // 0x1E

    def _code_in(self, code):
        shifted = code - FIRST_CODE
        return shifted - shifted // 0x1F


class WebSocket(asyncio.Protocol):
    """One channel, over TLS on the same port number of TCP, at the path `/weir`."""

    TLS = True
    PATH = "/weir"
    ONE_CHANNEL = True
    CHANNEL = 0
    room = 0
    client_closes = False

    def __init__(self, host):
        self._protocol = ClientProtocol(parse_uri(f"{'wss' if self.TLS else 'ws'}://{host}{self.PATH}"), max_size=None)
        self._incoming = self._outgoing = None
        self._deaf = False
        self._loop = asyncio.get_running_loop()
        self._keep_alive = None
        self.on_data = self.on_datagram = self.on_reset = self.on_closed = lambda *_: None
        self.on_pong = lambda payload: None
        self.pinged = []
        """What the daemon's pings held, all of which are answered."""
        self.close_code = None
        self.ready = self._loop.create_future()

    @classmethod
    async def dial(cls, host, port, certificate_sha256):
        """Connects to a daemon whose certificate (DER) has this SHA-256."""
        _, self = await asyncio.get_running_loop().create_connection(
            lambda: cls(f"{host}:{port}"), host, port, ssl=tls() if cls.TLS else None
        )
        try:
            if cls.TLS:
                der = self._transport.get_extra_info("ssl_object").getpeercert(binary_form=True)
                check_certificate(der, certificate_sha256)
            self._protocol.send_request(self._protocol.connect())
            self.transmit()
            await self.ready
            self._keep_alive = self._loop.call_later(KEEP_ALIVE, self._stay_alive)
        except BaseException:
            self.end()
            raise
        return self

    def open(self, unidirectional=True):
        return self.CHANNEL

    def write(self, stream, data, end=False):
        """One binary message, and none for the end of a stream that there is not."""
        if self._outgoing is not None:
            self._outgoing += data
        elif data or not end:
            self.write_fragment(data)

    @contextlib.contextmanager
    def one_message(self):
        """What is written meanwhile goes into one message."""
        self._outgoing = bytearray()
        yield self._outgoing
        data, self._outgoing = bytes(self._outgoing), None
        self.write_fragment(data)

    def write_fragment(self, data, first=True, last=True):
        """A part of a binary message."""
        if self._protocol.state is OPEN:
            (self._protocol.send_binary if first else self._protocol.send_continuation)(data, fin=last)
            self.transmit()

    def write_text(self, text):
        self._protocol.send_text(text.encode())
        self.transmit()

    def write_raw(self, data):
        """What no library would send."""
        self._transport.write(data)

    def ping(self, payload):
        if self._protocol.state is OPEN:
            self._protocol.send_ping(payload)
            self.transmit()

    def close(self, code, reason=""):
        """Sends a Close. The daemon's follows."""
        if self._protocol.state is OPEN:
            self._protocol.send_close(code, reason)
            self.transmit()

    def leave(self, code, reason):
        """Closes with a reason of at most 123 bytes."""
        self.close(min(4000 + code, 4999) if code else 1000, reason.encode()[:123].decode(errors="ignore"))

    def fall_silent(self, answer_pings=True):
        """Sends no pings any more."""
        self._keep_alive.cancel()
        self._deaf = not answer_pings

    def abort(self):
        """Is gone without a word."""
        self._transport.abort()

    def end(self):
        if self._keep_alive is not None:
            self._keep_alive.cancel()
        self._transport.close()

    def transmit(self):
        for data in self._protocol.data_to_send():
            if data and not self._transport.is_closing():
                self._transport.write(data)

    # What asyncio calls.

    def connection_made(self, transport):
        self._transport = transport

    def data_received(self, data):
        self._heard = self._loop.time()
        self._protocol.receive_data(data)
        events = self._protocol.events_received()
        if self._deaf:
            self._protocol.data_to_send()
        self.transmit()
        for event in events:
            self._take(event)
        if self._protocol.handshake_exc is not None and not self.ready.done():
            self.ready.set_exception(ConnectionError(str(self._protocol.handshake_exc)))

    def connection_lost(self, error):
        self._protocol.receive_eof()
        if not self.ready.done():
            self.ready.set_exception(ConnectionError(f"closed before there was a WebSocket: {error}"))
        self.close_code = code = self._protocol.close_code
        self.on_closed(0 if code == 1000 else code - 4000 if code >= 4000 else code, self._protocol.close_reason)

    def _take(self, event):
        if isinstance(event, Response):
            if self._protocol.handshake_exc is None:
                self.ready.set_result(None)
        elif event.opcode is Opcode.PING:
            self.pinged.append(bytes(event.data))
        elif event.opcode is Opcode.PONG:
            self.on_pong(bytes(event.data))
        elif event.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            if event.opcode is not Opcode.CONT:
                self._incoming = bytearray()
                self._text = event.opcode is Opcode.TEXT
            self._incoming += event.data
            if event.fin:
                data, self._incoming = bytes(self._incoming), None
                self.on_data(self.CHANNEL, None if self._text else data, True)

    def _stay_alive(self):
        self._keep_alive = self._loop.call_later(KEEP_ALIVE, self._stay_alive)
        if self._loop.time() - self._heard > SILENCE:
            return self.abort()
        self.ping(b"")


class PlainWebSocket(WebSocket):
    """The same without TLS, at the address for HTTP."""

    TLS = False


TRANSPORTS = {
    "quic": QuicTransport,
    "quic without datagrams": QuicWithoutDatagrams,
    "webtransport": WebTransport,
    "websocket": WebSocket,
    "plain websocket": PlainWebSocket,
}
