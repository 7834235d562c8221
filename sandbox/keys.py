"""Keys of dicts and sets: keys that hash to one place are counted, and refused when they are many.

Texts hash with a secret. Integers, and what is made of them, hash by a rule that
everybody knows: a guest can make keys that all land in one place of a table, where
each insertion compares with all before it. What that costs is not to be seen from
outside the table, so it is bounded instead: at most `COLLISIONS_MAX` different keys
with the same hash are stored in one call. Honest keys never come near two.

Asked wherever a key is stored; keys that are only looked up meet no more than what
was stored.

What is not counted: floats (at most 34 share a hash), small integers and tuples of
such (to find colliding ones takes billions of tries beforehand), and what hashes by
its address. What was seen is remembered for `SEEN_MAX` such keys at a time, so a
guest may store a few dozen more by storing that many others in between.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

COLLISIONS_MAX: Final = 64
SEEN_MAX: Final = 2**16
APART: Final = 2**61 - 1  # smaller integers hash to themselves
_TAME: Final = frozenset({str, bytes, float, bool, type(None)})


class Keys:
    """What one call has stored under hashes that a guest can choose."""

    __slots__ = ("_charge", "_seen", "_together")

    def __init__(self, charge: Callable[[int], None]) -> None:
        self._charge = charge
        self._seen: dict[int, Any] = {}
        self._together: dict[int, dict[Any, None]] = {}  # by hash, once two different keys have it

    def forget(self) -> None:
        """Begin another call."""
        if self._seen:
            self._seen = {}
            self._together = {}

    def is_tame(self, key: Any) -> bool:
        """Whether nobody can choose the hash of `key`: decided without hashing it."""
        kind = type(key)
        if kind in _TAME:
            return True
        if kind is int:
            return bool(-APART < key < APART)
        if kind is tuple:
            return all(map(self.is_tame, key))
        hasher: Any = kind.__hash__
        return hasher in (object.__hash__, None)  # by its address, or not at all

    def count(self, key: Any) -> None:
        """Note that `key` is stored. It has been walked with fuel, if hashing it recurses."""
        self._charge(1)
        hashed = hash(key)
        together = self._together.get(hashed)
        if together is None:
            if len(self._seen) >= SEEN_MAX:
                self._seen = {}
            first = self._seen.setdefault(hashed, key)
            if first is key or first == key:
                return
            together = self._together[hashed] = {first: None}
        if key in together:
            return
        if len(together) >= COLLISIONS_MAX or len(self._together) > SEEN_MAX:
            raise ValueError(f"more than {COLLISIONS_MAX} keys with one hash; use keys of text")
        together[key] = None
