"""Keys of dicts and sets: those whose hash a guest can choose are counted, and what they cost is charged.

Texts hash with a secret. Numbers, and what is made of them, hash by a rule that
everybody knows: a guest can make keys that all land in one place of a table, where
each insertion compares with all before it. What that costs is not to be seen from
outside the table. So every key that is not tame is counted under its hash: a tuple
pays for the keys that it meets, when it is stored and when it is looked up, and
there are at most `TUPLES_MAX` of one hash. Other keys are looked up without asking
anybody; of these there are at most `COLLISIONS_MAX`. Honest keys seldom meet: -1
and -2 hash alike, so 2**n tuples of n such numbers do.

Tame is what nobody can choose the hash of, or what has it to itself: texts that are
not empty; None and truth values; integers below `APART`, which hash to themselves;
floats (at most 34 share a hash); what hashes by its address; and a tuple in which at
most one item is no such text, that item being tame and no tuple. Two items that a
guest knows the hash of are enough: one is varied, the other solved for. The empty
text hashes to 0, True to 1, and a tuple inside by the same known rule.

What this does not see: integers of different hashes that fill the places in which the
interpreter looks one after another. Looking for a key that is not there may then pass
half of a large dict; the limits of the processor end a call that does little else.

What was seen is remembered for `SEEN_MAX` such keys at a time, so a guest may store
a few more by storing that many others in between.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from sandbox.meter import Meter

COLLISIONS_MAX: Final = 32
TUPLES_MAX: Final = 512
SEEN_MAX: Final = 2**16
FEW: Final = 16  # keys of one hash that are forgotten when others need the room
COMPARED: Final = 4  # keys compared with per step
APART: Final = 2**61 - 1  # smaller integers hash to themselves
_CONSTANT: Final = frozenset({float, bool, type(None)})
_TEXT: Final = frozenset({str, bytes})


class Keys:
    """What one call has stored under hashes that a guest can choose."""

    __slots__ = ("_charge", "_seen", "_step", "_together", "crowded", "spent")

    def __init__(self, meter: Meter) -> None:
        self._charge = meter.charge
        self._step = meter.step
        self._seen: dict[int, Any] = {}
        self._together: dict[int, dict[Any, None]] = {}  # by hash, once two different keys have it
        self.crowded = False  # whether there are any such
        self.spent = 0  # steps, on meeting them

    def forget(self) -> None:
        """Begin another call."""
        if self._seen:
            self._seen = {}
            self._together = {}
            self.crowded = False
            self.spent = 0

    def is_tame(self, key: Any) -> bool:
        """Whether `key` need not be counted: decided without hashing it, and without walking far."""
        kind = type(key)
        if kind in _TEXT or kind in _CONSTANT:
            return True
        if kind is int:
            return bool(-APART < key < APART)
        if kind is tuple:
            return self._known(key) < 2
        hasher: Any = kind.__hash__
        return hasher in (object.__hash__, None)  # by its address, or not at all

    def _known(self, items: tuple[Any, ...]) -> int:
        """Return how many of `items` a guest knows the hash of, or 2 as soon as it is clear that they are
        too many."""
        if all(items) and _TEXT.issuperset(set(map(type, items))):
            return 0
        found = 0
        for item in items:
            kind = type(item)
            if kind in _TEXT and item:
                continue
            found += 1
            if found > 1 or (self._known(item) if kind is tuple else not self.is_tame(item)):
                return 2
        return found

    def count(self, key: Any) -> None:
        """Note that `key` is stored. It has been walked with fuel, if hashing it recurses."""
        self._step()
        hashed = hash(key)
        together = self._together.get(hashed)
        if together is None:
            if len(self._seen) >= SEEN_MAX:
                self._seen = {}
            first = self._seen.setdefault(hashed, key)
            if first is key or first == key:
                return
            together = self._begin(hashed, first)
        elif key in together:
            self._meet(len(together))
            return
        most = TUPLES_MAX if type(key) is tuple else COLLISIONS_MAX
        if len(together) >= most:
            raise ValueError(f"more than {most} keys with one hash; use keys of text")
        self._meet(len(together))
        together[key] = None

    def _begin(self, hashed: int, first: Any) -> dict[Any, None]:
        if len(self._together) >= SEEN_MAX:
            kept = {number: keys for number, keys in self._together.items() if len(keys) > FEW}
            if len(kept) > SEEN_MAX // 2:
                raise ValueError("too many keys that share their hash with others; use keys of text")
            self._together = kept
        self.crowded = True
        together = self._together[hashed] = {first: None}
        return together

    def _meet(self, count: int) -> None:
        steps = count // COMPARED
        self._charge(steps)
        self.spent += steps

    def meet(self, keys: Iterable[Any]) -> None:
        """Charge for what the tuples among `keys` meet in a table, when any keys of this call meet."""
        for key in keys:
            if type(key) is tuple:
                together = self._together.get(hash(key))
                self._charge(1)
                if together is not None:
                    self._meet(len(together))
