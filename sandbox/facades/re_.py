"""`re` on RE2: linear in the length of the text, whatever the pattern.

The price is RE2's language: no look-around, no back references in patterns, and
`\\d`, `\\w`, `\\s` mean ASCII. A pattern that needs them is refused with a message
that says so. Work is charged by text and program size before it is done. Nothing
compiled is kept: a pattern and its automata live as long as the guest holds it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final, NoReturn

import re2  # type: ignore[import-untyped]  # a compiled package without stubs

from sandbox import costs, policy
from sandbox.facades.base import Facade, integer
from sandbox.facades.re_shapes import reads_on
from sandbox.faces import Face
from sandbox.host import HostObject

if TYPE_CHECKING:
    from sandbox.guest import GuestRuntime

PATTERN_MAX: Final = 2_000
MEMORY_MAX: Final = 2**21  # of one compiled pattern and its automaton
COMPILE_STEPS: Final = 200
CHARACTER_STEPS: Final = 32  # for a character of a pattern
MATCH_STEPS: Final = 6  # for a match, beside its groups and the text
PROGRAM_STEP: Final = 32  # instructions that are as cheap as one
GROUPS_STEP: Final = 6  # the same, where groups have to be told
AHEAD_BYTES: Final = 256  # read per step beyond a match
STOPS_BYTES: Final = 512  # at most, by a pattern that stops where its match ends
FLAGS: Final = {
    "IGNORECASE": 2,
    "I": 2,
    "MULTILINE": 8,
    "M": 8,
    "DOTALL": 16,
    "S": 16,
    "ASCII": 256,
    "A": 256,
}
_LETTERS: Final = ((2, "i"), (8, "m"), (16, "s"))
_MISSING: Final = object()


class RegexError(ValueError):
    """A pattern that is not one. Guests know it as `re.error`."""


class Match(HostObject):
    __slots__ = ("_match", "_pattern", "lastindex", "pos", "re", "string")
    _exposed_ = frozenset(
        {"end", "expand", "group", "groupdict", "groups", "lastindex", "pos", "re", "span", "start", "string"}
    )

    def __init__(self, pattern: Pattern, match: Any, source: Any) -> None:
        self._match = match
        self._pattern = pattern
        self.re = pattern
        self.string = source
        self.pos = 0
        found = [i for i in range(1, pattern.groups + 1) if match.start(i) >= 0]
        self.lastindex = found[-1] if found else None

    def _index(self, group: Any) -> Any:
        if type(group) is str or isinstance(group, int):
            return group
        raise IndexError("no such group")

    def _position(self, group: Any) -> int:
        self._pattern._runtime.meter.charge(1)
        index = self._pattern.groupindex.get(group) if type(group) is str else self._index(group)
        if index is None:
            raise IndexError("no such group")
        return int(index)

    def _copied(self, groups: Any) -> None:
        """Charge for the text of groups."""
        size = 0
        for group in groups:
            index = self._pattern.groupindex.get(group, -1) if type(group) is str else self._index(group)
            if 0 <= index <= self._pattern.groups:
                start, end = self._match.span(index)
                size += end - start
        self._pattern._runtime.meter.charge(1 + size // costs.COPY_BYTES)

    def group(self, *groups: Any) -> Any:
        self._copied(groups or (0,))
        try:
            return self._match.group(*[self._index(group) for group in groups])
        except IndexError:
            raise IndexError("no such group") from None

    def groups(self, default: Any = None) -> tuple[Any, ...]:
        self._pattern._runtime.meter.charge(self._pattern.groups)
        self._copied(range(1, self._pattern.groups + 1))
        return tuple(self._match.groups(default))

    def groupdict(self, default: Any = None) -> dict[str, Any]:
        values = self.groups(default)
        return {name: values[i - 1] for name, i in self._pattern.groupindex.items()}

    def start(self, group: Any = 0) -> int:
        return int(self._match.start(self._position(group)))

    def end(self, group: Any = 0) -> int:
        return int(self._match.end(self._position(group)))

    def span(self, group: Any = 0) -> tuple[int, int]:
        return (self.start(group), self.end(group))

    def expand(self, template: Any) -> Any:
        runtime = self._pattern._runtime
        pieces = self._pattern._filled(self, self._pattern._template(template))
        runtime.meter.charge(len(pieces))
        if sum(map(len, pieces)) > policy.TEXT_LENGTH_MAX:
            raise ValueError(f"a text of more than {policy.TEXT_LENGTH_MAX} characters")
        return runtime.texts.limit("".join(pieces))

    def __getitem__(self, group: Any) -> Any:
        return self.group(group)

    def __iter__(self) -> NoReturn:
        raise TypeError("a match is not iterable; use groups()")

    def _repr_(self) -> str:
        return f"<re.Match object; span={self.span()}, match={self.group()!r}>"


class Pattern(HostObject):
    __slots__ = ("_ahead", "_regex", "_runtime", "_weight", "flags", "groupindex", "groups", "pattern")
    _exposed_ = frozenset(
        {
            "findall", "finditer", "flags", "fullmatch", "groupindex", "groups", "match", "pattern",
            "search", "split",
            "sub", "subn",
        }
    )  # fmt: skip

    def __init__(self, runtime: GuestRuntime, pattern: Any, flags: int) -> None:
        if type(pattern) not in (str, bytes):
            raise TypeError("a pattern is a str or bytes")
        if len(pattern) > PATTERN_MAX:
            raise RegexError(f"a pattern of more than {PATTERN_MAX} characters")
        runtime.meter.charge(COMPILE_STEPS + CHARACTER_STEPS * len(pattern))
        letters = "".join(letter for bit, letter in _LETTERS if flags & bit)
        prefix = f"(?{letters})" if letters else ""
        options = re2.Options()
        options.max_mem = MEMORY_MAX
        options.log_errors = False
        try:
            self._regex = re2.compile(
                prefix.encode() + pattern if type(pattern) is bytes else prefix + pattern, options
            )
        except re2.error as error:
            reason = error.args[0] if error.args else b""
            detail = reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
            raise RegexError(
                f"{detail}; patterns in functions are linear: no look-around and no back references"
            ) from None
        except UnicodeError:
            raise RegexError("a pattern with unpaired surrogates") from None
        finally:
            re2.purge()  # it keeps the last patterns with all that they have learned of texts
        self._runtime = runtime
        runtime.meter.charge(self._regex.programsize)
        self.pattern = pattern
        self.flags = flags
        self.groups = self._regex.groups
        self._weight = 1 + self._regex.programsize // (GROUPS_STEP if self.groups else PROGRAM_STEP)
        self._ahead = policy.TEXT_LENGTH_MAX if reads_on(pattern, bool(flags & 2)) else STOPS_BYTES
        self.groupindex = {}
        if type(pattern) is str:
            self.groupindex = dict(sorted(self._regex.groupindex.items(), key=lambda pair: pair[1]))

    def _checked(self, string: Any) -> Any:
        if type(string) is not type(self.pattern):
            raise TypeError("the text must be of the type of the pattern")
        steps = self._weight * (len(string) // costs.SCAN_BYTES)
        self._runtime.meter.charge(MATCH_STEPS + self.groups + steps)
        return string

    def _one(self, match: Any, string: Any) -> Match | None:
        return None if match is None else Match(self, match, string)

    def _bounds(self, pos: Any, endpos: Any) -> tuple[Any, Any]:
        return (
            None if pos is None else integer(pos, "pos"),
            None if endpos is None else integer(endpos, "endpos"),
        )

    def search(self, string: Any, pos: Any = None, endpos: Any = None) -> Match | None:
        return self._one(self._regex.search(self._checked(string), *self._bounds(pos, endpos)), string)

    def match(self, string: Any, pos: Any = None, endpos: Any = None) -> Match | None:
        return self._one(self._regex.match(self._checked(string), *self._bounds(pos, endpos)), string)

    def fullmatch(self, string: Any, pos: Any = None, endpos: Any = None) -> Match | None:
        return self._one(self._regex.fullmatch(self._checked(string), *self._bounds(pos, endpos)), string)

    def _all(self, string: Any) -> Iterator[Any]:
        charge = self._runtime.meter.charge
        size = len(self._checked(string))
        for match in self._regex.finditer(string):
            rest = min(size - match.start(), self._ahead)
            charge(MATCH_STEPS + self.groups + self._weight * (rest // AHEAD_BYTES))
            yield match

    def finditer(self, string: Any) -> Any:
        return self._runtime.lazies.wrap(Match(self, match, string) for match in self._all(string))

    def findall(self, string: Any) -> list[Any]:
        empty = type(self.pattern)()
        found: list[Any] = []
        for match in self._all(string):
            if not self.groups:
                found.append(match.group())
            elif self.groups == 1:
                found.append(match.groups(empty)[0])
            else:
                found.append(tuple(match.groups(empty)))
        return found

    def split(self, string: Any, maxsplit: Any = 0) -> list[Any]:
        limit = integer(maxsplit, "maxsplit")
        pieces: list[Any] = []
        end = 0
        for count, match in enumerate(self._all(string)):
            if limit and count >= limit:
                break
            pieces.append(string[end : match.start()])
            pieces.extend(match.groups())
            if len(pieces) > policy.ITEMS_MAX:
                raise ValueError(f"a list of more than {policy.ITEMS_MAX} items")
            end = match.end()
        pieces.append(string[end:])
        return pieces

    def sub(self, repl: Any, string: Any, count: Any = 0) -> Any:
        return self.subn(repl, string, count)[0]

    def subn(self, repl: Any, string: Any, count: Any = 0) -> tuple[Any, int]:
        limit = integer(count, "count")
        kind = type(self.pattern)
        template = None if callable(repl) else self._template(repl)
        pieces: list[Any] = []
        size = end = done = 0
        for match in self._all(string):
            if limit and done >= limit:
                break
            done += 1
            wrapped = Match(self, match, string)
            if template is None:
                new = [repl(wrapped)]
                if type(new[0]) is not kind:
                    raise TypeError(f"expected {kind.__name__}, {type(new[0]).__name__} found")
            else:
                new = self._filled(wrapped, template)
            pieces.append(string[end : match.start()])
            pieces.extend(new)
            size += len(pieces[-1 - len(new)]) + sum(map(len, new))
            if size > policy.TEXT_LENGTH_MAX:
                raise ValueError(f"a text of more than {policy.TEXT_LENGTH_MAX} characters")
            end = match.end()
        pieces.append(string[end:])
        joined = kind().join(pieces)
        if len(joined) > policy.TEXT_LENGTH_MAX:
            raise ValueError(f"a text of more than {policy.TEXT_LENGTH_MAX} characters")
        return joined, done

    def _template(self, template: Any) -> list[Any]:
        """Return literals and group references (ints or names, in a list of one) of a replacement."""
        if type(template) is not type(self.pattern):
            raise TypeError("the replacement must be of the type of the pattern")
        if type(template) is bytes:
            if b"\\" in template:
                raise RegexError("group references in bytes; use a function")
            return [template]
        self._runtime.meter.charge(len(template))
        parts: list[Any] = []
        i = 0
        while i < len(template):
            character = template[i]
            if character != "\\":
                stop = template.find("\\", i)
                stop = len(template) if stop < 0 else stop
                parts.append(template[i:stop])
                i = stop
                continue
            following = template[i + 1 : i + 2]
            if following.isdigit() and following.isascii():
                two = template[i + 1 : i + 3]
                digits = two if len(two) == 2 and two.isdigit() and two.isascii() else following
                parts.append([int(digits)])
                i += 1 + len(digits)
            elif following == "g" and template[i + 2 : i + 3] == "<" and template.find(">", i) > 0:
                stop = template.find(">", i)
                name = template[i + 3 : stop]
                parts.append([int(name) if name.isdigit() else name])
                i = stop + 1
            elif following in _ESCAPES:
                parts.append(_ESCAPES[following])
                i += 2
            else:
                raise RegexError(f"bad escape \\{following}")
        return parts

    def _filled(self, match: Match, template: list[Any]) -> list[Any]:
        self._runtime.meter.charge(len(template))
        return [match.group(*part) or "" if type(part) is list else part for part in template]

    def _repr_(self) -> str:
        return f"re.compile({self.pattern!r})"


_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", "f": "\f", "v": "\v", "a": "\a"}


def build(runtime: GuestRuntime) -> Facade:
    def compile_(pattern: Any, flags: Any = 0) -> Pattern:
        if type(pattern) is Pattern:
            return pattern
        bits = integer(flags, "flags", low=0)
        if bits & ~(2 | 8 | 16 | 32 | 256):
            raise RegexError("flags in functions are IGNORECASE, MULTILINE, DOTALL and ASCII")
        return Pattern(runtime, pattern, bits)

    def through(name: str) -> Any:
        def call(pattern: Any, *args: Any, flags: Any = 0, **more: Any) -> Any:
            limit = {"search": 1, "match": 1, "fullmatch": 1, "findall": 1, "finditer": 1, "split": 2}.get(
                name, 3
            )
            if len(args) == limit + 1:
                *rest, flags = args
                args = tuple(rest)
            return getattr(compile_(pattern, flags), name)(*args, **more)

        return call

    def escape(pattern: Any) -> Any:
        if type(pattern) is not str:
            raise TypeError("escape takes a str")
        runtime.meter.charge(len(pattern) // 4 + 1)
        if len(pattern) * 2 > policy.TEXT_LENGTH_MAX:
            raise ValueError("a text too long to escape")
        return "".join("\\" + c if c in _SPECIAL else c for c in pattern)

    names = ("findall", "finditer", "fullmatch", "match", "search", "split", "sub", "subn")
    return Facade(
        "re",
        {
            **FLAGS,
            **{name: through(name) for name in names},
            "Match": Face("Match", Match),
            "Pattern": Face("Pattern", Pattern),
            "compile": compile_,
            "error": RegexError,
            "escape": escape,
        },
    )


_SPECIAL: Final = frozenset("()[]{}?*+-|^$\\.&~# \t\n\r\v\f")
