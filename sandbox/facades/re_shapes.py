"""Which patterns stop where their match ends: asked by `re_`, for the price of many matches in one text.

A search may read far beyond the match that it returns: `a.*b|a` reads to the end
of the text for a `b`, and then takes the `a`. Every match may cost the whole rest of
the text, which is what such patterns pay. A sequence of characters and classes whose
repeats cannot be confused with what follows them goes one way only, so it stops with
its match: `\\d+`, `<[^>]*>`, `(\\w+)=(\\w+)`. That is told from the text of the pattern
alone; whatever is not understood counts as reading on.
"""

from __future__ import annotations

import string
from typing import Final

_OTHER: Final = 128  # stands for every character outside of ASCII
_ALL: Final = frozenset(range(_OTHER + 1))
_DIGITS: Final = frozenset(map(ord, string.digits))
_WORD: Final = _DIGITS | frozenset(map(ord, string.ascii_letters + "_"))
_SPACE: Final = frozenset(map(ord, "\t\n\f\r "))
_CLASSES: Final = {
    "d": _DIGITS,
    "w": _WORD,
    "s": _SPACE,
    "D": _ALL - _DIGITS,
    "W": _ALL - _WORD,
    "S": _ALL - _SPACE,
    "n": frozenset({10}),
    "t": frozenset({9}),
    "r": frozenset({13}),
}
_GROUPS: Final = ("(?:", "(?P<", "(")
_REPEATS: Final = "*+?{"


class _Unclear(Exception):
    """The pattern is not one of the simple ones."""


class _Reader:
    def __init__(self, pattern: str, folded: bool) -> None:
        self._pattern = pattern
        self._folded = folded
        self._at = 0

    def _next(self) -> str:
        if self._at >= len(self._pattern):
            raise _Unclear
        self._at += 1
        return self._pattern[self._at - 1]

    def _ahead(self, text: str) -> bool:
        return self._pattern.startswith(text, self._at)

    def _one(self, character: str) -> frozenset[int]:
        code = min(ord(character), _OTHER)
        if self._folded and (character.isalpha() or code == _OTHER):
            if code == _OTHER or character in "kKsS":  # those have relatives outside of ASCII
                return frozenset({_OTHER, *map(ord, "kKsS")})
            return frozenset({ord(character.lower()), ord(character.upper())})
        return frozenset({code})

    def _escaped(self) -> frozenset[int]:
        character = self._next()
        if character in _CLASSES:
            return _CLASSES[character]
        if character.isalnum():
            raise _Unclear
        return self._one(character)

    def _member(self) -> frozenset[int]:
        """Return an item of a class in brackets."""
        if self._ahead("[:"):
            raise _Unclear
        character = self._next()
        first = self._escaped() if character == "\\" else self._one(character)
        if self._ahead("-") and not self._ahead("-]"):
            self._at += 1
            last = self._next()
            if character == "\\" or last in "\\[" or (self._folded and not (character + last).isdigit()):
                raise _Unclear
            return frozenset(range(min(ord(character), _OTHER), min(ord(last), _OTHER) + 1))
        return first

    def _brackets(self) -> frozenset[int]:
        negated = self._ahead("^")
        self._at += negated
        found = self._member()
        while not self._ahead("]"):
            found |= self._member()
        self._at += 1
        return (_ALL - found) | {_OTHER} if negated else found

    def _repeat(self) -> tuple[bool, bool]:
        """Return whether the item before may be left out, and whether it may come more than once."""
        if self._at >= len(self._pattern) or self._pattern[self._at] not in _REPEATS:
            return False, False
        sign = self._next()
        low, high = {"*": ("0", ""), "+": ("1", ""), "?": ("0", "1"), "{": ("", "")}[sign]
        if sign == "{":
            stop = self._pattern.find("}", self._at)
            low, comma, high = self._pattern[self._at : max(stop, self._at)].partition(",")
            if not low.isdigit() or not (high.isdigit() or not high):
                raise _Unclear
            high = high if comma else low
            self._at = stop + 1
        self._at += self._ahead("?")
        return int(low) == 0, high != "1"

    def items(self) -> list[tuple[frozenset[int], bool, bool]]:
        """Return what the pattern is a sequence of: characters, may be left out, may come again."""
        found = []
        while self._at < len(self._pattern):
            group = next((start for start in _GROUPS if self._ahead(start)), None)
            if group is not None:
                self._at += len(group)
                if group == "(?P<":
                    self._at = self._pattern.find(">", self._at) + 1
                if self._ahead("?"):
                    raise _Unclear
                continue
            character = self._next()
            if character in ")^$":
                if self._at < len(self._pattern) and self._pattern[self._at] in _REPEATS:
                    raise _Unclear
                continue
            if character in "|*+?{":
                raise _Unclear
            if character == "\\" and (self._ahead("b") or self._ahead("B")):
                self._at += 1
                continue
            if character == "\\":
                characters = self._escaped()
            elif character == "[":
                characters = self._brackets()
            else:
                characters = _ALL if character == "." else self._one(character)
            found.append((characters, *self._repeat()))
        return found


def reads_on(pattern: str | bytes, folded: bool) -> bool:
    """Whether a search for `pattern` may read far beyond its match.

    Args:
      folded: upper and lower case are the same.
    """
    text = pattern.decode("latin-1") if isinstance(pattern, bytes) else pattern
    if not any(sign in text for sign in "*+{"):
        return False  # no longer than the pattern
    try:
        items = _Reader(text, folded).items()
    except _Unclear:
        return True
    for i, (characters, optional, repeated) in enumerate(items):
        if not (optional or repeated):
            continue
        for after, may_miss, _ in items[i + 1 :]:
            if characters & after:
                return True
            if not may_miss:
                break
    return False
