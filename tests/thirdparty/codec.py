"""The frames of weir/1: postcard encoding and framing, written from docs/protocol.md alone.

A frame, a struct and an enum variant are all a `Record`: named fields, and for enums a `kind`. The tables below are
those of the document, in its own notation; everything that encodes or decodes is made from them.
"""

import re

CONTROL_LIMIT = 1 << 20
"""Largest body of a frame that carries no payload."""

PAYLOAD_OVERHEAD = 96
"""How much larger than its payload the body of a `Publish` or `Message` may be."""


class Malformed(ValueError):
    """Bytes that are not a frame."""


class TooLarge(ValueError):
    """A frame longer than its limit, refused by its length alone."""


class Record(dict):
    """Fields by name, also as attributes. `kind` is the variant of an enum, or the name of a frame."""

    def __init__(self, kind=None, /, **fields):
        super().__init__(fields)
        self.kind = kind

    def __getattr__(self, name):
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"{self.kind} has no field {name}") from None

    def __eq__(self, other):
        return isinstance(other, Record) and self.kind == other.kind and dict.__eq__(self, other)

    def __repr__(self):
        return f"{self.kind or ''}({', '.join(f'{name}={value!r:.80}' for name, value in self.items())})"


# Primitive types. Each has encode(out, value) and decode(body, at) -> (value, at), and what the vectors need.


class Int:
    """An unsigned integer of so many bits, as LEB128."""

    def __init__(self, bits):
        self.bits = bits

    def encode(self, out, value):
        if not 0 <= value < 1 << self.bits:
            raise ValueError(f"{value} is no u{self.bits}")
        while value >= 0x80:
            out.append(value & 0x7F | 0x80)
            value >>= 7
        out.append(value)

    def decode(self, body, at):
        value = shift = 0
        while True:
            if at >= len(body):
                raise Malformed("ends inside a varint")
            byte = body[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if value >> self.bits:
                raise Malformed(f"a varint above {self.bits} bits")
            if byte < 0x80:
                return value, at
            if shift >= self.bits:
                raise Malformed(f"a varint too long for {self.bits} bits")

    def from_json(self, value):
        return int(value)


U32, U64 = Int(32), Int(64)


class Bool:
    def encode(self, out, value):
        out.append(1 if value else 0)

    def decode(self, body, at):
        if body[at : at + 1] not in (b"\0", b"\1"):
            raise Malformed("not a bool")
        return body[at] == 1, at + 1

    def from_json(self, value):
        return value


class Bytes:
    """Bytes behind their length, or exactly `size` of them without."""

    def __init__(self, size=None):
        self.size = size

    def encode(self, out, value):
        if self.size is None:
            U64.encode(out, len(value))
        elif len(value) != self.size:
            raise ValueError(f"{len(value)} bytes instead of {self.size}")
        out += value

    def decode(self, body, at):
        size = self.size
        if size is None:
            size, at = U64.decode(body, at)
        if size > len(body) - at:
            raise Malformed(f"{size} bytes, of which {len(body) - at} are there")
        return bytes(body[at : at + size]), at + size

    def from_json(self, value):
        return bytes.fromhex(value)


class Str(Bytes):
    def encode(self, out, value):
        super().encode(out, value.encode())

    def decode(self, body, at):
        value, at = super().decode(body, at)
        try:
            return value.decode(), at
        except UnicodeDecodeError as error:
            raise Malformed(f"not UTF-8: {error}") from None

    def from_json(self, value):
        return value


class Option:
    def __init__(self, item):
        self.item = item

    def encode(self, out, value):
        out.append(0 if value is None else 1)
        if value is not None:
            self.item.encode(out, value)

    def decode(self, body, at):
        there, at = Bool().decode(body, at)
        return self.item.decode(body, at) if there else (None, at)

    def from_json(self, value):
        return None if value is None else self.item.from_json(value)


class Vec:
    def __init__(self, item):
        self.item = item

    def encode(self, out, value):
        U64.encode(out, len(value))
        for item in value:
            self.item.encode(out, item)

    def decode(self, body, at):
        count, at = U64.decode(body, at)
        items = []
        for _ in range(count):
            item, at = self.item.decode(body, at)
            items.append(item)
        return items, at

    def from_json(self, value):
        return [self.item.from_json(item) for item in value]


class Tuple:
    def __init__(self, *items):
        self.items = items

    def encode(self, out, value):
        for item, part in zip(self.items, value, strict=True):
            item.encode(out, part)

    def decode(self, body, at):
        parts = []
        for item in self.items:
            part, at = item.decode(body, at)
            parts.append(part)
        return tuple(parts), at

    def from_json(self, value):
        return tuple(item.from_json(part) for item, part in zip(self.items, value, strict=True))


class Struct:
    """Named fields in wire order, written as in the document: `alias: u32, name: str`."""

    def __init__(self, fields, kind=None):
        self.kind = kind
        parts = re.findall(r"(\w+): ((?:[^,<(]|<.*?>|\(.*?\))+)", fields)
        self.fields = [(name, parse(text)) for name, text in parts]

    def encode(self, out, value):
        if set(value) != {name for name, _ in self.fields}:
            raise ValueError(f"{self.kind} has the fields {[name for name, _ in self.fields]}, not {list(value)}")
        for name, item in self.fields:
            item.encode(out, value[name])

    def decode(self, body, at):
        record = Record(self.kind)
        for name, item in self.fields:
            record[name], at = item.decode(body, at)
        return record, at

    def from_json(self, value):
        if set(value) != {name for name, _ in self.fields}:
            raise ValueError(f"{self.kind} has other fields than {list(value)}")
        return Record(self.kind, **{name: item.from_json(value[name]) for name, item in self.fields})


class Enum:
    """Variants by index. A variant with one field without a name has it as `value`."""

    def __init__(self, *variants):
        self.variants = []
        for variant in variants:
            kind, _, fields = variant.partition(" ")
            self.variants.append(Struct(fields if ":" in fields or not fields else f"value: {fields}", kind))

    def encode(self, out, value):
        value = Record(value) if isinstance(value, str) else value
        index = [variant.kind for variant in self.variants].index(value.kind)
        U32.encode(out, index)
        self.variants[index].encode(out, value)

    def decode(self, body, at):
        index, at = U32.decode(body, at)
        if index >= len(self.variants):
            raise Malformed(f"there is no variant {index}")
        return self.variants[index].decode(body, at)

    def from_json(self, value):
        kind, fields = (value, {}) if isinstance(value, str) else next(iter(value.items()))
        variant = next(variant for variant in self.variants if variant.kind == kind)
        unnamed = [name for name, _ in variant.fields] == ["value"]
        return variant.from_json({"value": fields} if unnamed else fields)


TYPES = {"u32": U32, "u64": U64, "bool": Bool(), "bytes": Bytes(), "str": Str()}


def parse(text):
    """The type that the document writes so: `Option<str>`, `[u8; 16]`, `Vec<(u64, u64)>` …"""
    text = text.strip()
    if text in TYPES:
        return TYPES[text]
    if size := re.fullmatch(r"\[u8; (\d+)\]", text):
        return Bytes(int(size[1]))
    if item := re.fullmatch(r"(Option|Vec)<(.*)>", text):
        return {"Option": Option, "Vec": Vec}[item[1]](parse(item[2]))
    if items := re.fullmatch(r"\((.*)\)", text):
        return Tuple(*map(parse, items[1].split(",")))
    raise ValueError(f"unknown type {text}")


# The tables of docs/protocol.md.

TYPES["Limits"] = Struct("payload: u64, subscriptions: u32, window: u32")
TYPES["Position"] = Struct("run: u64, position: u64")
TYPES["Resume"] = Struct("topic: str, epoch: u64, next: u64")
TYPES["Had"] = Struct("topic: u32, ranges: Vec<(u64, u64)>")
TYPES["Start"] = Enum(
    "New",
    "Latest",
    "All",
    "Last u64",
    "Sequence u64",
    "Resume since: Position, topics: Vec<Resume>",
    "ResumeWith since: Position, topics: Vec<Resume>, had: Vec<Had>",
)
TYPES["Delivery"] = Enum("Ordered", "Unordered", "Realtime")
TYPES["Lag"] = Enum("Oldest", "Newest", "Disconnect")
TYPES["GapCause"] = Enum("Evicted", "Skipped", "Aborted", "Late", "Lost", "Had", "Expired")
TYPES["Which"] = Enum("Latest", "Sequence u64", "Digest [u8; 32]")
TYPES["TopEntry"] = Struct(
    "digest: [u8; 32], count: u64, since: u64, sequence: u64, size: u64, payload: Option<bytes>"
)

CLIENT_FRAME = Enum(
    "Hello version: u32, producer: [u8; 16], token: Option<str>, agent: str",
    "Topic alias: u32, name: str",
    "Publish alias: u32, number: u64, stamp: u64, payload: bytes",
    "Begin alias: u32, number: u64, stamp: u64, size: u64",
    "Chunk bytes: bytes",
    "End digest: [u8; 32]",
    "Subscribe request: u32, filter: str, start: Start, delivery: Delivery, lag: Lag, deadline: u32",
    "Unsubscribe subscription: u32",
    "Get request: u32, topic: str, which: Which",
    "Top request: u32, topic: str, k: u32",
    "Ping request: u32",
    "Repair subscription: u32, topic: u64, holes: Vec<(u64, u64)>",
    "Goodbye code: u32, reason: str",
    "Knows frames: u32",
    "Token request: u32, token: str",
)

DAEMON_FRAME = Enum(
    "Welcome version: u32, session: u64, run: u64, clock: u64, limits: Limits, agent: str",
    "For request: u32",
    "Topic id: u64, epoch: u64, next: u64, name: str",
    "Message topic: u64, sequence: u64, count: u64, stamp: u64, payload: bytes",
    "Begin topic: u64, sequence: u64, stamp: u64, size: u64",
    "Chunk bytes: bytes",
    "End count: u64, digest: [u8; 32]",
    "Abort code: u32",
    "Gap topic: u64, first: u64, last: u64, cause: GapCause",
    "Head topic: u64, sequence: u64",
    "Receipt alias: u32, number: u64, sequence: u64, count: u64, since: u64, digest: [u8; 32], duplicate: bool",
    "Acknowledge alias: u32, floor: u64, seen: u64",
    "Rejected alias: u32, number: u64, code: u32, reason: str",
    "Subscribed request: u32, position: u64",
    "Ended request: u32, code: u32, reason: str",
    "Top request: u32, entries: Vec<TopEntry>",
    "Pong request: u32, clock: u64",
    "Failed request: u32, code: u32, reason: str",
    "Drain within: u32, reason: str",
    "Goodbye code: u32, reason: str, retry: bool",
    "Mark position: u64",
    "Notice code: u32, reason: str",
    "Authorized request: u32, lifetime: u64, name: str",
)

FRAMES = {"daemon": CLIENT_FRAME, "client": DAEMON_FRAME}
"""The table of frames by who receives them."""


# Framing.


def encode(frame, to="daemon"):
    """One whole frame, with its length."""
    body = bytearray()
    FRAMES[to].encode(body, frame)
    out = bytearray()
    U32.encode(out, len(body))
    return bytes(out + body)


def decode(body, to="client"):
    """The frame that a body is. It must be used up exactly."""
    frame, at = FRAMES[to].decode(body, 0)
    if at != len(body):
        raise Malformed(f"{len(body) - at} bytes after the last field of {frame.kind}")
    return frame


class FrameReader:
    """Cuts a stream into frames, however it is delivered."""

    def __init__(self, to="client", limit=CONTROL_LIMIT):
        self.to = to
        self.limit = limit
        self._pending = bytearray()

    def feed(self, data):
        """Takes what has arrived; yields each frame that is whole by now."""
        self._pending += data
        while (body := self._cut()) is not None:
            yield decode(body, self.to)

    def finish(self):
        """The stream has ended: nothing may be left."""
        if self._pending:
            raise Malformed("the stream ends inside a frame")

    def _cut(self):
        pending = self._pending
        size = next((i + 1 for i, byte in enumerate(pending[:5]) if byte < 0x80), None)
        if size is None:
            if len(pending) >= 5:
                raise Malformed("a length of more than five bytes")
            return None
        length, _ = U32.decode(pending, 0)
        if length == 0 or (size > 1 and pending[size - 1] == 0):
            raise Malformed("a length that is zero or padded")
        if length > self.limit:
            raise TooLarge(f"a frame of {length} bytes, above {self.limit}")
        if len(pending) < size + length:
            return None
        body = bytes(pending[size : size + length])
        del pending[: size + length]
        return body
