"""Taking the words out of a capsule, so that it can be shown to somebody who must not read them.

Every string value of the documents, the arguments and the identity is replaced by letters of the
same length: the same string by the same letters wherever it stands, different strings by
different ones. The letters come from a key that is thrown away. What stays, because calls
would not do the same without it:

* ids of documents, and the names of fields and tables;
* strings that the code itself contains between quotes ("draft", "admin");
* numbers, times and the order of things that are not text. Bytes are blanked.

Text that a function takes apart (a date in a string, a URL) may lead it another way after that;
the maker of the capsule runs it and says so.
"""

from __future__ import annotations

import hashlib
import os
from string import ascii_lowercase
from typing import Final

import attrs

from engine.replay.capsule import Capsule
from storage import Catalog, DocumentWrite
from tidewell.errors import InvalidId
from tidewell.ids import decode_id
from tidewell.values import Value, pack, unpack, unpack_trusted

TRIES_MAX: Final = 50  # for letters that are not taken, before they grow longer


@attrs.define
class Redaction:
    """What has been replaced by what. Forgotten with the key when the capsule is made."""

    _catalog: Catalog
    _sources: tuple[bytes, ...]
    _key: bytes = attrs.field(factory=lambda: os.urandom(32))
    _replaced: dict[str, str] = attrs.field(factory=dict, init=False)
    _taken: set[str] = attrs.field(factory=set, init=False)

    @property
    def count(self) -> int:
        """How many different strings were replaced."""
        return len(self._replaced)

    def value(self, value: Value) -> Value:
        if type(value) is str:
            return self.text(value)
        if type(value) is bytes:
            return bytes(len(value))
        if type(value) is list:
            return [self.value(item) for item in value]
        if type(value) is dict:
            return {name: self.value(item) for name, item in value.items()}
        return value

    def text(self, text: str) -> str:
        if not text or self._stays(text):
            return text
        if text not in self._replaced:
            letters = self._letters(text)
            self._taken.add(letters)
            self._replaced[text] = letters
        return self._replaced[text]

    def _stays(self, text: str) -> bool:
        try:
            table, _ = decode_id(text)
        except InvalidId:
            quoted = text.encode()
            return any(b'"%b"' % quoted in source or b"'%b'" % quoted in source for source in self._sources)
        return table in self._catalog.by_number

    def _letters(self, text: str) -> str:
        attempt = 0
        while True:
            # Longer only where all of that length may be taken: a letter has 26 others.
            length = len(text) + attempt // TRIES_MAX
            seed = text.encode() + attempt.to_bytes(4, "big")
            drawn = hashlib.shake_256(self._key + seed).digest(length)
            letters = "".join(ascii_lowercase[byte % 26] for byte in drawn)
            if letters not in self._taken and not self._stays(letters):
                return letters
            attempt += 1


def redact_capsule(capsule: Capsule) -> tuple[Capsule, Redaction]:
    """Return the capsule without its words. Its record does not fit it any more; run it and make another."""
    redaction = Redaction(capsule.catalog, tuple(module.source for module in capsule.code.modules))
    record = attrs.evolve(
        capsule.record,
        args=pack(redaction.value(unpack(capsule.record.args))),
        identity=pack(redaction.value(unpack(capsule.record.identity))),
    )
    read = tuple(_redacted(write, redaction) for write in capsule.read)
    return attrs.evolve(capsule, record=record, read=read, redacted=True), redaction


def _redacted(write: DocumentWrite, redaction: Redaction) -> DocumentWrite:
    assert write.body is not None, "a capsule holds documents that were there"
    return attrs.evolve(write, body=pack(redaction.value(unpack_trusted(write.body))))
