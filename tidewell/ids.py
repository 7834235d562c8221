"""Document ids: a table number, 16 bytes and a checksum, as lower-case base32.

The form is that of `sync-protocol.md` 12.1, so that tools which take ids apart
keep working. To user code an id is opaque text.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from tidewell.errors import InvalidId

INTERNAL_ID_BYTES: Final = 16
USER_TABLE_FIRST: Final = 10_001  # tables of the app are numbered from here, system tables below

_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_DIGITS: Final = {character: index for index, character in enumerate(_ALPHABET)}
_PAIRS: Final = [a + b for a in _ALPHABET for b in _ALPHABET]
_VERSION: Final = 0


def encode_id(table_number: int, internal_id: bytes) -> str:
    """Return the id of a document.

    Args:
      table_number: 1 to 2**32 - 1.
      internal_id: 16 bytes.
    """
    assert 1 <= table_number < 2**32, table_number
    assert len(internal_id) == INTERNAL_ID_BYTES, internal_id
    body = _varint(table_number) + internal_id
    footer = _fletcher16(body) ^ _VERSION
    return _to_base32(body + footer.to_bytes(2, "little"))


@lru_cache(maxsize=4096)
def decode_id(text: str) -> tuple[int, bytes]:
    """Return (table number, internal id).

    Raises:
      InvalidId: `text` is not an id; length, alphabet, checksum and the one
        accepted spelling are all checked.
    """
    if not 31 <= len(text) <= 37:
        raise InvalidId(f"{text[:40]!r} is not a document id")
    try:
        number = 0
        for character in text:
            number = number << 5 | _DIGITS[character]
    except KeyError:
        raise InvalidId(f"{text!r} is not a document id") from None
    length = len(text) * 5 // 8
    data = (number >> (len(text) * 5 - length * 8)).to_bytes(length, "big")
    body, footer = data[:-2], int.from_bytes(data[-2:], "little")
    table_number, start = _read_varint(body)
    internal_id = body[start:]
    if (
        table_number < 1
        or len(internal_id) != INTERNAL_ID_BYTES
        or footer != _fletcher16(body) ^ _VERSION
        or encode_id(table_number, internal_id) != text
    ):
        raise InvalidId(f"{text!r} is not a document id")
    return table_number, internal_id


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _read_varint(data: bytes) -> tuple[int, int]:
    """Return (number, bytes used); (0, 0) for what is not a number of at most 32 bits."""
    number = 0
    for index, byte in enumerate(data[:5]):
        number |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return (number, index + 1) if number < 2**32 else (0, 0)
    return 0, 0


def _fletcher16(data: bytes) -> int:
    a = b = 0
    for byte in data:
        a = (a + byte) & 0xFF
        b = (b + a) & 0xFF
    return b << 8 | a


def _to_base32(data: bytes) -> str:
    bits = len(data) * 8
    digits = -(-bits // 5)
    number = int.from_bytes(data, "big") << (digits * 5 - bits)
    odd = digits % 2
    text = [_PAIRS[number >> shift & 0x3FF] for shift in range((digits - odd) * 5 - 10 + odd * 5, -1, -10)]
    if odd:
        text.append(_ALPHABET[number & 0x1F])
    return "".join(text)
