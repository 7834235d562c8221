"""What the engine and a zygote say to each other.

One message per packet of a sequenced-packet socket. Both ends are trusted: a
zygote never sees a tenant's byte, and its workers do not hold this socket.
"""

from __future__ import annotations

from typing import Final

import msgspec

PACKET_BYTES_MAX: Final = 64 * 1024


class _Message(msgspec.Struct, tag_field="type", forbid_unknown_fields=True, kw_only=True):
    pass


# ---- engine to zygote -----------------------------------------------------------


class Begin(_Message, tag="begin"):
    """The first message: what the zygote's workers are."""

    entry: str  # "package.module:function": called once with the argument, returns what each worker calls
    argument: str  # handed to it
    memory_bytes: int
    cpu_life_s: int
    mandatory: list[str]  # layers, beside those that always are
    with_namespaces: bool


class Spawn(_Message, tag="spawn"):
    """Fork a worker; its end of the channel travels with this message."""

    serial: int
    attempt: str = ""  # make this attempt of the self-test in place of serving


# ---- zygote to engine -----------------------------------------------------------


class Warm(_Message, tag="warm"):
    """Everything is imported; workers can be asked for."""


class Failed(_Message, tag="failed"):
    """The zygote cannot serve, and ends."""

    why: str


class Spawned(_Message, tag="spawned"):
    """A descriptor of the new process travels with this message."""

    serial: int


class NotSpawned(_Message, tag="not_spawned"):
    serial: int
    why: str


class Died(_Message, tag="died"):
    serial: int
    status: int  # as `waitpid` gives it
    cpu_s: float


ToZygote = Begin | Spawn
FromZygote = Warm | Failed | Spawned | NotSpawned | Died

_encoder = msgspec.msgpack.Encoder()
_to_zygote: msgspec.msgpack.Decoder[ToZygote] = msgspec.msgpack.Decoder(ToZygote)
_from_zygote: msgspec.msgpack.Decoder[FromZygote] = msgspec.msgpack.Decoder(FromZygote)


def encode(message: ToZygote | FromZygote) -> bytes:
    return _encoder.encode(message)


def decode_to_zygote(packet: bytes) -> ToZygote:
    return _to_zygote.decode(packet)


def decode_from_zygote(packet: bytes) -> FromZygote:
    return _from_zygote.decode(packet)
