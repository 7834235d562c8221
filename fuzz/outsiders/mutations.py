"""Bytes that were valid once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from hypothesis import strategies as st

EDITS_MAX: Final = 5
HURTFUL: Final = (
    b"",
    b"\x00",
    b"\xff",
    b"\x7f",
    b"\x80",
    b"\xc1",  # no MessagePack at all
    b"\xdd\xff\xff\xff\xff",  # an array of 4 billion
    b"\xdf\xff\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff",
    b"\xd9\xff",
    b"\xca\x7f\xc0\x00\x00",  # not a number
    b"\xcf" + b"\xff" * 8,
    b"\xed\xa0\x80",  # half a surrogate pair
    b"\\ud800",
    b'"',
    b"{",
    b"]",
    b"[" * 200,
    b'{"a":' * 200,
    b"1e999",
    b"-0",
    b"-0.0",
    b"NaN",
    b"18446744073709551616",
    b"9007199254740993",
    b"9" * 400,
    b"null",
    b"true",
    b'{"$integer":"AAAA"}',
    b'{"$bytes":"="}',
    b'{"$undefined":1}',
    b"\r\n",
    b"\r\n\r\n",
    b"\r\n Folded: line",
    b"Content-Length: 99999999999999999999",
    b"Transfer-Encoding: chunked",
    b"%00",
    b"%ff%fe",
    b"../",
)

Draw = Callable[[st.SearchStrategy[Any]], Any]


@st.composite
def mutated(draw: Draw, samples: Sequence[bytes]) -> bytes:
    """Return one of `samples` with a few things done to it."""
    data = bytearray(draw(st.sampled_from(list(samples))))
    for _ in range(draw(st.integers(0, EDITS_MAX))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 8) | st.integers(0, 64)))
        match draw(st.integers(0, 5)):
            case 0:
                data[start:end] = draw(st.sampled_from(HURTFUL))
            case 1:
                data[start:end] = draw(st.binary(max_size=6))
            case 2:
                del data[start:end]
            case 3:
                data[start:start] = data[start:end] * draw(st.integers(1, 20))
            case 4:
                other = draw(st.sampled_from(list(samples)))
                cut = draw(st.integers(0, len(other)))
                data[start:] = other[cut:]
            case _ if start < end:
                data[start] ^= 1 << draw(st.integers(0, 7))
    return bytes(data)
